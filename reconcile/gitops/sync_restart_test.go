package gitops_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// world is an API server whose Syncs are reconciled when the test says so.
type world struct {
	testing.TB
	dir         string
	cfg, writer *rest.Config
	gets, lists atomic.Int64
	// slow holds up what is written.
	slow atomic.Bool
	mu   sync.Mutex
	at   time.Time
	set  time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{TB: t, dir: t.TempDir(), at: time.Now(), set: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	s, ended, err := serve(ctx, filepath.Join(w.dir, "api"))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	w.cfg, w.writer = loopback(s), s.SyncConfig()
	w.writer.Wrap(func(next http.RoundTripper) http.RoundTripper { return through{next, w} })
	was := api
	t.Cleanup(func() {
		api = was
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if api, err = client.New(w.cfg, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return w
}

// through counts what is read and holds up what is written.
type through struct {
	next http.RoundTripper
	*world
}

func (t through) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/configmaps"):
		t.lists.Add(1)
	case r.Method == http.MethodGet:
		t.gets.Add(1)
	case t.slow.Load() && r.URL.Query().Get("dryRun") == "":
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return t.next.RoundTrip(r)
}

// clock runs from the time that it was set to.
func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at.Add(time.Since(w.set))
}

func (w *world) setClock(to time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.set = to, time.Now()
}

// run has Syncs reconciled until the function is called, as a process that ends.
func (w *world) run() (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended, err := manage(ctx, w.cfg, gitops.Config{Dir: filepath.Join(w.dir, "cache"), FileRoots: []string{repos}, Writer: w.writer, Now: w.clock})
	if err != nil {
		cancel()
		w.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			w.Error(err)
		}
	})
	w.Cleanup(stop)
	return stop
}

func TestRestart(t *testing.T) {
	w := newWorld(t)
	const many = 200
	files := map[string]string{}
	for i := range many {
		files[fmt.Sprintf("%03d.yaml", i)] = configMap(fmt.Sprintf("m-%03d", i), "1")
	}
	stop := w.run()
	b := newBed(t, files, v1alpha1.SyncSpec{})
	b.applied(b.git("rev-parse", "HEAD"))
	report := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Drift: v1alpha1.DriftReport})
	report.applied(report.git("rev-parse", "HEAD"))
	middle := newBed(t, map[string]string{"app.yaml": app("first"), "late.yaml": in("1", configMap("late", "1"))}, v1alpha1.SyncSpec{})
	middle.fares("first", false)
	middle.reason("WaitingForHealth")
	stop()

	// Nobody looks.
	untouched, err := b.config("m-100")
	if err != nil {
		t.Fatal(err)
	}
	b.hand("m-000", "other")
	for _, bed := range []*bed{b, report} {
		name := map[bool]string{true: "m-001", false: "b"}[bed == b]
		m, err := bed.config(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := api.Delete(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	first := middle.fares("first", true)
	w.gets.Store(0)
	w.lists.Store(0)
	stop = w.run()
	b.holds("m-000", "1")
	b.holds("m-001", "1")
	b.heard(" DriftCorrected ", "2 objects", "m-000 data.key by hand", "m-001")
	if m, err := b.config("m-100"); err != nil || m.ResourceVersion != untouched.ResourceVersion {
		t.Errorf("what was in order was written: %v %v", m, err)
	}
	middle.applied(middle.git("rev-parse", "HEAD"))
	middle.holds("late", "1")
	a := &v1alpha1.App{}
	if err := api.Get(context.Background(), client.ObjectKeyFromObject(first), a); err != nil || a.ResourceVersion != first.ResourceVersion {
		t.Errorf("the app was written twice: %v, %v", a.ResourceVersion, err)
	}
	report.until("reported", func(y *v1alpha1.Sync) bool { return len(y.Status.Drift) == 1 && y.Status.Drift[0].Want == "present" })
	if report.value("b") != "" {
		t.Error("what somebody has deleted came back, although that is only to be reported")
	}
	if n := w.gets.Load(); n > many/4 || w.lists.Load() == 0 {
		t.Errorf("%d objects were read one by one, and %d lists", n, w.lists.Load())
	}
	stop()
}

func TestWindowsOpenByThemselves(t *testing.T) {
	w := newWorld(t)
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w.setClock(time.Date(2026, 7, 6, 12, 0, 0, 0, zone))
	w.run()
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Windows: []v1alpha1.ChangeWindow{
		{Action: v1alpha1.WindowAllow, From: "22:00", To: "04:00", TimeZone: "Europe/Berlin"},
		{Action: v1alpha1.WindowDeny, From: "23:00", To: "23:30", TimeZone: "Europe/London"},
	}})
	look := func() {
		b.want(func(y *v1alpha1.Sync) { y.Annotations = map[string]string{"look": fmt.Sprint(time.Now())} })
	}
	b.reason("OutsideWindows", "2026-07-06T20:00:00Z")
	w.setClock(time.Date(2026, 7, 6, 21, 59, 58, 0, zone))
	look()
	b.applied(b.git("rev-parse", "HEAD"))
	// It is half past eleven in London: denied.
	w.setClock(time.Date(2026, 7, 7, 0, 10, 0, 0, zone))
	b.hand("a", "other")
	b.until("reported", func(y *v1alpha1.Sync) bool {
		return len(y.Status.Drift) == 1 && says(ready(y).Message, "is applied", "2026-07-06T22:30:00Z")
	})
	if b.value("a") != "other" {
		t.Error("it was put back outside the windows")
	}
	next := b.push(map[string]string{"b.yaml": configMap("b", "1")})
	b.reason("OutsideWindows", "2026-07-06T22:30:00Z")
	w.setClock(time.Date(2026, 7, 7, 0, 29, 58, 0, zone))
	look()
	b.applied(next)
	b.holds("a", "1")
}

func TestWritingHasATimeout(t *testing.T) {
	w := newWorld(t)
	w.slow.Store(true)
	w.run()
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Timeout: &metav1.Duration{Duration: time.Second}, Retry: v1alpha1.SyncRetry{Interval: &metav1.Duration{Duration: time.Second}}})
	b.reason("Failed", "1s of spec.timeout")
	w.slow.Store(false)
	b.want(func(y *v1alpha1.Sync) { y.Spec.Timeout = &metav1.Duration{Duration: time.Minute} })
	b.applied(b.git("rev-parse", "HEAD"))
}

// What is left as it is by spec.undo is so after a restart, too, whatever happens meanwhile, until a commit says something else.
func TestRestartWhileAnObjectIsUndone(t *testing.T) {
	w := newWorld(t)
	stop := w.run()
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Prune: true})
	b.applied(b.git("rev-parse", "HEAD"))
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2"), "b.yaml": configMap("b", "2")})
	b.applied(bad)
	old := map[string]string{"key": "1", "more": "old"}
	b.undo(bad, "a")
	b.put("a", old)
	stop()

	// Nobody looks.
	before := b.has("a", old)
	b.hand("b", "other")
	stop = w.run()
	b.holds("b", "2")
	y := b.applied(b.push(map[string]string{"b.yaml": configMap("b", "3")}))
	if after := b.has("a", old); after.ResourceVersion != before.ResourceVersion {
		t.Errorf("what is held was written: %s, and %s before", after.ResourceVersion, before.ResourceVersion)
	}
	if len(y.Status.Undone) != 1 || !says(ready(y).Message, "spec.undo", "configmap/"+b.ns+"/a") {
		t.Errorf("it is not said: %v, %q", y.Status.Undone, ready(y).Message)
	}
	stop()

	// The commit comes while nobody looks, and is the first that is seen after the start.
	next := b.push(map[string]string{"a.yaml": configMap("a", "4")})
	w.run()
	y = b.applied(next)
	m := b.has("a", map[string]string{"key": "4"})
	if m.UID != before.UID {
		t.Error("the object was made anew")
	}
	if len(y.Status.Undone)+len(y.Status.Drift)+len(y.Status.Conflicts) > 0 {
		t.Errorf("status is %+v", y.Status)
	}
}
