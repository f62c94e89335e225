package executor

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"padis.io/padis/executor/network"
	"padis.io/padis/executor/relay"
	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// relayer puts all in force at once, and remembers it as text.
type relayer struct {
	mu      sync.Mutex
	state   relay.State
	said    []string
	failed  string
	changed chan struct{}
}

func (r *relayer) Set(s relay.State) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s
	line := ""
	for _, b := range s.Balances {
		line += fmt.Sprintf("%s#%d ", b.UID, b.Number)
	}
	for _, p := range slices.SortedFunc(slices.Values(s.Ports), func(a, b relay.Port) int { return bytes.Compare(a.MAC[:], b.MAC[:]) }) {
		line += fmt.Sprintf("%s>%d ", network.MAC(p.MAC), p.Out)
	}
	if s.Partial {
		line += "partial"
	}
	r.said = append(r.said, strings.TrimSpace(line))
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return uint64(len(r.said))
}

func (r *relayer) Wait(context.Context, uint64) error { return nil }
func (r *relayer) Changed() <-chan struct{}           { return r.changed }

func (r *relayer) Done() map[string]relay.Done {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]relay.Done{}
	for _, b := range r.state.Balances {
		out[b.UID] = relay.Done{Number: b.Number, Error: r.failed}
	}
	return out
}

// last is what was put in force last, and how often something was.
func (r *relayer) last() (string, int) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.said) == 0 {
		return "", 0
	}
	return r.said[len(r.said)-1], len(r.said)
}

func (r *relayer) wire(_ *world, c *Config) { c.Relay = r }

func newRelayer() *relayer { return &relayer{changed: make(chan struct{}, 1)} }

// balance of these containers, cN with the address 10.44.0.N.
func balanceOf(uid string, number int64, servers ...int) *padisv1.ToExecutor {
	b := &padisv1.Balance{Uid: uid, Number: number, Namespace: "shop", Name: uid, Tcp: []byte("table"), Udp: make([]byte, 4096)}
	for _, n := range servers {
		b.Servers = append(b.Servers, &padisv1.RealServer{Id: fmt.Sprint("c", n), Address: fmt.Sprint("10.44.0.", n)})
	}
	return &padisv1.ToExecutor{Balance: b}
}

// balances that the scheduler hears of, as text, once it has.
func (w *world) balances() string {
	time.Sleep(balancePause)
	var out []string
	for _, b := range w.heard().GetBalances() {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s#%d %s", b.GetUid(), b.GetNumber(), b.GetReason())))
	}
	return strings.Join(out, ", ")
}

func (w *world) failWith(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failing[what] = err
}

func (w *world) forced(r *relayer, want string) {
	w.t.Helper()
	if got, _ := r.last(); got != want {
		w.t.Errorf("in force: %q, want %q", got, want)
	}
}

func (w *world) told(want string) {
	w.t.Helper()
	if got := w.balances(); got != want {
		w.t.Errorf("told %q, want %q", got, want)
	}
}

const mac1, mac2 = "02:42:0a:2c:00:01>1006", "02:42:0a:2c:00:02>1006"

func TestRealServersRelay(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		r := newRelayer()
		w := k.executor(r.wire)
		w.running(1, "c1")
		w.running(9, "c9")
		w.send(&padisv1.ToExecutor{Generation: 1, Balancers: []string{"u"}})
		w.send(balanceOf("u", 1, 1, 2, 3))
		w.forced(r, "u#1 "+mac1)
		w.told("u#1")
		if body := r.state.Balances[0].Body; strings.Contains(string(body), "10.44") || !strings.Contains(string(body), "table") || len(body) > 100 {
			t.Errorf("body %q", body)
		}
		// What is told again is answered again, and costs nothing.
		_, before := r.last()
		n := w.messages()
		w.send(balanceOf("u", 1, 1, 2, 3))
		time.Sleep(balancePause)
		if _, after := r.last(); after != before || w.messages() != n+1 {
			t.Errorf("%d orders, then %d; %d messages", before, after, w.messages()-n)
		}
		w.send(balanceOf("u", 3, 1, 2))
		w.send(balanceOf("u", 2, 1))
		w.forced(r, "u#3 "+mac1)
		w.told("u#3")
		// One that starts later relays from its first packet on.
		w.running(2, "c2")
		w.forced(r, "u#3 "+mac1+" "+mac2)
		k.container("c1").end(runtime.Exit{})
		w.until("c1", "TASK_FINISHED Exited")
		w.forced(r, "u#3 "+mac2)
		// Another load balancer has the same server.
		w.send(&padisv1.ToExecutor{Generation: 2, Balancers: []string{"u", "v"}})
		w.send(balanceOf("v", 1, 2, 9))
		w.told("u#3, v#1")
		if got, _ := r.last(); !strings.HasPrefix(got, "u#3 v#1 ") || strings.Count(got, ">") != 2 {
			t.Errorf("in force: %q", got)
		}
		w.send(&padisv1.ToExecutor{Generation: 3, Balancers: []string{"v"}})
		if got, _ := r.last(); !strings.HasPrefix(got, "v#1 ") {
			t.Errorf("in force: %q", got)
		}
		w.told("v#1")
		w.send(&padisv1.ToExecutor{Generation: 4})
		w.forced(r, "")
		w.told("")
		if h := w.history("relays"); !strings.HasSuffix(h, "[] prune=true") || !strings.Contains(h, "[padis0] prune=true") {
			t.Errorf("pairs: %s", h)
		}
	})
}

func TestARelayThatFailsHoldsNobodyUp(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		r := newRelayer()
		w := k.executor(r.wire)
		w.running(1, "c1")
		w.failWith("relays", errNo)
		w.send(&padisv1.ToExecutor{Generation: 1, Balancers: []string{"u"}})
		w.send(balanceOf("u", 1, 1))
		w.told("u#1 RelayUnavailable")
		w.failWith("relays", nil)
		time.Sleep(relayRetry)
		w.forced(r, "u#1 "+mac1)
		w.told("u#1")
		r.mu.Lock()
		r.failed = "this kernel has no tcx"
		r.mu.Unlock()
		w.send(balanceOf("u", 2, 1))
		w.told("u#2 RelayUnavailable")
		if m := w.heard().GetBalances()[0].GetMessage(); m != "this kernel has no tcx" {
			t.Error(m)
		}
		// An instance that has just ended spoils nothing.
		w.failWith("port", errNo)
		w.send(balanceOf("u", 3, 1))
		w.forced(r, "u#3")
	})
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.send(balanceOf("u", 1, 1))
		w.told("u#1 RelayUnavailable")
	})
}

// What an earlier executor put in force is changed when it is known what it was.
func TestTheNextExecutorRelaysOn(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor(newRelayer().wire)
		old.running(1, "c1")
		old.running(2, "c2")
		old.cancel()
		old.over()

		r := newRelayer()
		w := k.executor(r.wire)
		w.send(balanceOf("u", 4, 1, 2))
		w.send(&padisv1.ToExecutor{Generation: 1, Balancers: []string{"u", "v"}})
		w.launch(1, "t1", adoption("c1"))
		w.until("t1", "TASK_RUNNING Ready ready")
		if _, n := r.last(); n > 0 {
			t.Fatalf("in force without all: %v", r.said)
		}
		w.told("u#0")
		w.send(balanceOf("v", 7, 2))
		w.forced(r, "u#4 v#7 "+mac1+" partial")
		if h := w.history("relays"); h != "[padis0] prune=false" {
			t.Errorf("pairs: %s", h)
		}
		w.told("u#4, v#7")
		w.launch(2, "t2", adoption("c2"))
		w.until("t2", "TASK_RUNNING Ready ready")
		w.forced(r, "u#4 v#7 "+mac1+" "+mac2)
		// At the end of all nothing is left.
		w.Handle(mesos.Shutdown{})
		w.over()
		w.forced(r, "")
	})
	// A load balancer of which nothing is heard is not waited for for ever.
	scene(t, func(t *testing.T, k *keeper) {
		r := newRelayer()
		w := k.executor(r.wire)
		w.running(1, "c1")
		w.send(balanceOf("u", 4, 1))
		time.Sleep(gatherTime - time.Millisecond)
		if _, n := r.last(); n > 0 {
			t.Fatalf("in force: %v", r.said)
		}
		time.Sleep(time.Millisecond)
		w.forced(r, "u#4 "+mac1)
	})
}
