package app

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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
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
	fresh int
	// fail makes the next write of a status, or of finalizers, fail.
	fail error
	// written counts the writes of statuses.
	written int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	scheme := apiruntime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w.api = clientfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.App{}).WithInterceptorFuncs(interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := w.fail; err != nil {
				w.fail = nil
				return err
			}
			w.written++
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := w.fail; err != nil {
				w.fail = nil
				return err
			}
			return c.Patch(ctx, o, p, opts...)
		},
	}).Build()
	w.input = declared.Input{
		Networks: []v1alpha1.Network{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: v1alpha1.NetworkSpec{Bridge: "padis0"}}},
		Pools:    []v1alpha1.IPPool{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, Spec: v1alpha1.IPPoolSpec{Network: "data", CIDR: "10.44.0.0/16"}}},
		Tenants:  []v1alpha1.Tenant{{ObjectMeta: metav1.ObjectMeta{Name: "retail"}, Spec: v1alpha1.TenantSpec{Namespaces: []string{"shop"}}}},
	}
	w.r = New(w.api, w.api, &w.sched, w, w, func() time.Time { return w.clock }, zaptest.NewLogger(t))
	t.Cleanup(w.golden)
	return w
}

// Since and Current make the world its own source of views.
func (w *world) Since(context.Context, string) (*declared.View, error) {
	w.fresh++
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

// apply creates the App, or replaces its spec.
func (w *world) apply(uid, spec string) {
	w.t.Helper()
	w.say("\n# apply %s: %s", uid, spec)
	var next v1alpha1.App
	if err := yaml.UnmarshalStrict([]byte("spec: "+spec), &next); err != nil {
		w.t.Fatal(err)
	}
	var a v1alpha1.App
	err := w.api.Get(w.t.Context(), key, &a)
	if apierrors.IsNotFound(err) {
		a.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: types.UID(uid), Generation: 1}
		a.Spec = next.Spec
		err = w.api.Create(w.t.Context(), &a)
	} else if err == nil {
		a.Generation++
		a.Spec = next.Spec
		err = w.api.Update(w.t.Context(), &a)
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
		if result.RequeueAfter == 0 || result.RequeueAfter > 10*time.Second {
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
	var a v1alpha1.App
	if err := w.api.Get(w.t.Context(), key, &a); err != nil {
		w.say("app: %v", err)
		return
	}
	s := a.Status
	w.say("app: finalizers %v, observed %d, summary %s, %d exist, %d running, %d ready, %d updated, %d pending",
		a.Finalizers, s.ObservedGeneration, s.Summary, s.Replicas, s.RunningReplicas, s.ReadyReplicas, s.UpdatedReplicas, s.PendingReplicas)
	for _, c := range s.Conditions {
		w.say("  %s=%s since %s, %s: %s", c.Type, c.Status, c.LastTransitionTime.UTC().Format("04:05"), c.Reason, c.Message)
	}
}

func (w *world) live(uid string) {
	w.say("\n# instances live and end as wanted")
	w.sched.Live(uid)
	w.clock = w.clock.Add(time.Second)
	w.run()
}

func (w *world) delete() {
	w.say("\n# delete")
	if err := w.api.Delete(w.t.Context(), &v1alpha1.App{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}); err != nil {
		w.t.Fatal(err)
	}
	w.run()
}

const spec = `{replicas: 2, template: {command: [shop]}, networks: [{pool: shop}]}`

func TestLife(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", spec)
	w.live("u1")
	w.apply("u1", strings.Replace(spec, "2", "4", 1))
	w.live("u1")
	w.apply("u1", `{replicas: 4, template: {command: [shop, --new]}, networks: [{pool: shop}]}`)
	w.live("u1")
	w.say("\n# an instance fails")
	w.sched.Change("u1", 3, func(s *runtime.InstanceStatus) {
		s.Phase, s.Ready, s.Reason, s.Message, s.Restarts = "BackOff", false, padisv1.ReasonExited, "exit code 1, again in 1 s; see padis logs web-3 -n shop", 1
	})
	w.run()
	w.say("\n# nothing happens")
	before := w.written
	w.run()
	if w.written != before {
		t.Errorf("the status was written although nothing happened")
	}
	w.delete()
	w.live("u1")
}

func TestRefusedDeclarations(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", strings.Replace(spec, "pool: shop", "pool: nosuch", 1))
	w.apply("u1", spec)
	w.live("u1")
	w.apply("u1", `{replicas: 9, template: {command: [shop]}, networks: [{pool: shop}], placement: {constraints: [{attribute: rack, operator: Like, value: "r["}]}}`)
	w.say("\n# the pool is not in force any more")
	w.input.Networks = nil
	w.run()
	w.delete()
	w.live("u1")
}

func TestTheSchedulerIsAway(t *testing.T) {
	w := newWorld(t)
	w.sched.Fail(errors.New("the ledger has another writer"))
	w.apply("u1", spec)
	w.sched.Fail(nil)
	w.say("\n# it is back")
	w.run()
	w.sched.Fail(errors.New("the ledger has another writer"))
	w.delete()
	w.sched.Fail(nil)
	w.say("\n# it is back")
	w.run()
	w.live("u1")
}

func TestTheAPIRefusesAWrite(t *testing.T) {
	w := newWorld(t)
	w.fail = apierrors.NewConflict(schema.GroupResource{Resource: "apps"}, "web", errors.New("changed meanwhile"))
	w.apply("u1", spec)
	w.sched.Live("u1")
	w.clock = w.clock.Add(time.Second)
	w.say("\n# a status cannot be written")
	w.fail = errors.New("the API is away")
	w.run()
	w.say("\n# it is back")
	w.run()
}

// An App that lost its finalizer and was made again under the same name: the old instances go before the new ones come,
// because they have the same names.
func TestASuccessorWaits(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", spec)
	w.live("u1")
	w.say("\n# removed by force")
	var a v1alpha1.App
	if err := w.api.Get(t.Context(), key, &a); err != nil {
		t.Fatal(err)
	}
	a.Finalizers = nil
	if err := w.api.Update(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	if err := w.api.Delete(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	a = v1alpha1.App{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "u2", Generation: 1}}
	if err := yaml.UnmarshalStrict([]byte(spec), &a.Spec); err != nil {
		t.Fatal(err)
	}
	if err := w.api.Create(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		result, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key})
		if err != nil || result.RequeueAfter != lagging {
			t.Fatalf("%v, %v", result, err)
		}
		w.out.WriteString(w.sched.Log())
	}
	w.say("# the old ones end")
	w.sched.Live("u1")
	w.run()
}

// What is wanted but not declared ends; that the cache does not have it is not enough.
func TestOrphansEnd(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", spec)
	w.live("u1")
	lagging := clientfake.NewClientBuilder().WithScheme(w.api.Scheme()).Build()
	w.r.client = lagging
	w.say("\n# the cache has no such App")
	if _, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
		t.Fatal(err)
	}
	w.out.WriteString(w.sched.Log())
	w.say("\n# nor has the API")
	w.r.live = lagging
	w.run()
}

// A cache that is behind what is wanted already must not take it back.
func TestTheCacheIsBehind(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", spec)
	var old v1alpha1.App
	if err := w.api.Get(t.Context(), key, &old); err != nil {
		t.Fatal(err)
	}
	old.ResourceVersion = ""
	w.apply("u1", strings.Replace(spec, "2", "4", 1))
	w.say("\n# the cache goes back")
	w.r.client = clientfake.NewClientBuilder().WithScheme(w.api.Scheme()).WithObjects(&old).Build()
	result, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key})
	w.say("%v, %v", result, err)
	w.out.WriteString(w.sched.Log())
}

// Fifty instances that become ready one by one within a second cost a few writes of the status, the last of which is right.
func TestStatusWritesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.apply("u1", strings.Replace(spec, "2", "50", 1))
	w.written = 0
	began, revision := w.clock, w.sched.Wanted("u1").Slots[0].Revision
	var due time.Time
	for n := range int32(50) {
		w.sched.Change("u1", n, func(s *runtime.InstanceStatus) {
			s.Phase, s.Ready, s.Reason, s.Message = "Running", true, padisv1.ReasonReady, ""
			s.Revision = revision
		})
		result, err := w.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key})
		if err != nil {
			t.Fatal(err)
		}
		due = w.clock.Add(result.RequeueAfter)
		w.clock = w.clock.Add(20 * time.Millisecond)
	}
	w.clock = due
	w.run()
	if most := int(w.clock.Sub(began)/writeEvery) + 2; w.written > most {
		t.Errorf("%d writes in %s, want at most %d", w.written, w.clock.Sub(began), most)
	}
}

// Directors of a LoadBalancer are wanted like an App, and belong to another reconciler: an App of their name is refused, and
// they live on when no App of their name is declared.
func TestDirectorsAreSomebodyElses(t *testing.T) {
	w := newWorld(t)
	defer func(was types.NamespacedName) { key = was }(key)
	key.Name = "web-director"
	directors := &padisv1.WantedApp{Uid: "lb1", Namespace: key.Namespace, Name: key.Name, Directors: true,
		Revisions: []*padisv1.Revision{{Hash: "a1"}}, Slots: []*padisv1.WantedSlot{{Revision: "a1"}}}
	if err := w.sched.Want(t.Context(), directors); err != nil {
		t.Fatal(err)
	}
	w.say("\n# nobody declares an App of the name")
	w.run()
	w.apply("u1", spec)
	w.delete()
	w.say("\n# the LoadBalancer goes")
	if err := w.sched.Forget(t.Context(), "lb1"); err != nil {
		t.Fatal(err)
	}
	w.sched.Live("lb1")
	w.apply("u2", spec)
}
