package live

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"padis.io/padis/api/runtime"
)

// Balances knows how it stands with LoadBalancers. Errors of the class APIStatus reach the client as they are.
type Balances interface {
	// Balances are those of a namespace, or all for the empty one.
	Balances(namespace string) ([]*runtime.Balance, error)
	// Trace finds the way of a flow through one of them.
	Trace(uid string, flow Flow) (runtime.Trace, error)
}

// Flow is a client's address and port, a VIP with its port, and "tcp" or "udp".
type Flow struct {
	Client, VIP netip.AddrPort
	Protocol    string
}

// parseFlow reads a query. Unknown parameters are refused, since a client that asked for them would take the answer for
// something it is not.
func parseFlow(q url.Values) (Flow, error) {
	f := Flow{Protocol: "tcp"}
	for key, values := range q {
		value := values[len(values)-1]
		var err error
		switch key {
		case "client":
			f.Client, err = parseAddrPort(value)
		case "vip":
			if f.VIP, err = parseAddrPort(value); err == nil && f.VIP.Port() == 0 {
				err = fmt.Errorf("port 0 is no listener's: use a port from 1 to 65535")
			}
		case "protocol":
			if f.Protocol = value; value != "tcp" && value != "udp" {
				err = fmt.Errorf("use tcp or udp")
			}
		case "timeout", "pretty":
		default:
			err = fmt.Errorf("unknown parameter: use client, vip and protocol")
		}
		if err != nil {
			return f, apierrors.NewBadRequest(fmt.Sprintf("%s=%q: %v", key, value, err))
		}
	}
	switch {
	case !f.Client.IsValid():
		return f, apierrors.NewBadRequest("client is missing: give ADDRESS:PORT")
	case !f.VIP.IsValid():
		return f, apierrors.NewBadRequest("vip is missing: give ADDRESS:PORT")
	case f.Client.Addr().Is4() != f.VIP.Addr().Is4():
		return f, apierrors.NewBadRequest(fmt.Sprintf("client %v and vip %v are of different families: a flow has one", f.Client, f.VIP))
	}
	return f, nil
}

func parseAddrPort(s string) (netip.AddrPort, error) {
	p, err := netip.ParseAddrPort(s)
	if err != nil || p.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("use ADDRESS:PORT, for IPv6 [ADDRESS]:PORT")
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()), nil
}

// balanceStorage is the resource balances. There is nothing stored: each reading asks the scheduler.
type balanceStorage struct{ balances Balances }

var balanceResource = schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: "balances"}

func (balanceStorage) New() kruntime.Object     { return &runtime.BalanceObject{} }
func (balanceStorage) NewList() kruntime.Object { return &runtime.BalanceObjectList{} }
func (balanceStorage) Destroy()                 {}
func (balanceStorage) NamespaceScoped() bool    { return true }
func (balanceStorage) GetSingularName() string  { return "balance" }
func (balanceStorage) Categories() []string     { return []string{"padis"} }

// ask reads the balances of a namespace, by namespace and name.
func (s balanceStorage) ask(namespace string) ([]*runtime.Balance, error) {
	if s.balances == nil {
		return nil, apierrors.NewServiceUnavailable("this server knows nothing of load balancers: ask the one that runs the scheduler")
	}
	all, err := s.balances.Balances(namespace)
	if err != nil {
		return nil, internal(err)
	}
	slices.SortFunc(all, func(a, b *runtime.Balance) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all, nil
}

func (s balanceStorage) find(ctx context.Context, name string) (*runtime.Balance, error) {
	all, err := s.ask(request.NamespaceValue(ctx))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(b *runtime.Balance) bool { return b.Name == name })
	if i < 0 {
		return nil, apierrors.NewNotFound(balanceResource, name)
	}
	return all[i], nil
}

func balanceObject(b *runtime.Balance) runtime.BalanceObject {
	return runtime.BalanceObject{ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: b.Name, UID: types.UID(b.UID)}, Status: *b.DeepCopy()}
}

// Get returns that of one LoadBalancer.
func (s balanceStorage) Get(ctx context.Context, name string, _ *metav1.GetOptions) (kruntime.Object, error) {
	b, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	o := balanceObject(b)
	return &o, nil
}

// List returns those of a namespace, or all.
func (s balanceStorage) List(ctx context.Context, o *internalversion.ListOptions) (kruntime.Object, error) {
	if o != nil && (o.FieldSelector != nil && !o.FieldSelector.Empty() || o.LabelSelector != nil && !o.LabelSelector.Empty()) {
		return nil, apierrors.NewBadRequest("balances cannot be selected: name one, or select LoadBalancers")
	}
	all, err := s.ask(request.NamespaceValue(ctx))
	if err != nil {
		return nil, err
	}
	list := &runtime.BalanceObjectList{Items: make([]runtime.BalanceObject, len(all))}
	for i, b := range all {
		list.Items[i] = balanceObject(b)
	}
	return list, nil
}

// ConvertToTable shows them as people want them.
func (s balanceStorage) ConvertToTable(_ context.Context, obj, opts kruntime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	if o, ok := opts.(*metav1.TableOptions); !ok || o == nil || !o.NoHeaders {
		table.ColumnDefinitions = []metav1.TableColumnDefinition{
			nameColumn(),
			column("VIPs", "string", "VIPs that are announced, of all"),
			column("Servers", "string", "Real servers in rotation, of all"),
			column("Directors", "string", "Directors with the newest tables in force, of all"),
			column("Sessions", "string", "Sessions with routers that are established, of all"),
			column("Number", "integer", "Number of the newest tables"),
			wide("Hosts", "string", "Hosts of real servers with the newest tables, of all"),
			wide("Addresses", "string", "The VIPs"),
		}
	}
	var items []*runtime.BalanceObject
	switch o := obj.(type) {
	case *runtime.BalanceObject:
		items = []*runtime.BalanceObject{o}
	case *runtime.BalanceObjectList:
		items = pointers(o.Items)
	default:
		return nil, fmt.Errorf("%T cannot be shown as a table", obj)
	}
	for _, o := range items {
		table.Rows = append(table.Rows, metav1.TableRow{Object: kruntime.RawExtension{Object: o}, Cells: balanceRow(o)})
	}
	return table, nil
}

func balanceRow(o *runtime.BalanceObject) []any {
	b := &o.Status
	var sessions []runtime.DirectorSession
	for _, d := range b.Directors {
		sessions = append(sessions, d.Sessions...)
	}
	addresses := make([]string, 0, len(b.VIPs))
	for _, v := range b.VIPs {
		addresses = append(addresses, orNone(v.Address))
	}
	return []any{
		o.Name,
		share(b.VIPs, func(v runtime.BalanceVIP) bool { return len(v.Announcing) > 0 }),
		share(b.Servers, func(r runtime.BalanceServer) bool { return r.State == "serving" }),
		share(b.Directors, func(d runtime.BalanceDirector) bool { return d.Number == b.Number && b.Number > 0 }),
		share(sessions, func(s runtime.DirectorSession) bool { return s.Established }),
		b.Number,
		share(b.Hosts, func(h runtime.BalanceHost) bool { return h.Number == b.Number && h.Reason == "" }),
		orNone(strings.Join(addresses, ",")),
	}
}

// share is "2/3": how many are as they should be, of all.
func share[E any](all []E, good func(E) bool) string {
	n := 0
	for _, e := range all {
		if good(e) {
			n++
		}
	}
	return strconv.Itoa(n) + "/" + strconv.Itoa(len(all))
}

// traceStorage is the subresource balances/trace.
type traceStorage struct{ of balanceStorage }

func (traceStorage) New() kruntime.Object                               { return &runtime.TraceObject{} }
func (traceStorage) Destroy()                                           {}
func (traceStorage) NewConnectOptions() (kruntime.Object, bool, string) { return nil, false, "" }
func (traceStorage) ConnectMethods() []string                           { return []string{http.MethodGet} }

// Connect answers which way a flow takes.
func (s traceStorage) Connect(ctx context.Context, name string, _ kruntime.Object, responder rest.Responder) (http.Handler, error) {
	b, err := s.of.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		flow, err := parseFlow(r.URL.Query())
		if err != nil {
			responder.Error(err)
			return
		}
		trace, err := s.of.balances.Trace(b.UID, flow)
		if err != nil {
			responder.Error(internal(err))
			return
		}
		responder.Object(http.StatusOK, &runtime.TraceObject{Status: trace})
	}), nil
}
