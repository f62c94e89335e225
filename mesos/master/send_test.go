package master

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire/memnet"
)

func TestSend(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(times int, w http.ResponseWriter)
		// status of the CallError expected, 0 for none.
		status int
		body   string
		calls  int
		took   time.Duration
	}{
		{"202", func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }, 0, "", 1, 0},
		{"200", func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusOK) }, 0, "", 1, 0},
		{"400", func(_ int, w http.ResponseWriter) {
			http.Error(w, "Failed to validate scheduler::Call: Not a valid UUID", http.StatusBadRequest)
		}, 400, "Failed to validate scheduler::Call: Not a valid UUID", 1, 0},
		{"403", func(_ int, w http.ResponseWriter) { http.Error(w, "Framework is not subscribed", http.StatusForbidden) }, 403, "Framework is not subscribed", 1, 0},
		{"long reason", func(_ int, w http.ResponseWriter) { http.Error(w, strings.Repeat("x", 1<<20), 500) }, 500, strings.Repeat("x", maxReason), 1, 0},
		{"503 twice", func(times int, w http.ResponseWriter) {
			if times <= 2 {
				http.Error(w, "Master has not finished recovery", http.StatusServiceUnavailable)
			} else {
				w.WriteHeader(http.StatusAccepted)
			}
		}, 0, "", 3, 300 * time.Millisecond},
		{"503 for ever", func(_ int, w http.ResponseWriter) { http.Error(w, "no leader", http.StatusServiceUnavailable) }, 503, "no leader", retries + 1, 1500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			scene(t, func(t *testing.T, n *memnet.Network) {
				d := newDouble(t, "10.0.0.1:5050")
				times := 0
				d.answer = func(w http.ResponseWriter, _ *scheduler.Call) {
					times++
					c.answer(times, w)
				}
				defer n.Serve(d.addr, d)()
				r := start(t, config(n, one), "")
				next[mesos.Subscribed](t, r)
				begin := time.Now()
				err := r.Send(t.Context(), mesos.Kill{TaskID: "t"})
				var refused *CallError
				switch {
				case c.status == 0 && err != nil:
					t.Fatal(err)
				case c.status != 0 && (!errors.As(err, &refused) || refused.Status != c.status || refused.Body != c.body || refused.Call != "KILL"):
					t.Fatalf("%v", err)
				case time.Since(begin) != c.took:
					t.Fatalf("took %s", time.Since(begin))
				case times != c.calls:
					t.Fatalf("called %d times", times)
				}
				// Whatever became of the call, the subscription stands.
				d.say(mesos.Rescind{OfferID: "o"})
				next[mesos.Rescind](t, r)
				r.stop(t)
			})
		})
	}
}

func TestSendNeedsASubscription(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		r := start(t, config(n, one), "")
		if err := r.Send(t.Context(), mesos.Revive{}); !errors.Is(err, ErrNotSubscribed) {
			t.Fatal(err)
		}
		down := n.Serve(d.addr, d)
		next[mesos.Subscribed](t, r)
		down()
		next[mesos.Disconnected](t, r)
		if err := r.Send(t.Context(), mesos.Revive{}); !errors.Is(err, ErrNotSubscribed) {
			t.Fatal(err)
		}
		if d.seen() != "SUBSCRIBE" {
			t.Fatal(d.seen())
		}
		r.stop(t)
	})
}

// A call that waits for its answer does not outlive the stream it belongs to.
func TestSendEndsWithTheStream(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		d.answer = func(w http.ResponseWriter, _ *scheduler.Call) { <-w.(*response).gone }
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		done := make(chan error)
		go func() { done <- r.Send(context.Background(), mesos.Revive{}) }()
		<-time.After(time.Second)
		d.hangup <- struct{}{}
		if err := <-done; !errors.Is(err, ErrNotSubscribed) {
			t.Fatal(err)
		}
		next[mesos.Disconnected](t, r)
		r.stop(t)
	})
}

// The stream may end before the call that ends it is answered.
func TestTeardownOutlivesTheStream(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		d.answer = func(w http.ResponseWriter, _ *scheduler.Call) {
			d.hangup <- struct{}{}
			time.Sleep(time.Second)
			w.WriteHeader(http.StatusAccepted)
		}
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		if err := r.Send(t.Context(), mesos.Teardown{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSendTimesOut(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		d.answer = func(w http.ResponseWriter, _ *scheduler.Call) { <-w.(*response).gone }
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		begin := time.Now()
		if err := r.Send(t.Context(), mesos.Revive{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if time.Since(begin) != 30*time.Second {
			t.Fatal(time.Since(begin))
		}
		r.stop(t)
	})
}

func TestSendFollowsTheLeader(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		a, b := newDouble(t, "10.0.0.1:5050"), newDouble(t, "10.0.0.2:5050")
		a.answer = func(w http.ResponseWriter, call *scheduler.Call) {
			if call.Type == scheduler.Call_REVIVE {
				w.Header().Set("Location", "//10.0.0.2:5050/api/v1/scheduler")
			}
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
		defer n.Serve(a.addr, a)()
		defer n.Serve(b.addr, b)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		if err := r.Send(t.Context(), mesos.Revive{}); err != nil {
			t.Fatal(err)
		}
		if b.seen() != "REVIVE" {
			t.Fatal(b.seen())
		}
		if err := r.Send(t.Context(), mesos.Suppress{}); err == nil || !strings.Contains(err.Error(), "not where to") {
			t.Fatal(err)
		}
		r.stop(t)
	})
}

// Neighbours of one kind travel side by side; kinds do not overtake each other.
func TestSendAll(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		var mu sync.Mutex
		under, most := 0, 0
		d.answer = func(w http.ResponseWriter, call *scheduler.Call) {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			<-time.After(time.Millisecond)
			mu.Lock()
			under--
			mu.Unlock()
			if call.GetKill().GetTaskID().Value == "k7" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusAccepted)
		}
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		calls := []mesos.Call{mesos.Revive{}, mesos.ToExecutor{ExecutorID: "1"}, mesos.ToExecutor{ExecutorID: "2"}}
		for i := range 20 {
			calls = append(calls, mesos.Kill{TaskID: fmt.Sprint("k", i)})
		}
		calls = append(calls, mesos.Suppress{})
		for i := range 3 {
			calls = append(calls, mesos.Acknowledge{TaskID: fmt.Sprint("t", i), UUID: []byte("u")})
		}
		errs := r.SendAll(t.Context(), calls)
		if len(errs) != len(calls) {
			t.Fatal(len(errs))
		}
		for i, err := range errs {
			var refused *CallError
			if wrong := i == 3+7; wrong != errors.As(err, &refused) || !wrong && err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		want := "SUBSCRIBE REVIVE MESSAGE MESSAGE" + strings.Repeat(" KILL", 20) + " SUPPRESS" + strings.Repeat(" ACKNOWLEDGE", 3)
		if d.seen() != want {
			t.Fatal(d.seen())
		}
		if d.call(2).Message.ExecutorID.Value != "1" {
			t.Error("messages overtook each other")
		}
		if most != parallel {
			t.Errorf("%d calls at most were under way", most)
		}
		r.stop(t)
		for _, err := range r.SendAll(t.Context(), calls) {
			if !errors.Is(err, ErrNotSubscribed) {
				t.Error(err)
			}
		}
	})
}

func TestCallsThatCannotBeSaid(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		task := mesos.Task{ID: "t", Resources: []mesos.Resource{{Name: "cpus", Wire: []byte{0xff}}}}
		if err := r.Send(t.Context(), mesos.Accept{OfferIDs: []string{"o"}, Tasks: []mesos.Task{task}}); err == nil {
			t.Error("a broken resource was sent")
		}
		if err := r.Send(t.Context(), nil); err == nil {
			t.Error("no call was sent")
		}
		r.stop(t)
	})
}
