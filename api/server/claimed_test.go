package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/v1alpha1"
)

// fixedPool declares a pool of 10.N.0.0/16 and gives a client.
func fixedPool(t testing.TB, n int) rest.Interface {
	t.Helper()
	cfg := shared.LoopbackConfig()
	cfg.QPS = -1
	d, err := newDeclared(cfg)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("fixed-%d", n)
	network := &v1alpha1.Network{ObjectMeta: metav1.ObjectMeta{Name: name}}
	network.Spec.Bridge = name
	pool := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pool.Spec.Network, pool.Spec.CIDR, pool.Spec.Gateway = name, fmt.Sprintf("10.%d.0.0/16", n), fmt.Sprintf("10.%d.0.1", n)
	for resource, o := range map[string]any{"networks": network, "ippools": pool} {
		err := d.client.Post().Resource(resource).Body(o).Do(context.Background()).Error()
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	return d.client
}

func fixedApp(name string, pool int, address string) *v1alpha1.App {
	a := &v1alpha1.App{TypeMeta: metav1.TypeMeta{APIVersion: "padis.io/v1alpha1", Kind: "App"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	a.Spec.Template.Command = []string{"serve"}
	if address != "" {
		a.Spec.Networks = []v1alpha1.NetworkAttachment{{Pool: fmt.Sprintf("fixed-%d", pool), Addresses: []string{address}}}
	}
	return a
}

func post(c rest.Interface, a *v1alpha1.App) error {
	return c.Post().Namespace(a.Namespace).Resource("apps").Body(declaration(a)).Do(context.Background()).Error()
}

// declaration is an App as somebody would write it, without what the Go type has empty.
func declaration(a *v1alpha1.App) []byte {
	networks := ""
	for _, n := range a.Spec.Networks {
		networks = fmt.Sprintf(`, "networks": [{"pool": %q, "addresses": [%q]}]`, n.Pool, n.Addresses[0])
	}
	return fmt.Appendf(nil, `{"apiVersion": "padis.io/v1alpha1", "kind": "App", "metadata": {"namespace": %q, "name": %q}, "spec": {"template": {"command": ["serve"]}%s}}`, a.Namespace, a.Name, networks)
}

func refusesAddress(err error, other string) bool {
	return err != nil && apierrors.IsInvalid(err) && strings.Contains(err.Error(), "is wanted by app "+other)
}

func TestFixedAddressesAreOfOneApp(t *testing.T) {
	c := fixedPool(t, 231)
	remove := func(name string) {
		t.Helper()
		if err := c.Delete().Namespace("default").Resource("apps").Name(name).Do(context.Background()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	// Each right after the other, whatever the watch tells meanwhile.
	for i := range 20 {
		address := fmt.Sprintf("10.231.1.%d", i)
		if err := c.Post().Namespace("default").Resource("apps").Param("dryRun", "All").Body(declaration(fixedApp("trial", 231, address))).Do(context.Background()).Error(); err != nil {
			t.Fatal(err)
		}
		if err := post(c, fixedApp("first", 231, address)); err != nil {
			t.Fatal(err)
		}
		if err := post(c, fixedApp("second", 231, address)); !refusesAddress(err, "first") {
			t.Fatalf("the second is let pass: %v", err)
		}
		// A write that fails for another reason takes nothing.
		if err := post(c, fixedApp("first", 231, fmt.Sprintf("10.231.2.%d", i))); !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		if err := post(c, fixedApp("second", 231, fmt.Sprintf("10.231.2.%d", i))); err != nil {
			t.Fatal(err)
		}
		remove("first")
		remove("second")
	}
	// All at once.
	for i := range 10 {
		var (
			mu     sync.Mutex
			passed []string
			group  sync.WaitGroup
		)
		for j := range 8 {
			name := fmt.Sprintf("racer-%d", j)
			group.Go(func() {
				err := post(c, fixedApp(name, 231, fmt.Sprintf("10.231.3.%d", i)))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					passed = append(passed, name)
				} else if !refusesAddress(err, "racer-") {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if len(passed) != 1 {
			t.Fatalf("%v have the same address", passed)
		}
		remove(passed[0])
	}
}

// What a watch tells late, or never, changes nothing for good.
func TestClaimedForgetsWhatWasNotWritten(t *testing.T) {
	c := newClaimed()
	a, b := fixedApp("a", 1, "10.1.0.5"), fixedApp("b", 1, "10.1.0.5")
	if _, _, ok := c.claim(context.Background(), a, false); ok {
		t.Error("it says something before it knows of anything")
	}
	_ = c.Replace([]any{fixedApp("none", 1, "")}, "")
	ctx, end := context.WithCancel(context.Background())
	defer end()
	asks := func() (asked, inFlight bool) {
		others, drop, _ := c.claim(ctx, b, false)
		drop()
		o, asked := others[types.NamespacedName{Namespace: "default", Name: "a"}]
		return asked, o != nil
	}
	_, drop, _ := c.claim(ctx, a, false)
	if asked, inFlight := asks(); !asked || !inFlight {
		t.Error("a write that is under way is not known")
	}
	drop()
	if asked, _ := asks(); asked {
		t.Error("a write that was refused is known")
	}
	writing, over := context.WithCancel(ctx)
	_, _, _ = c.claim(writing, a, false)
	over()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if asked, inFlight := asks(); asked && !inFlight {
			break
		}
		if time.Now().After(end) {
			t.Fatal("what came of a write that is over is not asked for")
		}
	}
	_ = c.Add(a)
	if asked, inFlight := asks(); !asked || inFlight || len(c.writes) != 0 {
		t.Errorf("what is stored is not known: %v", c.writes)
	}
	_ = c.Update(fixedApp("a", 1, "10.1.0.6"))
	if asked, _ := asks(); asked {
		t.Error("an address that was given up is known")
	}
	_ = c.Replace(nil, "")
	if len(c.stored)+len(c.writes)+len(c.by) != 0 {
		t.Errorf("it remembers %v %v %v", c.stored, c.writes, c.by)
	}
}

// A create with a fixed address among 10,000 Apps.
func BenchmarkCreateWithAFixedAddress(b *testing.B) {
	c := fixedPool(b, 232)
	const others = 10000
	var group sync.WaitGroup
	work := make(chan int)
	for range 16 {
		group.Go(func() {
			for i := range work {
				if err := post(c, fixedApp(fmt.Sprintf("other-%d", i), 232, "")); err != nil && !apierrors.IsAlreadyExists(err) {
					b.Error(err)
				}
			}
		})
	}
	for i := range others {
		work <- i
	}
	close(work)
	group.Wait()
	n := 0
	for b.Loop() {
		name := fmt.Sprintf("fixed-%d", time.Now().UnixNano())
		if err := post(c, fixedApp(name, 232, fmt.Sprintf("10.232.%d.%d", 1+n/250, 1+n%250))); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
