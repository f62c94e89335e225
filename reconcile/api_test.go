package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile"
	"padis.io/padis/reconcile/app"
	"padis.io/padis/reconcile/fake"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// patience bounds how long a test waits for something that should happen at once.
const patience = 30 * time.Second

// cfg reaches the API server that all tests share; each works on names of its own.
var (
	cfg *rest.Config
	api client.Client
)

func TestMain(m *testing.M) {
	code, err := withServer(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withServer(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "padis-reconcile-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	s, err := server.New(server.Config{DataDir: dir, Listener: l, Version: "0.0.0-test", Logger: logger()})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		cancel()
		return 0, fmt.Errorf("the API server ended before it was ready: %w", err)
	}
	cfg = s.LoopbackConfig()
	cfg.QPS, cfg.Burst = 500, 500
	cfg.ContentType, cfg.AcceptContentTypes = apiruntime.ContentTypeJSON, apiruntime.ContentTypeJSON
	scheme := apiruntime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		cancel()
		return 0, err
	}
	if api, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		cancel()
		return 0, err
	}
	code := m.Run()
	cancel()
	return code, <-ended
}

func logger() *zap.Logger {
	if os.Getenv("PADIS_TEST_LOG") == "" {
		return zap.NewNop()
	}
	return zap.Must(zap.NewDevelopment())
}

// start runs the reconcilers until the test or the returned function ends them.
func start(t *testing.T, sched *fake.Scheduler) (stop func()) {
	t.Helper()
	t.Cleanup(func() { wipe(t) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- reconcile.Start(ctx, cfg, sched, logger()) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the reconcilers ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// wipe removes all that the test declared, finalizers or not.
func wipe(t *testing.T) {
	ctx := context.Background()
	empty := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	for _, list := range []client.ObjectList{&v1alpha1.LoadBalancerList{}, &v1alpha1.BGPPeerList{}, &v1alpha1.AppList{}, &v1alpha1.IPPoolList{}, &v1alpha1.NetworkList{}, &v1alpha1.TenantList{},
		&v1alpha1.RegistryList{}, &v1alpha1.ImagePrepullList{}, &v1alpha1.ExecutorUpgradeList{}, &corev1.NamespaceList{}} {
		until(t, func() string {
			if err := api.List(ctx, list); err != nil {
				return err.Error()
			}
			left := 0
			if err := meta.EachListItem(list, func(item apiruntime.Object) error {
				o := item.(client.Object)
				if _, ok := o.(*corev1.Namespace); ok && (o.GetName() == metav1.NamespaceDefault || strings.HasPrefix(o.GetName(), "kube-")) {
					return nil
				} else if !ok {
					if err := client.IgnoreNotFound(api.Patch(ctx, o, empty)); err != nil {
						return err
					}
				}
				left++
				return client.IgnoreNotFound(api.Delete(ctx, o))
			}); err != nil {
				return err.Error()
			}
			if left > 0 {
				return fmt.Sprintf("%d left in %T", left, list)
			}
			return ""
		})
	}
}

// until waits for what f finds missing; f gives "" when nothing is.
func until(t *testing.T, f func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		missing := f()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %s", patience, missing)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// apply creates the objects of manifests, in order.
func apply(t *testing.T, manifests string) {
	t.Helper()
	docs := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		var o unstructured.Unstructured
		if err := docs.Decode(&o.Object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if len(o.Object) == 0 {
			continue
		}
		strict := &client.CreateOptions{Raw: &metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}}
		if err := api.Create(t.Context(), &o, strict); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

func example(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../examples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func get(t *testing.T, namespace, name string) *v1alpha1.App {
	t.Helper()
	var a v1alpha1.App
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &a); err != nil {
		t.Fatal(err)
	}
	return &a
}

// shows waits until a condition of an App has the status and the reason.
func shows(t *testing.T, namespace, name, kind string, status metav1.ConditionStatus, reason string) *v1alpha1.App {
	t.Helper()
	var a *v1alpha1.App
	until(t, func() string {
		a = get(t, namespace, name)
		c := meta.FindStatusCondition(a.Status.Conditions, kind)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != a.Generation {
			return fmt.Sprintf("app %s/%s shows no %s=%s %s but %+v", namespace, name, kind, status, reason, a.Status)
		}
		return ""
	})
	return a
}

// lives waits until the App is wanted as it is declared and has all its instances live.
func lives(t *testing.T, sched *fake.Scheduler, namespace, name string) *v1alpha1.App {
	t.Helper()
	a := get(t, namespace, name)
	until(t, func() string {
		if sched.Wanted(string(a.UID)).GetGeneration() < a.Generation {
			return "generation " + fmt.Sprint(a.Generation) + " of app " + namespace + "/" + name + " is not wanted"
		}
		return ""
	})
	until(t, func() string {
		sched.Live(string(a.UID))
		if c := meta.FindStatusCondition(get(t, namespace, name).Status.Conditions, v1alpha1.ConditionProgressing); c == nil || c.Reason != padisv1.ReasonComplete || c.ObservedGeneration != a.Generation {
			return "app " + namespace + "/" + name + " is still progressing"
		}
		return ""
	})
	return shows(t, namespace, name, v1alpha1.ConditionAvailable, metav1.ConditionTrue, padisv1.ReasonReady)
}

func gone(t *testing.T, o client.Object, namespace, name string) {
	t.Helper()
	until(t, func() string {
		err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, o)
		if apierrors.IsNotFound(err) {
			return ""
		}
		return fmt.Sprintf("%T %s is there: %v", o, name, err)
	})
}

// From the examples to Available, through scaling and an update, to nothing left: with the real API server.
func TestExamplesFromApplyToTheEnd(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, example(t, "web-shop.yaml"))
	apply(t, example(t, "insurers.yaml"))
	apply(t, example(t, "hello.yaml"))
	lives(t, sched, "default", "hello")
	web := lives(t, sched, "shop", "web")
	if web.Status.Summary != "8/8" || web.Status.Replicas != 8 || web.Status.UpdatedReplicas != 8 {
		t.Errorf("status is %+v", web.Status)
	}
	for _, insurer := range []string{"life", "property"} {
		lives(t, sched, insurer, "policy")
		if w := sched.Wanted(string(get(t, insurer, "policy").UID)); w.Tenant != insurer {
			t.Errorf("%s/policy belongs to tenant %q", insurer, w.Tenant)
		}
	}
	until(t, func() string {
		var p v1alpha1.IPPool
		if err := api.Get(t.Context(), client.ObjectKey{Name: "shop"}, &p); err != nil || p.Status.Allocated != 8 || p.Status.Free != fake.Capacity-8 {
			return fmt.Sprintf("pool shop shows %+v, %v", p.Status, err)
		}
		return ""
	})

	// Scale subresource, as kubectl scale uses it, and a template at the same time.
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":12,"template":{"labels":{"version":"2"}}}}`))
	if err := api.Patch(t.Context(), web, patch); err != nil {
		t.Fatal(err)
	}
	if web = lives(t, sched, "shop", "web"); web.Status.Summary != "12/12" || web.Status.UpdatedReplicas != 12 {
		t.Errorf("status is %+v", web.Status)
	}
	until(t, func() string {
		var events corev1.EventList
		if err := api.List(t.Context(), &events, client.InNamespace("shop")); err != nil {
			return err.Error()
		}
		seen := map[string]bool{}
		for _, e := range events.Items {
			if e.InvolvedObject.Kind == "App" && e.InvolvedObject.UID == web.UID {
				seen[e.Reason] = true
			}
		}
		for _, reason := range []string{padisv1.ReasonScaledOut, padisv1.ReasonReady, padisv1.ReasonUpdating, padisv1.ReasonUpdated} {
			if !seen[reason] {
				return fmt.Sprintf("no event %s among %v", reason, seen)
			}
		}
		return ""
	})

	// A namespace that is deleted takes its App along, when the instances have ended. Pools and network can go then.
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "life"}},
		&v1alpha1.App{ObjectMeta: metav1.ObjectMeta{Namespace: "property", Name: "policy"}},
		&v1alpha1.App{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello"}},
	} {
		if err := api.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	shows(t, "shop", "web", v1alpha1.ConditionProgressing, metav1.ConditionTrue, padisv1.ReasonStopping)
	until(t, func() string {
		for _, w := range sched.WantedApps() {
			sched.Live(w.Uid)
		}
		if left := sched.WantedApps(); len(left) > 0 {
			return fmt.Sprintf("%d apps are still known to the scheduler", len(left))
		}
		return ""
	})
	gone(t, &v1alpha1.App{}, "shop", "web")
	gone(t, &corev1.Namespace{}, "", "shop")
	gone(t, &corev1.Namespace{}, "", "life")
	gone(t, &v1alpha1.App{}, "property", "policy")
	gone(t, &v1alpha1.App{}, "default", "hello")
	for _, o := range []client.Object{
		&v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "life"}},
		&v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "property"}}, &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "hello"}},
		&v1alpha1.Network{ObjectMeta: metav1.ObjectMeta{Name: "data"}},
	} {
		until(t, func() string {
			// The API refuses it as long as it knows of a user.
			if err := client.IgnoreNotFound(api.Delete(t.Context(), o)); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	gone(t, &v1alpha1.IPPool{}, "", "shop")
	gone(t, &v1alpha1.Network{}, "", "data")
}

// A pool that no App asks for any more, but whose addresses are still held, stays until they are given back, and says by
// whom they are held.
func TestAPoolStaysWhileItsAddressesAreHeld(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, `
{apiVersion: v1, kind: Namespace, metadata: {name: moves}}
---
{apiVersion: padis.io/v1alpha1, kind: Network, metadata: {name: moves}, spec: {bridge: padis8}}
---
{apiVersion: padis.io/v1alpha1, kind: IPPool, metadata: {name: moves-old}, spec: {network: moves, cidr: 10.97.0.0/24}}
---
{apiVersion: padis.io/v1alpha1, kind: IPPool, metadata: {name: moves-new}, spec: {network: moves, cidr: 10.98.0.0/24}}
---
{apiVersion: padis.io/v1alpha1, kind: App, metadata: {name: a, namespace: moves}, spec: {template: {command: [x]}, networks: [{pool: moves-old}]}}
`)
	a := lives(t, sched, "moves", "a")
	if err := api.Patch(t.Context(), a, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"networks":[{"pool":"moves-new"}]}}`))); err != nil {
		t.Fatal(err)
	}
	pool := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "moves-old"}}
	until(t, func() string {
		if err := api.Delete(t.Context(), pool); err != nil {
			return err.Error()
		}
		return ""
	})
	until(t, func() string {
		if err := api.Get(t.Context(), client.ObjectKey{Name: "moves-old"}, pool); err != nil {
			return err.Error()
		}
		if c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionAccepted); c == nil || c.Reason != padisv1.ReasonPoolInUse || !strings.Contains(c.Message, "(moves/a-0)") {
			return fmt.Sprintf("the pool does not say who holds it: %+v", pool.Status)
		}
		return ""
	})
	lives(t, sched, "moves", "a")
	gone(t, &v1alpha1.IPPool{}, "", "moves-old")
}

// An App is never handed over before the Tenant that was declared before it.
func TestNoAppOvertakesItsTenant(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	const many = 25
	for n := range many {
		apply(t, fmt.Sprintf(`
{apiVersion: v1, kind: Namespace, metadata: {name: late-%[1]d}}
---
{apiVersion: padis.io/v1alpha1, kind: Tenant, metadata: {name: late-%[1]d}, spec: {namespaces: [late-%[1]d]}}
---
{apiVersion: padis.io/v1alpha1, kind: App, metadata: {name: a, namespace: late-%[1]d}, spec: {template: {command: [x]}}}
`, n))
	}
	var log bytes.Buffer
	until(t, func() string {
		log.WriteString(sched.Log())
		if n := strings.Count(log.String(), "want late-"); n < many {
			return fmt.Sprintf("%d of %d apps are wanted", n, many)
		}
		return ""
	})
	declared := map[string]bool{}
	for line := range strings.Lines(log.String()) {
		for n := range many {
			name := fmt.Sprintf("late-%d", n)
			if strings.Contains(line, "declare") && strings.Contains(line, "tenant "+name+" of") {
				declared[name] = true
			}
			if strings.Contains(line, "want "+name+"/a ") && (!declared[name] || !strings.Contains(line, fmt.Sprintf("of tenant %q", name))) {
				t.Errorf("before its tenant was declared: %s", line)
			}
		}
	}
}

// Bad input that only the whole can judge is shown with its remedy, and is put in force when the remedy is applied.
func TestRefusedUntilThePoolExists(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, `
{apiVersion: v1, kind: Namespace, metadata: {name: early}}
---
{apiVersion: padis.io/v1alpha1, kind: App, metadata: {name: a, namespace: early}, spec: {template: {command: [x]}, networks: [{pool: early}]}}
`)
	a := shows(t, "early", "a", v1alpha1.ConditionAccepted, metav1.ConditionFalse, padisv1.ReasonPoolNotFound)
	if c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAccepted); !strings.Contains(c.Message, `there is no IPPool "early": create it, or name another`) {
		t.Errorf("the remedy is %q", c.Message)
	}
	apply(t, `
{apiVersion: padis.io/v1alpha1, kind: IPPool, metadata: {name: early}, spec: {network: early, cidr: 10.99.0.0/24}}
---
{apiVersion: padis.io/v1alpha1, kind: Network, metadata: {name: early}, spec: {bridge: padis9}}
`)
	lives(t, sched, "early", "a")
}

// Every driver of the examples passes the schema and is put in force, and so are the Apps on them.
func TestNetworksOfTheExamples(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, example(t, "networks.yaml"))
	dual := sched.Wanted(string(lives(t, sched, "default", "dual").UID))
	if dual.GetUnreachable().GetLeaseMs() != 30_000 || len(dual.GetBandwidths()) != 2 || dual.GetBandwidths()[0].GetIngress() != 100_000_000 || fmt.Sprint(dual.GetLoopbackAddresses()) != "[10.120.0.100]" {
		t.Errorf("wanted is %v", dual)
	}
	lives(t, sched, "red", "inner")
	var networks v1alpha1.NetworkList
	if err := api.List(t.Context(), &networks); err != nil || len(networks.Items) < 4 {
		t.Fatalf("%d networks, %v", len(networks.Items), err)
	}
	for _, n := range networks.Items {
		until(t, func() string {
			if err := api.Get(t.Context(), client.ObjectKeyFromObject(&n), &n); err != nil {
				return err.Error()
			}
			if !meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionAccepted) {
				return fmt.Sprintf("network %s shows %+v", n.Name, n.Status)
			}
			return ""
		})
	}
}

// A Network waits for the Secret with the password of its routers, and what hosts say of it is shown without being told.
func TestANetworkFollowsItsSecretAndItsHosts(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, `
{apiVersion: v1, kind: Namespace, metadata: {name: routers}}
---
{apiVersion: padis.io/v1alpha1, kind: Network, metadata: {name: edge}, spec: {driver: routed, bgp: {asn: 64512, peers: [
  {address: 192.0.2.1, asn: 64500, passwordSecret: {namespace: routers, name: bgp, key: password}}]}}}
`)
	says := func(kind string, status metav1.ConditionStatus, reason string) {
		t.Helper()
		until(t, func() string {
			var n v1alpha1.Network
			if err := api.Get(t.Context(), client.ObjectKey{Name: "edge"}, &n); err != nil {
				return err.Error()
			}
			if c := meta.FindStatusCondition(n.Status.Conditions, kind); c == nil || c.Status != status || c.Reason != reason {
				return fmt.Sprintf("the network shows no %s=%s %s but %+v", kind, status, reason, n.Status)
			}
			return ""
		})
	}
	says(v1alpha1.ConditionAccepted, metav1.ConditionFalse, padisv1.ReasonConfigNotFound)
	apply(t, `{apiVersion: v1, kind: Secret, metadata: {name: bgp, namespace: routers}, stringData: {password: p}}`)
	says(v1alpha1.ConditionAccepted, metav1.ConditionTrue, padisv1.ReasonAccepted)
	says(v1alpha1.ConditionPeersUp, metav1.ConditionUnknown, padisv1.ReasonStarting)
	sched.Report(map[string][]runtime.HostNetworkState{"edge": {{Host: "host-1", Sessions: []runtime.BGPSession{{Peer: "192.0.2.1", Established: true}}}}})
	says(v1alpha1.ConditionPeersUp, metav1.ConditionTrue, padisv1.ReasonReady)
}

// While nobody watches, an App loses its finalizer and is deleted. What it left running ends; what is declared lives on,
// untouched.
func TestARestartEndsOrphansOnly(t *testing.T) {
	sched := &fake.Scheduler{}
	stop := start(t, sched)
	apply(t, `
{apiVersion: v1, kind: Namespace, metadata: {name: night}}
---
{apiVersion: padis.io/v1alpha1, kind: App, metadata: {name: stays, namespace: night}, spec: {replicas: 2, template: {command: [x]}}}
---
{apiVersion: padis.io/v1alpha1, kind: App, metadata: {name: goes, namespace: night}, spec: {replicas: 2, template: {command: [x]}}}
`)
	until(t, func() string {
		var apps v1alpha1.AppList
		if err := api.List(t.Context(), &apps, client.InNamespace("night")); err != nil {
			return err.Error()
		}
		for _, a := range apps.Items {
			if sched.Wanted(string(a.UID)) == nil {
				return a.Name + " is not wanted yet"
			}
		}
		return ""
	})
	lives(t, sched, "night", "stays")
	lives(t, sched, "night", "goes")
	stop()

	goes := get(t, "night", "goes")
	goes.Finalizers = nil
	if err := api.Update(t.Context(), goes); err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(t.Context(), goes); err != nil {
		t.Fatal(err)
	}
	gone(t, &v1alpha1.App{}, "night", "goes")
	sched.Log()
	start(t, sched)
	until(t, func() string {
		if w := sched.Wanted(string(goes.UID)); w != nil && !w.Forgotten {
			return "the orphan lives"
		}
		return ""
	})
	sched.Live(string(goes.UID))
	shows(t, "night", "stays", v1alpha1.ConditionAvailable, metav1.ConditionTrue, padisv1.ReasonReady)
	for line := range strings.Lines(sched.Log()) {
		if strings.Contains(line, "stays") {
			t.Errorf("the restart touched what is declared: %s", line)
		}
	}
}

// When many instances become ready one after the other, the status is written now and then, and is right in the end.
func TestABurstCostsFewWrites(t *testing.T) {
	const replicas = 50
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, fmt.Sprintf(`
{apiVersion: v1, kind: Namespace, metadata: {name: burst}}
---
{apiVersion: padis.io/v1alpha1, kind: App, metadata: {name: a, namespace: burst}, spec: {replicas: %d, template: {command: [x]}}}
`, replicas))
	uid := string(get(t, "burst", "a").UID)
	until(t, func() string {
		if sched.Wanted(uid) == nil {
			return "not wanted yet"
		}
		return ""
	})
	revision := sched.Wanted(uid).Slots[0].Revision
	began := time.Now()
	for n := range int32(replicas) {
		sched.Change(uid, n, func(s *runtime.InstanceStatus) {
			s.Phase, s.Ready, s.Revision, s.Reason, s.Message = "Running", true, revision, padisv1.ReasonReady, ""
		})
	}
	a := shows(t, "burst", "a", v1alpha1.ConditionAvailable, metav1.ConditionTrue, padisv1.ReasonReady)
	if a.Status.Summary != fmt.Sprintf("%d/%d", replicas, replicas) {
		t.Errorf("status is %+v", a.Status)
	}
	t.Logf("50 instances shown ready after %s", time.Since(began))
	if a.Finalizers[0] != app.Finalizer {
		t.Errorf("finalizers are %v", a.Finalizers)
	}
}
