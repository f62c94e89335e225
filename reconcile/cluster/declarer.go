// Package cluster reconciles what is declared for the whole cluster: Networks, IPPools, BGPPeers, Tenants, Registries, images to be
// pulled and the upgrade of executors, which the scheduler is handed together, whole. Edge: talks to the API server.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// scheduler is what is needed of the scheduler here.
type scheduler interface {
	// Declare replaces all that is declared for the cluster and returns when that is durable.
	Declare(ctx context.Context, c *padisv1.Cluster) error
	// Usage counts the addresses of a pool; zeros for a pool that is not in force.
	Usage(pool string) runtime.PoolUsage
	// Addresses lists the leases of a pool, in force or not, by address, also those that are cooling.
	Addresses(pool string) []*runtime.Address
	// NetworkStates says how networks fare on the hosts that have them, by network.
	NetworkStates() map[string][]runtime.HostNetworkState
	// Foreign lists the addresses of pools that somebody uses who does not hold them.
	Foreign() []runtime.ForeignAddress
	// PrepullStates says of each agent that shall have the images of an ImagePrepull what became of each.
	PrepullStates(namespace, name string) []runtime.AgentImage
	// UpgradeStatus says how far the replacement of executors is.
	UpgradeStatus() runtime.Upgrade
	// Balancers lists what is wanted of all LoadBalancers, those included that were forgotten and have not ended yet.
	Balancers() []*padisv1.WantedBalancer
	// Balance says how it stands with a LoadBalancer; nil before anything was decided.
	Balance(uid string) *runtime.Balance
}

// Declarer keeps the scheduler's cluster as it is declared. It reads the API itself and not a cache: an App must never be
// handed over before the Tenant that was declared before it, or its instances are placed without the isolation that they
// were promised, and the caches of two kinds know nothing of each other's order.
//
// That costs up to a tenth of a second, so it is done for what is new only, and once for all that was new before it began.
type Declarer struct {
	live  client.Reader
	sched scheduler
	log   *zap.Logger

	// begun counts the reads that were begun, so that callers who waited for the same read can share it.
	begun atomic.Uint64

	mu sync.Mutex
	// read is the number of the last read that ended well.
	read uint64
	// version is one of the API by which all that was read is known to be what it was, or newer; empty if that cannot be told.
	version string
	input   declared.Input
	view    *declared.View
	// durable is what the scheduler was handed last; nil if nothing was.
	durable *padisv1.Cluster
	told    []func()
}

// NewDeclarer makes a Declarer that reads through live, which must not be a cache.
func NewDeclarer(live client.Reader, sched scheduler, log *zap.Logger) *Declarer {
	return &Declarer{live: live, sched: sched, log: log}
}

// OnChange has f called, soon and without blocking, whenever what is in force has changed.
func (d *Declarer) OnChange(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, f)
}

// Fresh gives what is in force of all that was declared before the call. The scheduler has it durably.
func (d *Declarer) Fresh(ctx context.Context) (*declared.View, error) {
	view, _, err := d.fresh(ctx)
	return view, err
}

// Since gives what is in force of all that was declared before a version of whatever object. The scheduler has it durably. What
// was read after that version is not read again: of a thousand Apps that are declared at once, most share one read.
func (d *Declarer) Since(ctx context.Context, version string) (*declared.View, error) {
	d.mu.Lock()
	view, read := d.view, d.version
	d.mu.Unlock()
	if order, err := resourceversion.CompareResourceVersion(read, version); err == nil && order >= 0 {
		return view, nil
	}
	return d.Fresh(ctx)
}

// Current gives what was in force when it was last read. The scheduler has it durably.
func (d *Declarer) Current(ctx context.Context) (*declared.View, error) {
	view, _, err := d.current(ctx)
	return view, err
}

func (d *Declarer) current(ctx context.Context) (*declared.View, declared.Input, error) {
	d.mu.Lock()
	view, input := d.view, d.input
	d.mu.Unlock()
	if view != nil {
		return view, input, nil
	}
	return d.fresh(ctx)
}

func (d *Declarer) fresh(ctx context.Context) (*declared.View, declared.Input, error) {
	before := d.begun.Load()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read > before {
		return d.view, d.input, nil
	}
	this := d.begun.Add(1)
	input, version, err := d.list(ctx)
	if err != nil {
		return nil, input, err
	}
	view := declared.Build(input)
	if d.durable == nil || !proto.Equal(d.durable, view.Cluster) {
		if err := d.sched.Declare(ctx, proto.CloneOf(view.Cluster)); err != nil {
			return nil, input, fmt.Errorf("hand what is declared for the cluster to the scheduler: %w", err)
		}
		d.durable = view.Cluster
		d.log.Info("in force for the cluster",
			zap.Int("networks", len(view.Cluster.Networks)), zap.Int("pools", len(view.Cluster.Pools)), zap.Int("tenants", len(view.Cluster.Tenants)),
			zap.Int("registries", len(view.Cluster.Registries)), zap.Int("prepulls", len(view.Cluster.Prepulls)), zap.Bool("upgrade", view.Cluster.ExecutorUpgrade != nil))
	}
	changed := d.view == nil || !d.view.Same(view)
	d.read, d.version, d.input, d.view = this, version, input, view
	if changed {
		for _, f := range d.told {
			f()
		}
	}
	return view, input, nil
}

// list reads all of it, and says which version of the API none of it is older than.
func (d *Declarer) list(ctx context.Context) (declared.Input, string, error) {
	var (
		networks   v1alpha1.NetworkList
		pools      v1alpha1.IPPoolList
		tenants    v1alpha1.TenantList
		registries v1alpha1.RegistryList
		upgrades   v1alpha1.ExecutorUpgradeList
		prepulls   v1alpha1.ImagePrepullList
		peers      v1alpha1.BGPPeerList
	)
	// Each may take a tenth of a second: a quiet kind's list waits until the server knows that nothing was missed.
	lists := []client.ObjectList{&networks, &pools, &tenants, &registries, &upgrades, &prepulls, &peers}
	errs := make([]error, len(lists))
	var all sync.WaitGroup
	for n, l := range lists {
		all.Go(func() { errs[n] = d.live.List(ctx, l) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return declared.Input{}, "", fmt.Errorf("read what is declared for the cluster: %w", err)
	}
	in := declared.Input{
		Networks: networks.Items, Pools: pools.Items, Tenants: tenants.Items,
		Registries: registries.Items, Upgrades: upgrades.Items, Prepulls: prepulls.Items,
		Peers:   peers.Items,
		Holders: map[string][]declared.Holder{},
	}
	var err error
	if in.Secrets, err = d.secrets(ctx, &in); err != nil {
		return declared.Input{}, "", err
	}
	for i := range in.Pools {
		// A pool that was never changed gives all that it ever gave.
		if p := &in.Pools[i]; p.DeletionTimestamp != nil || p.Generation > 1 {
			in.Holders[p.Name] = d.holders(p.Name)
		}
	}
	return in, oldest(lists), nil
}

// oldest is the oldest version of some lists; empty if one has none.
func oldest(lists []client.ObjectList) string {
	version := lists[0].GetResourceVersion()
	for _, l := range lists[1:] {
		order, err := resourceversion.CompareResourceVersion(l.GetResourceVersion(), version)
		if err != nil {
			return ""
		}
		if order < 0 {
			version = l.GetResourceVersion()
		}
	}
	return version
}

// secrets reads those that prepulls, networks and peers refer to.
func (d *Declarer) secrets(ctx context.Context, in *declared.Input) (config.Objects, error) {
	var refs []config.Ref
	for i := range in.Prepulls {
		refs = append(refs, config.PullRefs(&in.Prepulls[i])...)
	}
	for i := range in.Networks {
		refs = append(refs, config.NetworkRefs(&in.Networks[i])...)
	}
	for i := range in.Peers {
		refs = append(refs, config.PeerRefs(&in.Peers[i])...)
	}
	out := config.Objects{}
	for _, r := range refs {
		if _, known := out[r]; known {
			continue
		}
		var s corev1.Secret
		err := d.live.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, &s)
		if err == nil {
			out[r] = config.OfSecret(&s)
		} else if !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read secret %s/%s: %w", r.Namespace, r.Name, err)
		}
	}
	return out, nil
}

func (d *Declarer) holders(pool string) []declared.Holder {
	var out []declared.Holder
	for _, a := range d.sched.Addresses(pool) {
		if !a.Status.Held() {
			continue
		}
		out = append(out, declared.Holder{Address: a.Status.Address, Namespace: a.Status.Namespace, Instance: a.Status.Instance})
	}
	return out
}
