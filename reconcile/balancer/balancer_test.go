package balancer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/fake"

	"go.uber.org/zap/zaptest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// world is one reconciler with a fake API, a fake scheduler and a clock, all of which write down what happens.
type world struct {
	t     *testing.T
	out   strings.Builder
	api   client.WithWatch
	sched fake.Scheduler
	r     *Reconciler
	clock time.Time
	input declared.Input
	seeds uint64
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	scheme := apiruntime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w.api = clientfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.LoadBalancer{}).Build()
	w.input = declared.Input{
		Networks: []v1alpha1.Network{
			{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: v1alpha1.NetworkSpec{Bridge: "padis0"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "virtual"}, Spec: v1alpha1.NetworkSpec{Driver: v1alpha1.DriverVirtual}},
		},
		Pools: []v1alpha1.IPPool{
			{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Spec: v1alpha1.IPPoolSpec{Network: "data", CIDR: "10.44.0.0/16"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "vips"}, Spec: v1alpha1.IPPoolSpec{Network: "virtual", CIDR: "198.51.100.0/24"}},
		},
		Tenants: []v1alpha1.Tenant{{ObjectMeta: metav1.ObjectMeta{Name: "retail"}, Spec: v1alpha1.TenantSpec{Namespaces: []string{"shop"}}}},
		Peers:   []v1alpha1.BGPPeer{{ObjectMeta: metav1.ObjectMeta{Name: "r1"}, Spec: v1alpha1.BGPPeerSpec{Address: "10.44.0.1", ASN: 64500}}},
	}
	w.restart()
	t.Cleanup(w.golden)
	return w
}

// restart makes a new reconciler, which remembers nothing.
func (w *world) restart() {
	seed := func() uint64 { w.seeds++; return w.seeds }
	w.r = New(w.api, w.api, &w.sched, w, w, seed, func() time.Time { return w.clock }, zaptest.NewLogger(w.t))
}

// Since and Current make the world its own source of views.
func (w *world) Since(context.Context, string) (*declared.View, error) {
	return declared.Build(w.input), nil
}

func (w *world) Current(context.Context) (*declared.View, error) { return declared.Build(w.input), nil }

// Event makes the world its own recorder.
func (w *world) Event(_ apiruntime.Object, kind, reason, message string) {
	w.say("event: %s %s: %s", kind, reason, message)
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

var key = types.NamespacedName{Namespace: "shop", Name: "web"}

const spec = `{vips: [{pool: vips, address: 198.51.100.10}, {pool: vips}], listeners: [{name: http, port: 80}], backends: [{app: web}], directors: {networks: [{pool: shop}]}, bgp: {asn: 64512}}`

// apply creates the LoadBalancer, or replaces its spec.
func (w *world) apply(uid, what, spec string) {
	w.t.Helper()
	w.say("\n# apply %s: %s", uid, what)
	var next v1alpha1.LoadBalancer
	if err := yaml.UnmarshalStrict([]byte("spec: "+spec), &next); err != nil {
		w.t.Fatal(err)
	}
	var b v1alpha1.LoadBalancer
	err := w.api.Get(w.t.Context(), key, &b)
	if apierrors.IsNotFound(err) {
		b.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: types.UID(uid), Generation: 1}
		b.Spec = next.Spec
		err = w.api.Create(w.t.Context(), &b)
	} else if err == nil {
		b.Generation++
		b.Spec = next.Spec
		err = w.api.Update(w.t.Context(), &b)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.run()
}

// run reconciles until there is nothing to do soon, and says what came of it.
func (w *world) run() {
	w.t.Helper()
	for range 20 {
		result, err := w.r.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key})
		w.out.WriteString(w.sched.Log())
		if err != nil {
			w.say("error: %v", err)
			return
		}
		if result.RequeueAfter == 0 || result.RequeueAfter >= time.Second {
			if result.RequeueAfter > 0 {
				w.say("again after %s", result.RequeueAfter)
			}
			w.show()
			return
		}
		w.clock = w.clock.Add(result.RequeueAfter)
	}
	w.say("goes on waiting")
}

func (w *world) show() {
	var b v1alpha1.LoadBalancer
	if err := w.api.Get(w.t.Context(), key, &b); err != nil {
		w.say("loadbalancer: %v", err)
		return
	}
	s := b.Status
	w.say("loadbalancer: finalizers %v, observed %d, vips %q, servers %s, directors %s, sessions %s", b.Finalizers, s.ObservedGeneration, s.Addresses, s.Servers.Summary, s.Directors.Summary, s.Sessions)
	for _, c := range s.Conditions {
		w.say("  %s=%s since %s, %s: %s", c.Type, c.Status, c.LastTransitionTime.UTC().Format("04:05"), c.Reason, c.Message)
	}
}

func (w *world) live(uid string) {
	w.say("\n# directors live and end as wanted")
	w.sched.Live(uid)
	w.clock = w.clock.Add(time.Second)
	w.run()
}

func (w *world) announce(uid string, change func(*runtime.Balance)) {
	w.say("\n# the scheduler tells how it stands")
	b := w.sched.InRotation(uid, 3)
	if change != nil {
		change(b)
	}
	w.sched.Balanced(b)
	w.clock = w.clock.Add(time.Second)
	w.run()
}

func (w *world) delete() {
	w.say("\n# delete")
	if err := w.api.Delete(w.t.Context(), &v1alpha1.LoadBalancer{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}); err != nil {
		w.t.Fatal(err)
	}
	w.run()
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", "new", spec)
	w.live("u1")
	w.announce("u1", nil)
	if req, ok := w.r.Concerned("u1"); !ok || req.NamespacedName != key {
		t.Errorf("a change of u1 concerns %v", req)
	}
	if d := w.sched.Wanted("u1"); !d.Directors || !d.Revisions[0].Template.Director || len(d.Slots) != 2 || strings.Join(d.Revisions[0].Template.Command, " ") != "/proc/self/exe director" {
		t.Errorf("directors wanted: %v", d)
	}

	w.apply("u1", "another listener, which touches no director", strings.Replace(spec, "port: 80", "port: 8080", 1))
	w.apply("u1", "three directors", strings.Replace(spec, "directors: {", "directors: {replicas: 3, ", 1))
	w.live("u1")
	w.announce("u1", nil)
	w.apply("u1", "more memory, which restarts directors one by one", strings.Replace(spec, "directors: {", "directors: {replicas: 3, resources: {memory: 256Mi}, ", 1))
	for range 3 {
		w.live("u1")
	}
	w.delete()
	w.live("u1")
	if _, ok := w.r.Concerned("u1"); ok || w.sched.Balancer("u1") != nil {
		t.Error("something is left")
	}
}

func TestRefusedDeclarations(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", "a pool that is not there", strings.ReplaceAll(spec, "pool: vips", "pool: absent"))
	w.apply("u1", "the pool of instances", strings.ReplaceAll(spec, "pool: vips, address: 198.51.100.10", "pool: shop"))
	w.apply("u1", "directors of the pool of VIPs", strings.ReplaceAll(spec, "{pool: shop}", "{pool: vips}"))
	w.apply("u1", "as it should be", spec)
	w.live("u1")
	w.announce("u1", nil)
	w.apply("u1", "a router that is not there: what was accepted stays in force", strings.Replace(spec, "asn: 64512", "asn: 64512, peers: [r1, r2]", 1))
	w.input.Peers = append(w.input.Peers, v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r2"}, Spec: v1alpha1.BGPPeerSpec{Address: "10.44.0.2", ASN: 64500}})
	w.say("\n# the router comes")
	w.run()
}

// Without routers nothing can be announced; that is no mistake of the LoadBalancer.
func TestRoutersComeLater(t *testing.T) {
	w := newWorld(t)
	peers := w.input.Peers
	w.input.Peers = nil
	w.apply("u1", "new", spec)
	w.live("u1")
	w.announce("u1", func(b *runtime.Balance) {
		for i := range b.VIPs {
			b.VIPs[i].Announcing = nil
		}
		for i := range b.Directors {
			b.Directors[i].Announced = nil
		}
	})
	w.input.Peers = peers
	w.say("\n# a router is declared")
	w.run()
	w.announce("u1", nil)
}

func TestAnAppHasTheName(t *testing.T) {
	w := newWorld(t)
	app := &padisv1.WantedApp{Uid: "a1", Namespace: key.Namespace, Name: "web-director"}
	if err := w.sched.Want(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	w.apply("u1", "new", spec)
	w.say("\n# the App goes")
	if err := w.sched.Forget(t.Context(), "a1"); err != nil {
		t.Fatal(err)
	}
	w.run()
}

// A LoadBalancer that lost its finalizer and was made again waits until the directors of the former have ended.
func TestASuccessorWaits(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", "new", spec)
	w.live("u1")
	w.say("\n# removed with its finalizer")
	var b v1alpha1.LoadBalancer
	if err := w.api.Get(t.Context(), key, &b); err != nil {
		t.Fatal(err)
	}
	b.Finalizers = nil
	if err := w.api.Update(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if err := w.api.Delete(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	w.apply("u2", "anew", spec)
	w.live("u1")
	if w.sched.Balancer("u1") != nil || w.sched.Balancer("u2") == nil {
		t.Error("the former is still there, or the new one is not")
	}
}

func TestOrphansEnd(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", "new", spec)
	w.live("u1")
	w.say("\n# removed while nobody watched")
	var b v1alpha1.LoadBalancer
	if err := w.api.Get(t.Context(), key, &b); err != nil {
		t.Fatal(err)
	}
	b.Finalizers = nil
	if err := errors.Join(w.api.Update(t.Context(), &b), w.api.Delete(t.Context(), &b)); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got := Orphans(&w.sched); len(got) != 2 || got[0].NamespacedName != key || got[1].NamespacedName != key {
		t.Errorf("to be looked at: %v", got)
	}
	w.run()
	w.live("u1")
	if got := Orphans(&w.sched); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// What the scheduler did not take is handed over again, with the same seed only if it took that.
func TestTheSchedulerIsAway(t *testing.T) {
	w := newWorld(t)
	w.sched.Fail(errors.New("not durable"))
	w.apply("u1", "new", spec)
	w.sched.Fail(nil)
	w.say("\n# it is back")
	w.run()
	w.restart()
	w.say("\n# after a restart of the reconciler nothing is told anew")
	w.run()
}
