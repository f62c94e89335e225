package live

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"

	"padis.io/padis/api/runtime"
)

// usageTime bounds the wait for hosts: those that are slower are named as unreachable.
const usageTime = 10 * time.Second

// usageStorage is the resource usages. There is nothing stored: each reading asks the hosts.
type usageStorage struct{ subresource }

func (usageStorage) New() kruntime.Object     { return &runtime.Usage{} }
func (usageStorage) NewList() kruntime.Object { return &runtime.UsageList{} }
func (usageStorage) NamespaceScoped() bool    { return true }
func (usageStorage) GetSingularName() string  { return "usage" }
func (usageStorage) Categories() []string     { return []string{"padis"} }

// ask reads what instances use, in the order of the instances.
func (s usageStorage) ask(ctx context.Context, instances []*runtime.Instance) (*runtime.UsageList, error) {
	if s.Access == nil {
		return nil, apierrors.NewServiceUnavailable("this server has no access to instances: ask the one that runs the scheduler")
	}
	ctx, cancel := context.WithTimeout(ctx, usageTime)
	defer cancel()
	used, unreachable, err := s.Access.Usage(ctx, instances)
	if err != nil {
		return nil, internal(err)
	}
	list := &runtime.UsageList{Unreachable: unreachable}
	for _, i := range instances {
		u, ok := used[[2]string{i.Namespace, i.Name}]
		if !ok {
			continue
		}
		u.App, u.Host = i.Status.App, i.Status.Host
		list.Items = append(list.Items, runtime.Usage{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: i.Namespace, Name: i.Name, Labels: i.Labels, UID: i.UID, CreationTimestamp: i.CreationTimestamp, ResourceVersion: i.ResourceVersion,
			},
			Status: u,
		})
	}
	return list, nil
}

// Get asks for one instance.
func (s usageStorage) Get(ctx context.Context, name string, _ *metav1.GetOptions) (kruntime.Object, error) {
	resource := schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: "usages"}
	i, ok := s.instances.Get(request.NamespaceValue(ctx), name)
	if !ok {
		return nil, apierrors.NewNotFound(resource, name)
	}
	list, err := s.ask(ctx, []*runtime.Instance{i})
	if err != nil {
		return nil, err
	}
	for host, why := range list.Unreachable {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("host %s: %s", host, why))
	}
	if len(list.Items) == 0 {
		err := apierrors.NewNotFound(resource, name)
		err.ErrStatus.Message = fmt.Sprintf("instance %s does not run: see `padis why instance/%s`", name, name)
		return nil, err
	}
	return &list.Items[0], nil
}

// List asks for all that the selectors match.
func (s usageStorage) List(ctx context.Context, o *internalversion.ListOptions) (kruntime.Object, error) {
	label := labels.Everything()
	if o != nil && o.LabelSelector != nil {
		label = o.LabelSelector
	}
	if o != nil && o.FieldSelector != nil && !o.FieldSelector.Empty() {
		return nil, apierrors.NewBadRequest("usages cannot be selected by fields: use labels")
	}
	instances, _ := s.instances.list(request.NamespaceValue(ctx), func(i *runtime.Instance) bool { return label.Matches(labels.Set(i.Labels)) })
	return s.ask(ctx, instances)
}

// ConvertToTable shows them as people want them.
func (s usageStorage) ConvertToTable(_ context.Context, obj, opts kruntime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	if o, ok := opts.(*metav1.TableOptions); !ok || o == nil || !o.NoHeaders {
		table.ColumnDefinitions = []metav1.TableColumnDefinition{
			nameColumn(),
			column("CPU", "string", "CPUs in use"),
			column("Memory", "string", "Memory in use"),
			column("Received", "string", "Bytes that its interfaces received"),
			column("Sent", "string", "Bytes that its interfaces sent"),
			column("Read", "string", "Bytes read from block devices"),
			column("Written", "string", "Bytes written to block devices"),
			column("Processes", "integer", "Processes and threads"),
			column("Connections", "integer", "Established TCP connections"),
			wide("Host", "string", "Host name of its agent"),
			wide("Limit", "string", "Memory that it may use"),
			wide("Listening", "integer", "TCP sockets that listen"),
			wide("OOM", "integer", "Processes ended for want of memory"),
		}
	}
	var items []*runtime.Usage
	switch o := obj.(type) {
	case *runtime.Usage:
		items = []*runtime.Usage{o}
	case *runtime.UsageList:
		items = pointers(o.Items)
	default:
		return nil, fmt.Errorf("%T cannot be shown as a table", obj)
	}
	for _, o := range items {
		u := &o.Status
		limit := "<none>"
		if u.MemoryLimitBytes > 0 {
			limit = Bytes(u.MemoryLimitBytes)
		}
		table.Rows = append(table.Rows, metav1.TableRow{Object: kruntime.RawExtension{Object: o}, Cells: []any{
			o.Name, cpus(u.CPUMilli), Bytes(u.MemoryBytes), Bytes(u.RxBytes), Bytes(u.TxBytes), Bytes(u.ReadBytes), Bytes(u.WriteBytes), u.Processes, u.TCPEstablished,
			orNone(u.Host), limit, u.TCPListen, u.OOMKills,
		}})
	}
	return table, nil
}

// Bytes prints an amount for people: 1536 is 1.5Ki.
func Bytes(n int64) string {
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	amount, unit := float64(n), 0
	for amount >= 1024 && unit < len(units)-1 {
		amount, unit = amount/1024, unit+1
	}
	text := fmt.Sprintf("%.1f", amount)
	return strings.TrimSuffix(text, ".0") + units[unit]
}
