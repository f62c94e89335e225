package master

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
	"padis.io/padis/mesos/wire/memnet"
)

const one = "http://10.0.0.1:5050"

func TestSubscription(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		defer n.Serve(d.addr, d)()
		cfg := config(n, one)
		cfg.Framework = Framework{Name: "padis", Hostname: "h", Principal: "p", WebUI: "http://ui", Roles: []string{"a", "b"}}
		r := start(t, cfg, "")
		if got := next[mesos.Subscribed](t, r); got.FrameworkID != "fw-1" || got.Heartbeat != 15*time.Second || got.Master != "10.0.0.1:5050" {
			t.Fatalf("%+v", got)
		}
		d.events <- heartbeatFrame(t)
		d.say(mesos.Offers{Offers: []mesos.Offer{{ID: "o", AgentID: "a"}}})
		d.say(mesos.Rescind{OfferID: "o"})
		if got := next[mesos.Offers](t, r); got.Offers[0].ID != "o" {
			t.Fatalf("%+v", got)
		}
		next[mesos.Rescind](t, r)

		info := d.call(0).Subscribe.FrameworkInfo
		if info.ID != nil || info.Name != "padis" || info.User != "root" || !info.GetCheckpoint() || info.GetFailoverTimeout() != 4*7*86400 ||
			!reflect.DeepEqual(info.Roles, []string{"a", "b"}) || info.GetPrincipal() != "p" || info.GetWebUiURL() != "http://ui" {
			t.Fatalf("FrameworkInfo %+v", info)
		}
		var caps []string
		for _, c := range info.Capabilities {
			caps = append(caps, c.Type.String())
		}
		if got := strings.Join(caps, " "); got != "PARTITION_AWARE MULTI_ROLE TASK_KILLING_STATE" {
			t.Fatalf("capabilities %s", got)
		}

		// A lost stream is told once, and the id that the master gave is used from then on.
		d.hangup <- struct{}{}
		if got := next[mesos.Disconnected](t, r); !errors.Is(got.Err, io.EOF) {
			t.Fatalf("%+v", got)
		}
		next[mesos.Subscribed](t, r)
		again := d.call(1)
		if again.GetFrameworkID().GetValue() != "fw-1" || again.Subscribe.FrameworkInfo.GetID().GetValue() != "fw-1" {
			t.Fatalf("%+v", again)
		}
		r.stop(t)
	})
}

func TestRefusedStreams(t *testing.T) {
	subscribed := mesos.Subscribed{FrameworkID: "fw-1", Heartbeat: 15 * time.Second}
	raw := func(t *testing.T, kind, id, body string) func(http.ResponseWriter, *scheduler.Call) {
		return func(w http.ResponseWriter, _ *scheduler.Call) {
			w.Header().Set("Content-Type", kind)
			if id != "" {
				w.Header().Set(streamHeader, id)
			}
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name string
		// first answers the first SUBSCRIBE, later ones succeed.
		first func(t *testing.T) func(http.ResponseWriter, *scheduler.Call)
		// told is what reaches the handler before it comes right, by type.
		told string
		// why is a part of the reason given.
		why string
	}{
		{"503 during recovery", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return func(w http.ResponseWriter, _ *scheduler.Call) {
				http.Error(w, "Master has not finished recovery", http.StatusServiceUnavailable)
			}
		}, "", ""},
		{"401", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return func(w http.ResponseWriter, _ *scheduler.Call) { http.Error(w, "who?", http.StatusUnauthorized) }
		}, "Failed", "who?"},
		{"page of a proxy", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, "text/html", testStream, "<html>")
		}, "", ""},
		{"no stream id", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, protobuf, "", string(frame(t, subscribed)))
		}, "", ""},
		{"EOF before the first event", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, protobuf, testStream, "")
		}, "", ""},
		{"EOF within an event", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, protobuf, testStream, string(frame(t, subscribed))+"100\nabc")
		}, "Subscribed Disconnected", "ended after 3"},
		{"length beyond the bound", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, protobuf, testStream, string(frame(t, subscribed))+"536870913\n")
		}, "Subscribed Disconnected", "536870913 bytes"},
		{"no frames", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, protobuf, testStream, string(frame(t, subscribed))+"{}")
		}, "Subscribed Disconnected", "not a RecordIO stream"},
		{"no event in the frame", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, protobuf, testStream, string(frame(t, subscribed))+"3\n\xff\xff\xff")
		}, "Subscribed Disconnected", "does not decode"},
		{"ERROR that an operator can mend", func(t *testing.T) func(http.ResponseWriter, *scheduler.Call) {
			return raw(t, protobuf, testStream, string(frame(t, mesos.Failed{Message: "Role 'x' is not present"})))
		}, "Failed", "Role 'x'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			scene(t, func(t *testing.T, n *memnet.Network) {
				d := newDouble(t, "10.0.0.1:5050")
				good, first := d.subscribe, c.first(t)
				times := 0
				d.subscribe = func(w http.ResponseWriter, call *scheduler.Call) {
					if times++; times == 1 {
						first(w, call)
					} else {
						good(w, call)
					}
				}
				defer n.Serve(d.addr, d)()
				r := start(t, config(n, one), "")
				why := ""
				for _, want := range strings.Fields(c.told) {
					e := <-r.events
					if got := fmt.Sprintf("%T", e); got != "mesos."+want {
						t.Fatalf("got %s, want %s", got, want)
					}
					why += fmt.Sprintf("%v", e)
				}
				if !strings.Contains(why, c.why) {
					t.Fatalf("told %q, want %q in it", why, c.why)
				}
				next[mesos.Subscribed](t, r)
				if d.seen() != "SUBSCRIBE SUBSCRIBE" {
					t.Fatal(d.seen())
				}
				r.stop(t)
			})
		})
	}
}

func TestTheEndOfAFramework(t *testing.T) {
	for text, want := range map[string]error{
		"Framework has been removed": ErrFrameworkRemoved,
		"Framework failed over":      ErrFailedOver,
	} {
		t.Run(text, func(t *testing.T) {
			scene(t, func(t *testing.T, n *memnet.Network) {
				d := newDouble(t, "10.0.0.1:5050")
				defer n.Serve(d.addr, d)()
				r := start(t, config(n, one), "fw-1")
				next[mesos.Subscribed](t, r)
				d.say(mesos.Failed{Message: text})
				if got := next[mesos.Failed](t, r); got.Message != text {
					t.Fatalf("%+v", got)
				}
				next[mesos.Disconnected](t, r)
				if err := <-r.result; !errors.Is(err, want) {
					t.Fatal(err)
				}
				if err := r.Send(t.Context(), mesos.Revive{}); !errors.Is(err, ErrNotSubscribed) {
					t.Fatal(err)
				}
			})
		})
	}
}

// Five intervals without a byte, and the master is given up; bytes that come slowly are signs of life, and so is
// silence while it is us who does not listen.
func TestWatchdog(t *testing.T) {
	t.Run("silence", func(t *testing.T) {
		scene(t, func(t *testing.T, n *memnet.Network) {
			d := newDouble(t, "10.0.0.1:5050")
			d.subscribe = func(w http.ResponseWriter, _ *scheduler.Call) {
				d.stream(w, mesos.Subscribed{FrameworkID: "fw-1", Heartbeat: 2 * time.Second})
			}
			down := n.Serve(d.addr, d)
			r := start(t, config(n, one), "")
			next[mesos.Subscribed](t, r)
			<-time.After(9 * time.Second)
			d.events <- heartbeatFrame(t)
			synctest.Wait()
			begin := time.Now()
			if got := next[mesos.Disconnected](t, r); !errors.Is(got.Err, errSilent) {
				t.Fatalf("%+v", got)
			}
			if waited := time.Since(begin); waited != 10*time.Second {
				t.Fatalf("gave up after %s", waited)
			}
			down()
			r.stop(t)
		})
	})
	t.Run("slow frames", func(t *testing.T) {
		scene(t, func(t *testing.T, n *memnet.Network) {
			d := newDouble(t, "10.0.0.1:5050")
			defer n.Serve(d.addr, d)()
			r := start(t, config(n, one), "")
			next[mesos.Subscribed](t, r)
			for _, b := range frame(t, mesos.Rescind{OfferID: "o"}) {
				<-time.After(time.Minute)
				d.events <- []byte{b}
			}
			next[mesos.Rescind](t, r)
			r.stop(t)
		})
	})
	t.Run("slow handler", func(t *testing.T) {
		scene(t, func(t *testing.T, n *memnet.Network) {
			d := newDouble(t, "10.0.0.1:5050")
			defer n.Serve(d.addr, d)()
			r := start(t, config(n, one), "")
			next[mesos.Subscribed](t, r)
			r.events <- nil // the buffer takes a thousand: fill it, and the queue behind it
			for range cap(r.events) - 1 {
				r.events <- nil
			}
			for range queued + 10 {
				go d.say(mesos.Rescind{OfferID: "o"})
			}
			<-time.After(time.Hour)
			for range cap(r.events) {
				<-r.events
			}
			for range queued + 10 {
				next[mesos.Rescind](t, r)
			}
			r.stop(t)
		})
	})
	t.Run("no answer to SUBSCRIBE", func(t *testing.T) {
		scene(t, func(t *testing.T, n *memnet.Network) {
			d := newDouble(t, "10.0.0.1:5050")
			good, times := d.subscribe, 0
			d.subscribe = func(w http.ResponseWriter, call *scheduler.Call) {
				if times++; times == 1 {
					<-w.(*response).gone
					return
				}
				good(w, call)
			}
			defer n.Serve(d.addr, d)()
			r := start(t, config(n, one), "")
			next[mesos.Subscribed](t, r)
			if waited := d.times[1].Sub(d.times[0]); waited < 30*time.Second || waited > 31*time.Second {
				t.Fatalf("tried again after %s", waited)
			}
			r.stop(t)
		})
	})
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		chance float64
		want   []time.Duration
	}{
		{0, []time.Duration{50, 100, 200, 400, 500, 500, 500}},
		{1, []time.Duration{100, 200, 400, 800, 1000, 1000, 1000}},
	} {
		scene(t, func(t *testing.T, n *memnet.Network) {
			d := newDouble(t, "10.0.0.1:5050")
			d.subscribe = func(w http.ResponseWriter, _ *scheduler.Call) { w.WriteHeader(http.StatusServiceUnavailable) }
			defer n.Serve(d.addr, d)()
			cfg := config(n, one)
			cfg.MaxBackoff = time.Second
			cfg.Rand = func() float64 { return c.chance }
			r := start(t, cfg, "")
			<-time.After(time.Minute)
			r.stop(t)
			for i, want := range c.want {
				if got := d.times[i+1].Sub(d.times[i]); got != want*time.Millisecond {
					t.Errorf("chance %v, pause %d is %s, want %dms", c.chance, i, got, want)
				}
			}
		})
	}
}

func TestLeaderDetectionByList(t *testing.T) {
	const list = "http://10.0.0.1,10.0.0.2:5050,10.0.0.3"
	t.Run("redirected", func(t *testing.T) {
		for _, location := range []string{"//10.0.0.3:5050", "//10.0.0.3:5050/api/v1/scheduler", "http://10.0.0.3:5050/api/v1/scheduler"} {
			scene(t, func(t *testing.T, n *memnet.Network) {
				follower, leader := newDouble(t, "10.0.0.2:5050"), newDouble(t, "10.0.0.3:5050")
				follower.subscribe = func(w http.ResponseWriter, _ *scheduler.Call) {
					w.Header().Set("Location", location)
					w.WriteHeader(http.StatusTemporaryRedirect)
				}
				defer n.Serve(follower.addr, follower)()
				defer n.Serve(leader.addr, leader)()
				r := start(t, config(n, list), "") // 10.0.0.1 refuses connections
				next[mesos.Subscribed](t, r)
				if err := r.Send(t.Context(), mesos.Revive{}); err != nil {
					t.Fatal(err)
				}
				if follower.seen() != "SUBSCRIBE" || leader.seen() != "SUBSCRIBE REVIVE" {
					t.Fatalf("follower %s, leader %s", follower.seen(), leader.seen())
				}
				r.stop(t)
			})
		}
	})
	t.Run("redirected for ever", func(t *testing.T) {
		scene(t, func(t *testing.T, n *memnet.Network) {
			a, b := newDouble(t, "10.0.0.1:5050"), newDouble(t, "10.0.0.2:5050")
			point := func(to string) func(http.ResponseWriter, *scheduler.Call) {
				return func(w http.ResponseWriter, _ *scheduler.Call) {
					w.Header().Set("Location", "//"+to)
					w.WriteHeader(http.StatusTemporaryRedirect)
				}
			}
			good, wrong, times := a.subscribe, point(b.addr), 0
			a.subscribe = func(w http.ResponseWriter, call *scheduler.Call) {
				if times++; times > maxRedirects+1 { // both masters were tried, each half of the way
					good(w, call)
					return
				}
				wrong(w, call)
			}
			b.subscribe = point(a.addr)
			defer n.Serve(a.addr, a)()
			defer n.Serve(b.addr, b)()
			r := start(t, config(n, "http://10.0.0.1,10.0.0.2"), "")
			synctest.Wait()
			if got := a.asked() + b.asked(); got != 2*(maxRedirects+1) {
				t.Fatalf("asked %d times", got)
			}
			next[mesos.Subscribed](t, r)
			r.stop(t)
		})
	})
	t.Run("a leader that dies", func(t *testing.T) {
		scene(t, func(t *testing.T, n *memnet.Network) {
			a, b := newDouble(t, "10.0.0.1:5050"), newDouble(t, "10.0.0.3:5050")
			down := n.Serve(a.addr, a)
			r := start(t, config(n, list), "")
			next[mesos.Subscribed](t, r)
			down()
			next[mesos.Disconnected](t, r)
			defer n.Serve(b.addr, b)()
			next[mesos.Subscribed](t, r)
			if b.call(0).GetFrameworkID().GetValue() != "fw-1" {
				t.Fatal("the new leader was not told who we are")
			}
			r.stop(t)
		})
	})
}

// A giant event passes.
func TestGiantEvent(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		d.say(mesos.FromExecutor{AgentID: "a", ExecutorID: "e", Data: make([]byte, 20<<20)})
		if got := next[mesos.FromExecutor](t, r); len(got.Data) != 20<<20 {
			t.Fatal(len(got.Data))
		}
		r.stop(t)
	})
}

// A framework id other than ours is the one that the master goes by.
func TestTheMastersIDCounts(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "fw-0")
		next[mesos.Subscribed](t, r)
		if err := r.Send(t.Context(), mesos.Revive{}); err != nil {
			t.Fatal(err)
		}
		if got := d.call(1).GetFrameworkID().GetValue(); got != "fw-1" {
			t.Fatal(got)
		}
		r.stop(t)
	})
}

func TestUnknownEventsAreSkipped(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		defer n.Serve(d.addr, d)()
		r := start(t, config(n, one), "")
		next[mesos.Subscribed](t, r)
		b, err := (&scheduler.Event{Type: 99}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		d.events <- wire.AppendFrame(nil, b)
		d.say(mesos.Rescind{OfferID: "o"})
		next[mesos.Rescind](t, r)
		r.stop(t)
	})
}
