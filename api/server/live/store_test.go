package live

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"pgregory.net/rapid"

	"padis.io/padis/api/runtime"
)

func instance(name, phase string) *runtime.Instance {
	return &runtime.Instance{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Status: runtime.InstanceStatus{App: "web", Phase: phase}}
}

func describe(e watch.Event) string {
	switch o := e.Object.(type) {
	case *runtime.Instance:
		if e.Type == watch.Bookmark {
			return fmt.Sprintf("BOOKMARK end=%s", o.Annotations[metav1.InitialEventsAnnotationKey])
		}
		return fmt.Sprintf("%s %s %s", e.Type, o.Name, o.Status.Phase)
	case *metav1.Status:
		return fmt.Sprintf("%s %d", e.Type, o.Code)
	}
	return fmt.Sprintf("%s %T", e.Type, e.Object)
}

// take reads what a watcher sends until all is quiet.
func take(w watch.Interface) []string {
	var out []string
	for {
		synctest.Wait()
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return append(out, "END")
			}
			out = append(out, describe(e))
		default:
			return out
		}
	}
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func (s storage[T]) follow(t *testing.T, o *internalversion.ListOptions) watch.Interface {
	t.Helper()
	w, err := s.Watch(request.WithNamespace(t.Context(), "shop"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return w
}

func TestWatchReplaysFromAVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storage[*runtime.Instance]{NewStores(time.Now).Instances}
		s.store.Set(instance("web-0", "Pending"))
		first, _ := s.store.Get("shop", "web-0")
		s.store.Set(instance("web-0", "Running"))
		s.store.Set(instance("web-0", "Running")) // no change
		s.store.Set(instance("web-1", "Pending"))
		s.store.Delete("shop", "web-0")
		s.store.Delete("shop", "web-0")
		s.store.Set(&runtime.Instance{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "web-0"}})

		w := s.follow(t, &internalversion.ListOptions{ResourceVersion: first.ResourceVersion})
		expect(t, take(w), "MODIFIED web-0 Running", "ADDED web-1 Pending", "DELETED web-0 Running")
		s.store.Set(instance("web-1", "Running"))
		expect(t, take(w), "MODIFIED web-1 Running")

		// From nowhere: what is, then what comes.
		w = s.follow(t, &internalversion.ListOptions{})
		expect(t, take(w), "ADDED web-1 Running")
		w = s.follow(t, &internalversion.ListOptions{ResourceVersion: "0"})
		expect(t, take(w), "ADDED web-1 Running")

		// As a list in the form of a watch.
		w = s.follow(t, &internalversion.ListOptions{SendInitialEvents: new(true), AllowWatchBookmarks: true})
		expect(t, take(w), "ADDED web-1 Running", "BOOKMARK end=true")
		synctest.Wait()
		time.Sleep(bookmarkEvery) // the clock is the bubble's
		expect(t, take(w), "BOOKMARK end=")
	})
}

func TestSelectorsTurnChangesIntoComingAndGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storage[*runtime.Instance]{NewStores(time.Now).Instances}
		running := s.follow(t, &internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("status.phase", "Running")})
		labelled := s.follow(t, &internalversion.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{"a": "b"})})
		s.store.Set(instance("web-0", "Pending"))
		s.store.Set(instance("web-0", "Running"))
		marked := instance("web-0", "Running")
		marked.Labels = map[string]string{"a": "b"}
		s.store.Set(marked)
		s.store.Set(instance("web-0", "Stopping"))
		s.store.Delete("shop", "web-0")
		expect(t, take(running), "ADDED web-0 Running", "MODIFIED web-0 Running", "DELETED web-0 Running")
		expect(t, take(labelled), "ADDED web-0 Running", "DELETED web-0 Running")
	})
}

func TestSlowWatchersNeverHoldUpSetAndAreToldToListAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storage[*runtime.Instance]{NewStores(time.Now).Instances}
		s.store.Set(instance("web-0", "Pending"))
		before, _ := s.store.Get("shop", "web-0")
		slow := s.follow(t, &internalversion.ListOptions{})
		for i := range history + batch + 10 {
			s.store.Set(instance("web-0", strconv.Itoa(i)))
		}
		got := take(slow)
		expect(t, got[:1], "ADDED web-0 Pending")
		expect(t, got[len(got)-2:], "ERROR 410", "END")
		if _, err := s.Watch(t.Context(), &internalversion.ListOptions{ResourceVersion: before.ResourceVersion}); !apierrors.IsResourceExpired(err) {
			t.Errorf("a watch from long ago: %v, want 410", err)
		}
		// The oldest version that is known still replays the whole history.
		oldest := strconv.FormatUint(s.store.rv-history, 10)
		w := s.follow(t, &internalversion.ListOptions{ResourceVersion: oldest})
		if got := take(w); len(got) != history {
			t.Errorf("replayed %d events, want %d", len(got), history)
		}
		for _, version := range []string{"1", "99999999999999999"} {
			if _, err := s.Watch(t.Context(), &internalversion.ListOptions{ResourceVersion: version}); !apierrors.IsResourceExpired(err) {
				t.Errorf("a watch from version %s: %v, want 410", version, err)
			}
		}
		if _, err := s.Watch(t.Context(), &internalversion.ListOptions{ResourceVersion: "x"}); !apierrors.IsBadRequest(err) {
			t.Errorf("a watch from version x: %v, want 400", err)
		}
	})
}

func TestWatchEndsWithItsContextAndByStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storage[*runtime.Instance]{NewStores(time.Now).Instances}
		ctx, cancel := context.WithCancel(t.Context())
		byContext, err := s.Watch(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		byStop := s.follow(t, nil)
		cancel()
		byStop.Stop()
		byStop.Stop()
		expect(t, take(byContext), "END")
		expect(t, take(byStop), "END")
		synctest.Wait()
		if n := len(s.store.wake); n != 0 {
			t.Errorf("%d watchers are still subscribed", n)
		}
	})
}

func TestListIsSortedAndVersioned(t *testing.T) {
	s := storage[*runtime.Instance]{NewStores(func() time.Time { return time.UnixMilli(1_000) }).Instances}
	for _, n := range []string{"web-10", "web-2", "api-0", "web-0"} {
		s.store.Set(instance(n, "Running"))
	}
	out, err := s.List(request.WithNamespace(t.Context(), "shop"), &internalversion.ListOptions{Limit: 2, Continue: "ignored"})
	if err != nil {
		t.Fatal(err)
	}
	list := out.(*runtime.InstanceList)
	var names []string
	for _, i := range list.Items {
		names = append(names, i.Name)
	}
	expect(t, names, "api-0", "web-0", "web-2", "web-10")
	if want := strconv.Itoa(1000<<20 + 4); list.ResourceVersion != want || list.Continue != "" {
		t.Errorf("version %s, continue %q, want %s and none", list.ResourceVersion, list.Continue, want)
	}
	if _, err := s.List(t.Context(), &internalversion.ListOptions{ResourceVersion: "5", ResourceVersionMatch: metav1.ResourceVersionMatchExact}); !apierrors.IsResourceExpired(err) {
		t.Errorf("a list of an old version: %v, want 410", err)
	}
	i := list.Items[0]
	if i.UID == "" || i.CreationTimestamp.IsZero() {
		t.Error("uid and creation time are not filled in")
	}
	// What comes out of the API may be changed without harm.
	list.Items[0].Status.Phase = "Changed"
	if o, _ := s.store.Get("shop", "api-0"); o.Status.Phase != "Running" {
		t.Error("a client changed the stored object")
	}
}

// A client that applies what a watch sends to what a list gave knows, after any changes, what the store holds.
func TestListAndWatchAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			s := storage[*runtime.Instance]{NewStores(time.Now).Instances}
			change := func() {
				name := fmt.Sprintf("web-%d", rapid.IntRange(0, 3).Draw(rt, "slot"))
				if rapid.Bool().Draw(rt, "delete") {
					s.store.Delete("shop", name)
				} else {
					s.store.Set(instance(name, rapid.SampledFrom([]string{"Pending", "Running"}).Draw(rt, "phase")))
				}
			}
			for range rapid.IntRange(0, 10).Draw(rt, "before") {
				change()
			}
			options := &internalversion.ListOptions{}
			if rapid.Bool().Draw(rt, "selected") {
				options.FieldSelector = fields.OneTermEqualSelector("status.phase", "Running")
			}
			listed, err := s.List(t.Context(), options)
			if err != nil {
				rt.Fatal(err)
			}
			known := map[string]string{}
			for _, i := range listed.(*runtime.InstanceList).Items {
				known[i.Name] = i.Status.Phase
			}
			options.ResourceVersion = listed.(*runtime.InstanceList).ResourceVersion
			w := s.follow(t, options)
			for range rapid.IntRange(0, 20).Draw(rt, "after") {
				change()
			}
			synctest.Wait()
			for quiet := false; !quiet; {
				synctest.Wait()
				select {
				case e := <-w.ResultChan():
					i := e.Object.(*runtime.Instance)
					_, had := known[i.Name]
					if had != (e.Type != watch.Added) {
						rt.Fatalf("%s of %s, known before: %v", e.Type, i.Name, had)
					}
					if e.Type == watch.Deleted {
						delete(known, i.Name)
					} else {
						known[i.Name] = i.Status.Phase
					}
				default:
					quiet = true
				}
			}
			options.ResourceVersion = ""
			now, err := s.List(t.Context(), options)
			if err != nil {
				rt.Fatal(err)
			}
			want := map[string]string{}
			for _, i := range now.(*runtime.InstanceList).Items {
				want[i.Name] = i.Status.Phase
			}
			if fmt.Sprint(known) != fmt.Sprint(want) {
				rt.Fatalf("the watcher knows %v, the store holds %v", known, want)
			}
		})
	})
}

func FuzzLogOptions(f *testing.F) {
	f.Add("stream", "stdout")
	f.Add("tailLines", "-1")
	f.Add("follow", "maybe")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := parseLogOptions(map[string][]string{key: {value}}, time.Unix(1_700_000_000, 0))
		if err == nil && (o.Stream != "stdout" && o.Stream != "stderr" && o.Stream != "all" || o.TailLines < -1 || o.LimitBytes < -1) {
			t.Errorf("%s=%s gave %+v", key, value, o)
		}
		if err != nil && !apierrors.IsBadRequest(err) {
			t.Errorf("%s=%s: %v is not a bad request", key, value, err)
		}
	})
}

func TestAmountsAreShort(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{cpus(0), "0"}, {cpus(100), "0.1"}, {cpus(2000), "2"}, {mebibytes(512), "512Mi"}, {mebibytes(16384), "16.0Gi"},
		{attributes(nil), "<none>"}, {attributes(map[string]string{"b": "2", "a": "1"}), "a=1,b=2"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
