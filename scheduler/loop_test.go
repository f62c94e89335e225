package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/record"
)

// tape records, in one line each, what the loop did to the world.
type tape struct {
	lines []string
	// commits and sends that fail next.
	commits, sends int
}

var errTape = errors.New("it does not work")

func (r *tape) Commit(_ context.Context, writes []record.Write) error {
	if r.commits > 0 {
		r.commits--
		r.lines = append(r.lines, "commit fails")
		return errTape
	}
	r.lines = append(r.lines, fmt.Sprintf("commit %d", len(writes)))
	return nil
}

func (r *tape) Send(_ context.Context, call mesos.Call) error {
	name := strings.TrimPrefix(fmt.Sprintf("%T", call), "mesos.")
	if r.sends > 0 {
		r.sends--
		r.lines = append(r.lines, name+" fails")
		return errTape
	}
	r.lines = append(r.lines, name)
	return nil
}

func (r *tape) take() string {
	s := strings.Join(r.lines, "; ")
	r.lines = nil
	return s
}

func newLoop(t *testing.T, cfg Config) (*Loop, *tape) {
	t.Helper()
	c, err := core.New(core.Config{Role: "padis", Artifact: core.Artifact{URI: "u", SHA256: "s"}}, record.Snapshot{})
	if err != nil {
		t.Fatal(err)
	}
	r := &tape{}
	cfg.Core, cfg.Ledger, cfg.Master = c, r, r
	return New(cfg), r
}

func app() *padisv1.WantedApp {
	return &padisv1.WantedApp{Uid: "uid", Namespace: "ns", Name: "web", Slots: []*padisv1.WantedSlot{{Revision: "r"}}, Revisions: []*padisv1.Revision{{
		Hash: "r", Template: &padisv1.Template{Resources: &padisv1.Resources{CpuMilli: 100, MemoryMib: 32}},
	}}}
}

func offers() mesos.Offers {
	return mesos.Offers{Offers: []mesos.Offer{{ID: "o", AgentID: "a", Hostname: "h", Role: "padis", Resources: []mesos.Resource{{Name: "cpus", Milli: 4000}, {Name: "mem", Milli: 4096000}}}}}
}

func events(evs ...mesos.Event) (out []core.Event) {
	for _, e := range evs {
		out = append(out, core.FromMesos{Event: e})
	}
	return out
}

// Persist, send, acknowledge: in this order, in one commit.
func TestTurnOrder(t *testing.T) {
	l, r := newLoop(t, Config{})
	ctx, now := context.Background(), time.Unix(1e9, 0)
	turn := func(evs []core.Event) string {
		t.Helper()
		if err := l.Turn(ctx, now, evs); err != nil {
			t.Fatal(err)
		}
		return r.take()
	}
	if got := turn(append(events(mesos.Subscribed{FrameworkID: "F"}), core.Want{App: app()})); got != "commit 3; Reconcile; Revive" {
		t.Error(got)
	}
	if got := turn(events(offers())); got != "commit 3; Accept; Suppress" {
		t.Error(got)
	}
	up := mesos.Update{Status: mesos.Status{TaskID: "ns.web-0.uid.1", AgentID: "a", State: mesos.TaskRunning, Source: "SOURCE_EXECUTOR", UUID: []byte("1")}}
	if got := turn(events(up)); got != "commit 1; ToExecutor; Acknowledge" {
		t.Error(got)
	}
	if got := turn(events(up)); got != "Acknowledge" {
		t.Error("the same update again: " + got)
	}
}

// While the ledger does not work nothing is sent; then the same writes go first, and then the events that came meanwhile.
func TestCommitFails(t *testing.T) {
	l, r := newLoop(t, Config{})
	ctx, now := context.Background(), time.Unix(1e9, 0)
	r.commits = 2
	if err := l.Turn(ctx, now, append(events(mesos.Subscribed{FrameworkID: "F"}), core.Want{App: app()})); !errors.Is(err, errTape) {
		t.Fatal(err)
	}
	if err := l.Turn(ctx, now, events(offers())); !errors.Is(err, errTape) {
		t.Fatal(err)
	}
	if got := r.take(); got != "commit fails; commit fails" {
		t.Error(got)
	}
	if err := l.Turn(ctx, now, nil); err != nil {
		t.Fatal(err)
	}
	if got := r.take(); got != "commit 3; Reconcile; Revive; commit 3; Accept; Suppress" {
		t.Error(got)
	}
}

// A call that was not sent is told to the core in the next turn, which is due at once.
func TestSendFails(t *testing.T) {
	l, r := newLoop(t, Config{})
	ctx, now := context.Background(), time.Unix(1e9, 0)
	r.sends = 2
	if err := l.Turn(ctx, now, events(mesos.Subscribed{FrameworkID: "F"}, offers())); err != nil {
		t.Fatal(err)
	}
	if got := r.take(); got != "commit 1; Reconcile fails; Decline fails; Suppress" {
		t.Error(got)
	}
	if !l.Next().Equal(now) {
		t.Error("the next turn is not due at once")
	}
	if err := l.Turn(ctx, now, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Turn(ctx, now.Add(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	if got := r.take(); got != "Reconcile; Decline" {
		t.Error(got)
	}
}

// Run answers reconcilers when what they want is durable, and takes turns by itself when time has come.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLoop(t, Config{})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		r.commits = 3
		err := l.Want(ctx, app())
		if !errors.Is(err, errTape) {
			t.Errorf("not durable, and Want says %v", err)
		}
		if err := l.Want(ctx, app()); err != nil {
			t.Error(err)
		}
		if err := l.Declare(ctx, &padisv1.Cluster{Tenants: []*padisv1.Tenant{{Name: "t"}}}); err != nil {
			t.Error(err)
		}
		if err := l.Deliver(ctx, mesos.Subscribed{FrameworkID: "F"}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		r.take()
		time.Sleep(5 * time.Second) // Of the bubble's clock: REVIVE is repeated.
		synctest.Wait()
		if got := r.take(); !strings.Contains(got, "Revive") {
			t.Errorf("after five seconds: %q", got)
		}
		if err := l.Forget(ctx, "uid"); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := l.Want(context.Background(), app()); !errors.Is(err, ErrStopped) {
			t.Errorf("stopped, and Want says %v", err)
		}
		if err := l.Deliver(context.Background(), mesos.Disconnected{}); err != nil && !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

// A ledger that stays away ends Run, and one that was taken over does so at once.
func TestRunGivesUp(t *testing.T) {
	for name, cfg := range map[string]Config{
		"patience":  {Patience: 10 * time.Second},
		"permanent": {Permanent: func(err error) bool { return errors.Is(err, errTape) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, r := newLoop(t, cfg)
				r.commits = 1 << 30
				ended := make(chan error, 1)
				began := time.Now()
				go func() { ended <- l.Run(t.Context()) }()
				_ = l.Want(t.Context(), app())
				if err := <-ended; !errors.Is(err, errTape) {
					t.Error(err)
				}
				if took := time.Since(began); name == "permanent" && took > 0 || name == "patience" && (took < 10*time.Second || took > 11*time.Second) {
					t.Errorf("gave up after %s", took)
				}
			})
		})
	}
}
