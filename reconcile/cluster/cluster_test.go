package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/fake"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// world is the reconciler with a fake API, a fake scheduler and a clock, all of which write down what happens.
type world struct {
	t     *testing.T
	out   strings.Builder
	api   client.WithWatch
	sched fake.Scheduler
	d     *Declarer
	r     *Reconciler
	clock time.Time
	// fail makes the next write fail; lists counts reads, and onList is called before each.
	fail   error
	lists  atomic.Int64
	onList func()
	age    int64
	// version is that of all lists, if it is set.
	version string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	scheme := apiruntime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	w.api = clientfake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&v1alpha1.Network{}, &v1alpha1.IPPool{}, &v1alpha1.Tenant{}, &v1alpha1.Registry{}, &v1alpha1.ExecutorUpgrade{}, &v1alpha1.ImagePrepull{}, &v1alpha1.BGPPeer{}).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
				if _, ok := l.(*v1alpha1.NetworkList); ok {
					w.lists.Add(1)
					if w.onList != nil {
						w.onList()
					}
				}
				err := c.List(ctx, l, opts...)
				l.SetResourceVersion(w.version)
				return err
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if err := w.fail; err != nil {
					w.fail = nil
					return err
				}
				return c.Patch(ctx, o, p, opts...)
			},
		}).Build()
	w.d = NewDeclarer(w.api, &w.sched, zaptest.NewLogger(t))
	w.r = NewReconciler(w.api, w.d, func() time.Time { return w.clock }, zaptest.NewLogger(t))
	w.d.OnChange(func() { w.say("apps are to be looked at") })
	return w
}

func (w *world) say(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

func (w *world) golden() {
	golden := filepath.Join("testdata", w.t.Name()+".golden")
	if *update {
		if err := os.WriteFile(golden, []byte(w.out.String()), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.out.String() != string(want) {
		w.t.Errorf("transcript differs from %s (go test -update writes it anew):\n%s", golden, w.out.String())
	}
}

// create makes objects of lines "KIND NAME SPEC".
func (w *world) create(lines ...string) {
	w.t.Helper()
	for _, line := range lines {
		w.say("\n# create %s", line)
		parts := strings.SplitN(line, " ", 3)
		o := map[string]client.Object{
			"network": &v1alpha1.Network{}, "pool": &v1alpha1.IPPool{}, "tenant": &v1alpha1.Tenant{},
			"registry": &v1alpha1.Registry{}, "upgrade": &v1alpha1.ExecutorUpgrade{}, "prepull": &v1alpha1.ImagePrepull{},
			"peer": &v1alpha1.BGPPeer{},
		}[parts[0]]
		if err := yaml.UnmarshalStrict([]byte("spec: "+parts[2]), o); err != nil {
			w.t.Fatal(err)
		}
		w.age++
		o.SetName(parts[1])
		if parts[0] == "prepull" {
			o.SetNamespace("shop")
		}
		o.SetUID(types.UID(parts[0] + parts[1]))
		o.SetGeneration(1)
		o.SetCreationTimestamp(metav1.NewTime(time.Unix(w.age, 0)))
		if err := w.api.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) delete(o client.Object, name string) {
	w.t.Helper()
	w.say("\n# delete %T %s", o, name)
	o.SetName(name)
	if err := w.api.Delete(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// run reconciles until there is nothing to do soon, and says what came of it.
func (w *world) run(req reconcile.Request) {
	w.t.Helper()
	for range 10 {
		result, err := w.r.Reconcile(w.t.Context(), req)
		w.out.WriteString(w.sched.Log())
		if err != nil {
			w.say("error: %v", err)
			return
		}
		if result.RequeueAfter == 0 || result.RequeueAfter >= settle || req == Progress {
			if result.RequeueAfter > 0 {
				w.say("again after %s", result.RequeueAfter)
			}
			w.show()
			return
		}
		w.clock = w.clock.Add(result.RequeueAfter)
	}
	w.t.Fatal("comes to no end")
}

func (w *world) show() {
	var networks v1alpha1.NetworkList
	var pools v1alpha1.IPPoolList
	var tenants v1alpha1.TenantList
	var registries v1alpha1.RegistryList
	var upgrades v1alpha1.ExecutorUpgradeList
	var prepulls v1alpha1.ImagePrepullList
	var peers v1alpha1.BGPPeerList
	for _, l := range []client.ObjectList{&networks, &pools, &tenants, &registries, &upgrades, &prepulls, &peers} {
		if err := w.api.List(context.Background(), l); err != nil {
			w.t.Fatal(err)
		}
	}
	conditions := func(kind string, o client.Object, observed int64, cs []metav1.Condition, rest string) {
		w.say("%s %s, observed %d, finalizers %v%s", kind, o.GetName(), observed, o.GetFinalizers(), rest)
		for _, c := range cs {
			w.say("  %s=%s since %s, %s: %s", c.Type, c.Status, c.LastTransitionTime.UTC().Format("04:05"), c.Reason, c.Message)
		}
	}
	for _, n := range networks.Items {
		conditions("network", &n, n.Status.ObservedGeneration, n.Status.Conditions, "")
	}
	for _, p := range pools.Items {
		conditions("pool", &p, p.Status.ObservedGeneration, p.Status.Conditions,
			fmt.Sprintf(", %d addresses, %d allocated, %d cooling, %d free, %d%% used", p.Status.Capacity, p.Status.Allocated, p.Status.Cooling, p.Status.Free, p.Status.UtilizationPercent))
	}
	for _, t := range tenants.Items {
		conditions("tenant", &t, t.Status.ObservedGeneration, t.Status.Conditions, "")
	}
	for _, p := range peers.Items {
		conditions("peer", &p, p.Status.ObservedGeneration, p.Status.Conditions, fmt.Sprintf(", sessions %q", p.Status.Sessions))
	}
	for _, r := range registries.Items {
		conditions("registry", &r, r.Status.ObservedGeneration, r.Status.Conditions, "")
	}
	for _, u := range upgrades.Items {
		conditions("upgrade", &u, u.Status.ObservedGeneration, u.Status.Conditions,
			fmt.Sprintf(", %d of %d updated, %d upgrading, %d skipped", u.Status.Updated, u.Status.Total, u.Status.Upgrading, u.Status.Skipped))
	}
	for _, p := range prepulls.Items {
		conditions("prepull", &p, p.Status.ObservedGeneration, p.Status.Conditions,
			fmt.Sprintf(", %d of %d present, %d failed, %+v", p.Status.Present, p.Status.Wanted, p.Status.Failed, p.Status.Agents))
	}
}

// hold has instances of an App hold n addresses of a pool.
func (w *world) hold(pool string, n int32) {
	w.t.Helper()
	app := &padisv1.WantedApp{Uid: "u1", Namespace: "shop", Name: "web", Revisions: []*padisv1.Revision{{Hash: "a1", Networks: []*padisv1.NetworkWish{{Pool: pool}}}}}
	for i := range n {
		app.Slots = append(app.Slots, &padisv1.WantedSlot{Index: i, Revision: "a1"})
	}
	if err := w.sched.Want(w.t.Context(), app); err != nil {
		w.t.Fatal(err)
	}
	w.sched.Live("u1")
	w.sched.Log()
	w.say("\n# instances hold %d addresses of %s", n, pool)
}

func TestWhatIsDeclaredIsInForce(t *testing.T) {
	w := newWorld(t)
	defer w.golden()
	w.say("# nothing is declared, but the ledger may have something")
	w.run(Declared)
	w.create("network data {bridge: padis0, parent: eth1}", "pool shop {network: data, cidr: 10.44.0.0/16, gateway: 10.44.0.1}",
		"pool clash {network: data, cidr: 10.44.0.0/16}", "pool lost {network: none, cidr: 10.50.0.0/16}",
		"tenant life {namespaces: [life], notColocatedWith: [property]}")
	w.run(Declared)
	w.hold("shop", 3)
	w.clock = w.clock.Add(time.Minute)
	w.run(Used)
	w.create("tenant property {namespaces: [property, life]}")
	w.run(Declared)
	w.say("\n# nothing happens")
	w.run(Declared)
}

func TestWhatIsNeededStays(t *testing.T) {
	w := newWorld(t)
	defer w.golden()
	w.create("network data {bridge: padis0}", "pool shop {network: data, cidr: 10.44.0.0/16}", "pool spare {network: data, cidr: 10.45.0.0/16}")
	w.run(Declared)
	w.hold("shop", 2)
	w.delete(&v1alpha1.Network{}, "data")
	w.delete(&v1alpha1.IPPool{}, "shop")
	w.delete(&v1alpha1.IPPool{}, "spare")
	w.run(Declared)
	w.hold("shop", 0)
	w.run(Used)
	w.say("\n# its last pool is gone")
	w.run(Declared)
}

// What hosts say of networks and addresses is shown, and looked at again without being told; the password of a router comes
// from its Secret, and is waited for.
func TestWhatHostsSay(t *testing.T) {
	w := newWorld(t)
	defer w.golden()
	w.create("network edge {driver: routed, bgp: {asn: 64512, peers: [{address: 192.0.2.1, asn: 64500, passwordSecret: {namespace: infra, name: bgp, key: password}}]}}",
		"pool edge {network: edge, cidr: 10.80.0.0/24}", "pool edge6 {network: edge, cidr: \"fd00:80::/64\"}")
	w.run(Declared)
	w.say("\n# the password comes")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "infra", Name: "bgp"}, Data: map[string][]byte{"password": []byte("p")}}
	if err := w.api.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.run(Declared)
	w.say("\n# one host has its session, one not; somebody uses addresses of the pools")
	w.clock = w.clock.Add(time.Minute)
	w.hold("edge", 2)
	w.sched.Cool("edge", 7)
	w.sched.Report(map[string][]runtime.HostNetworkState{"edge": {
		{Host: "host-2", Reason: padisv1.ReasonNetworkFailed, Message: "ip forwarding is off: set net.ipv4.ip_forward", Sessions: []runtime.BGPSession{{Peer: "192.0.2.1", Message: "connection refused"}}},
		{Host: "host-1", Sessions: []runtime.BGPSession{{Peer: "192.0.2.1", Established: true}}},
	}}, runtime.ForeignAddress{Network: "edge", Address: "fd00:80::7", Who: "eth0 of host-1"}, runtime.ForeignAddress{Network: "other", Address: "10.80.0.9", Who: "02:42:00:00:00:01"},
		runtime.ForeignAddress{Network: "edge", Address: "10.80.0.9", Who: "02:42:00:00:00:01"})
	w.run(Used)
	w.say("\n# all is well")
	w.clock = w.clock.Add(time.Minute)
	w.sched.Report(map[string][]runtime.HostNetworkState{"edge": {{Host: "host-1", Sessions: []runtime.BGPSession{{Peer: "192.0.2.1", Established: true}}}}})
	w.run(Used)
	w.say("\n# the pool is shrunk by force")
	pool := &v1alpha1.IPPool{}
	if err := w.api.Get(t.Context(), types.NamespacedName{Name: "edge"}, pool); err != nil {
		t.Fatal(err)
	}
	pool.Generation, pool.Spec.Ranges = 2, []v1alpha1.AddressRange{{From: "10.80.0.9"}}
	if err := w.api.Update(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	w.run(Declared)
}

func TestRoutersOfLoadBalancers(t *testing.T) {
	w := newWorld(t)
	defer w.golden()
	w.create("network vips {driver: virtual}", "peer r1 {address: 10.44.0.1, asn: 64500, passwordSecret: {namespace: infra, name: bgp, key: password}}",
		"peer again {address: 10.44.0.1, asn: 64501}")
	w.run(Declared)
	w.say("\n# the password comes")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "infra", Name: "bgp"}, Data: map[string][]byte{"password": []byte("p")}}
	if err := w.api.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.run(Declared)
	w.say("\n# directors have sessions, but one")
	if err := w.sched.WantBalancer(t.Context(), &padisv1.WantedBalancer{Uid: "u1", Namespace: "shop", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	w.sched.Balanced(&runtime.Balance{UID: "u1", Namespace: "shop", Name: "web", Directors: []runtime.BalanceDirector{
		{Instance: "web-director-0", Sessions: []runtime.DirectorSession{{Peer: "r1", Established: true}}},
		{Instance: "web-director-1", Sessions: []runtime.DirectorSession{{Peer: "r1", Message: "connection refused"}}},
	}})
	w.clock = w.clock.Add(time.Minute)
	w.run(Used)
}

func TestTheOthersAreAway(t *testing.T) {
	w := newWorld(t)
	defer w.golden()
	w.sched.Fail(errors.New("the ledger has another writer"))
	w.create("network data {bridge: padis0}")
	w.run(Declared)
	w.sched.Fail(nil)
	w.fail = apierrors.NewConflict(schema.GroupResource{Resource: "networks"}, "data", errors.New("changed meanwhile"))
	w.run(Declared)
}

func TestImagesAndExecutors(t *testing.T) {
	w := newWorld(t)
	defer w.golden()
	w.create("registry first {host: registry.example.com, mirrors: [\"https://mirror\"]}", "registry second {host: registry.example.com}",
		"registry rack {host: registry.example.com, agents: [{attribute: rack, value: r1}], mirrors: [\"https://rack1\"], mirrorsOnly: true}",
		"prepull next {images: [\"shop:2\", \"cart:2\"], imagePullSecrets: [{name: pull}]}",
		"upgrade default {maxParallel: 3}")
	w.run(Declared)
	w.say("\n# the credentials come")
	if err := w.api.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "pull"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"registry.example.com":{"username":"u","password":"p"}}}`)}}); err != nil {
		t.Fatal(err)
	}
	w.run(Declared)
	w.say("\n# agents pull, executors are replaced")
	w.clock = w.clock.Add(time.Minute)
	w.sched.Pulled("shop", "next",
		runtime.AgentImage{Agent: "a1", Host: "host-1", Image: "shop:2", Present: true}, runtime.AgentImage{Agent: "a1", Host: "host-1", Image: "cart:2", Reason: padisv1.ReasonPulling},
		runtime.AgentImage{Agent: "a2", Host: "host-2", Image: "shop:2", Present: true},
		runtime.AgentImage{Agent: "a2", Host: "host-2", Image: "cart:2", Reason: padisv1.ReasonImageNotFound, Message: "registry.example.com has no cart:2"})
	w.sched.Upgraded(runtime.Upgrade{Target: "abc", Total: 5, Updated: 2, Upgrading: []string{"host-3"}, Skipped: map[string]string{"host-4": "it runs plain processes"}})
	w.run(Progress)
	w.say("\n# done")
	w.sched.Pulled("shop", "next", runtime.AgentImage{Agent: "a1", Host: "host-1", Image: "shop:2", Present: true})
	w.sched.Upgraded(runtime.Upgrade{Target: "abc", Total: 5, Updated: 4, Skipped: map[string]string{"host-4": "it runs plain processes"}})
	w.run(Progress)
	w.say("\n# nothing is asked for any more")
	for o, name := range map[client.Object]string{&v1alpha1.ExecutorUpgrade{}: "default", &v1alpha1.ImagePrepull{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}}: "next"} {
		o.SetName(name)
		if err := w.api.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	w.run(Declared)
	w.run(Progress)
}

// Callers that come while a read is under way do not share it, for it may have begun before what they are after was
// declared; all of those that wait share the next one.
func TestReadsAreSharedButNeverTooOld(t *testing.T) {
	w := newWorld(t)
	began, go1 := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.onList = func() {
		once.Do(func() {
			close(began)
			<-go1
		})
	}
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := w.d.Fresh(context.Background()); err != nil {
			t.Error(err)
		}
	})
	<-began
	w.create("tenant life {namespaces: [life]}")
	entered := w.d.begun.Load()
	for range 8 {
		all.Go(func() {
			v, err := w.d.Fresh(context.Background())
			if err != nil || v.TenantOf("life") != "life" {
				t.Errorf("the tenant that was declared before the call is missed: %v", err)
			}
		})
	}
	close(go1)
	all.Wait()
	if entered != 1 || w.lists.Load() < 2 {
		t.Errorf("%d reads were under way, %d in all", entered, w.lists.Load())
	}
}

// What was read after a version is good enough for all that was declared before it, and nothing older is.
func TestAThousandAppsShareARead(t *testing.T) {
	w := newWorld(t)
	since := func(version string, reads int64) {
		t.Helper()
		before := w.lists.Load()
		if _, err := w.d.Since(t.Context(), version); err != nil {
			t.Fatal(err)
		}
		if got := w.lists.Load() - before; got != reads {
			t.Errorf("%d reads for version %q, want %d", got, version, reads)
		}
	}
	w.version = "100"
	since("90", 1)
	since("90", 0)
	since("100", 0)
	since("101", 1)
	w.version = "200"
	since("150", 1)
	since("199", 0)
	w.version = ""
	since("201", 1)
	since("201", 1)
	since("", 1)
}
