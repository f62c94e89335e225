package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/api/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/record"
)

// ledger keeps records. Commit is atomic, or, for what is too large, a sequence of transactions in the order given.
type ledger interface {
	Commit(ctx context.Context, writes []record.Write) error
}

// master takes calls. An error means that the call was not sent or that nobody knows.
type master interface {
	Send(ctx context.Context, call mesos.Call) error
}

// view is where the world reads one kind of object.
type view[T any] interface {
	Set(obj T)
	Delete(namespace, name string)
}

// Config is what a Loop works with.
type Config struct {
	Core   *core.Core
	Ledger ledger
	Master master
	// Views show what the core knows; nil ones are not served.
	Instances view[*runtime.Instance]
	Agents    view[*runtime.Agent]
	Addresses view[*runtime.Address]
	Log       *zap.Logger
	// Now is the clock; time.Now unless set.
	Now func() time.Time
	// Permanent tells whether an error of Commit cannot heal, for example because another process has taken over. Run
	// returns such errors at once. Nil means that all can.
	Permanent func(error) bool
	// Patience is for how long a failing commit is repeated before Run returns; default 30 s.
	Patience time.Duration
}

// Loop runs the framework. Run and Turn must not be called at the same time; all other methods may be called from
// several goroutines while Run runs.
type Loop struct {
	cfg  Config
	core *core.Core
	// owed are effects that are decided and not yet durable.
	owed *core.Effects
	// unsent are calls of the last turn that could not be sent; the core hears of them in the next.
	unsent []core.Event
	// at is the time of the last turn, next that of the next one.
	at, next time.Time
	shown    shown
	memory   *memory

	inbox chan core.Event
	asked chan request
	// done is closed when Run has returned.
	done chan struct{}
}

// request is a wish of a reconciler; done gets the result when it is durable. With look it is none: look is called when
// all that is decided is durable.
type request struct {
	event core.Event
	look  func(*core.Core)
	done  chan error
}

// ErrStopped is what requests get when the loop does not run any more.
var ErrStopped = errors.New("the scheduler has stopped; try again")

const (
	// batch bounds the events of one turn, so that the first of them does not wait for ever.
	batch           = 2048
	defaultPatience = 30 * time.Second
	// retryPause is the time between two attempts to commit the same writes.
	retryPause = 200 * time.Millisecond
)

// New makes a loop and shows what the core knows. It neither reads nor sends anything yet.
func New(cfg Config) *Loop {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	l := &Loop{
		cfg: cfg, core: cfg.Core, shown: newShown(), memory: newMemory(cfg.Core),
		inbox: make(chan core.Event, batch), asked: make(chan request, 64), done: make(chan struct{}),
	}
	l.show(core.Changed{})
	return l
}

// Turn takes in events, lets time pass until now and carries out what the core decides: persist, send, acknowledge. An
// error means that the writes are not durable; nothing was sent then, the events are taken in nevertheless, and the next
// Turn begins with the same writes.
func (l *Loop) Turn(ctx context.Context, now time.Time, events []core.Event) error {
	l.at = now
	if l.owed != nil {
		if err := l.carryOut(ctx, *l.owed); err != nil {
			// These events come after effects that are still owed: they wait in line.
			l.unsent = append(l.unsent, events...)
			return err
		}
	}
	if len(l.unsent) > 0 {
		events = append(l.unsent, events...)
		l.unsent = nil
	}
	eff := l.core.Step(now, events...)
	l.next = eff.Next
	for _, err := range eff.Errors {
		l.cfg.Log.Error("unexpected event; nothing was changed", zap.Error(err))
	}
	return l.carryOut(ctx, eff)
}

// carryOut persists, sends, acknowledges and shows.
func (l *Loop) carryOut(ctx context.Context, eff core.Effects) error {
	l.owed = &eff
	if len(eff.Writes) > 0 {
		if err := l.cfg.Ledger.Commit(ctx, eff.Writes); err != nil {
			return fmt.Errorf("commit %d records: %w", len(eff.Writes), err)
		}
	}
	l.owed = nil
	for _, call := range eff.Calls {
		l.send(ctx, call)
	}
	for _, ack := range eff.Acks {
		l.send(ctx, ack)
	}
	l.show(eff.Changed)
	l.memory.keep(l.core, eff)
	return nil
}

// send sends one call. What could not be sent is told to the core, which repeats what nothing else would repeat.
func (l *Loop) send(ctx context.Context, call mesos.Call) {
	if err := l.cfg.Master.Send(ctx, call); err != nil {
		l.cfg.Log.Warn("call not sent", zap.String("call", fmt.Sprintf("%T", call)), zap.Error(err))
		if _, ack := call.(mesos.Acknowledge); !ack {
			l.unsent = append(l.unsent, core.Unsent{Call: call})
		}
	}
}

// Next is when the next Turn is needed if nothing happens before; zero if never.
func (l *Loop) Next() time.Time {
	if len(l.unsent) > 0 {
		return l.at
	}
	return l.next
}

// Core gives the tests of the loop its memory to look at.
func (l *Loop) Core() *core.Core { return l.core }

// Run takes turns until ctx ends, which is no error, or the ledger cannot be written, which is one: the process must
// then start again from the ledger.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var failing time.Time
	for {
		var events []core.Event
		var waiting []chan error
		var looks []func(*core.Core)
		take := func(r request) {
			waiting = append(waiting, r.done)
			if r.look != nil {
				looks = append(looks, r.look)
			} else {
				events = append(events, r.event)
			}
		}
		inbox, asked := l.inbox, l.asked
		if !failing.IsZero() {
			inbox, asked = nil, nil // Nothing more is taken in before the ledger works again.
		}
		select {
		case <-ctx.Done():
			return nil
		case ev := <-inbox:
			events = append(events, ev)
		case r := <-asked:
			take(r)
		case <-timer.C:
		}
		for more := failing.IsZero(); more && len(events)+len(looks) < batch; {
			select {
			case ev := <-l.inbox:
				events = append(events, ev)
			case r := <-l.asked:
				take(r)
			default:
				more = false
			}
		}
		now := l.cfg.Now()
		err := l.Turn(ctx, now, events)
		for _, look := range looks {
			if err == nil {
				look(l.core)
			}
		}
		for _, done := range waiting {
			done <- err
		}
		switch {
		case err == nil:
			failing = time.Time{}
			l.arm(timer, now)
			continue
		case ctx.Err() != nil:
			return nil
		case failing.IsZero():
			failing = now
		}
		if l.cfg.Permanent != nil && l.cfg.Permanent(err) || now.Sub(failing) > l.cfg.Patience {
			return err
		}
		l.cfg.Log.Error("ledger not written; nothing is sent until it is", zap.Error(err))
		timer.Reset(retryPause)
	}
}

// arm sets the timer for the next turn.
func (l *Loop) arm(timer *time.Timer, now time.Time) {
	if next := l.Next(); next.IsZero() {
		timer.Stop()
	} else {
		timer.Reset(max(0, next.Sub(now)))
	}
}

// Deliver hands an event of the master to the loop; it blocks while the loop is behind by a full batch. The master's
// client calls it in the order of the events.
func (l *Loop) Deliver(ctx context.Context, ev mesos.Event) error {
	select {
	case l.inbox <- core.FromMesos{Event: ev}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return ErrStopped
	}
}

// Want replaces what is wanted of one App; it returns when that is durable.
func (l *Loop) Want(ctx context.Context, app *padisv1.WantedApp) error {
	return l.ask(ctx, core.Want{App: proto.Clone(app).(*padisv1.WantedApp)})
}

// Forget ends an App: its instances are stopped and its addresses released. It returns when that is durably decided,
// which is before it is done.
func (l *Loop) Forget(ctx context.Context, appUID string) error {
	return l.ask(ctx, core.Forget{AppUID: appUID})
}

// Declare replaces all networks, pools and tenants; it returns when that is durable.
func (l *Loop) Declare(ctx context.Context, cluster *padisv1.Cluster) error {
	return l.ask(ctx, core.Declare{Cluster: proto.Clone(cluster).(*padisv1.Cluster)})
}

func (l *Loop) ask(ctx context.Context, ev core.Event) error {
	return l.request(ctx, request{event: ev, done: make(chan error, 1)})
}

func (l *Loop) request(ctx context.Context, r request) error {
	select {
	case l.asked <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return ErrStopped
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return ErrStopped
	}
}
