package executor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// wire is the network of an instance. Whatever is done to it is done by one at a time, and nothing after its end.
type wire struct {
	mu sync.Mutex
	// wanted is the plan's, with what has changed since; nil pointers of kept mean that nothing has.
	wanted network.Wanted
	// kept is what the next executor and operators find: the launch, with what has changed, and without secrets. noted: it
	// is in the container's directory.
	kept  *padisv1.Launch
	noted bool
	// attached: there is something to be changed. unsure: the last change may not be in force. ended: no more of it.
	attached, unsure, ended bool
	// until is when the lease of what is configured is over, as the time since the start of the host; 0 if nothing is.
	until atomic.Int64
	// took is how long the last attach was.
	took time.Duration
}

// launch is what is kept of the launch, with mu held.
func (w *wire) launch(l *padisv1.Launch) *padisv1.Launch {
	if w.kept == nil {
		w.kept = withoutSecrets(l)
	}
	return w.kept
}

// namespace of the instance; -1 if there is none, or none any more.
func (l *life) namespace() int {
	if l.instance == nil {
		return -1
	}
	return l.instance.NetworkNamespace()
}

// noteLaunch writes down what the next executor must know.
func (l *life) noteLaunch() error {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.wire.noted = true
	return writeLaunch(l.plan.Files.Dir, l.executor.Host.Owner, l.wire.launch(l.plan.Launch))
}

// leased is the wanted network with what is left of the lease, and when that ends; false if that is too little.
func (l *life) leased() (network.Wanted, time.Duration, bool) {
	w := l.wire.wanted
	if !l.plan.Leased() {
		return w, 0, true
	}
	boot := l.executor.Boot()
	left, ok := l.executor.left(l.plan, boot)
	if !ok {
		return w, 0, false
	}
	w.Valid = left.Truncate(time.Second)
	return w, boot + left, true
}

// attach configures the network.
func (l *life) attach() instance.Event {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	if l.wire.ended {
		return instance.Attached{Failure: failure(padisv1.ReasonNetworkFailed, errEnded)}
	}
	if err := l.executor.overlays.join(l.wire.wanted.Segments); err != nil {
		return instance.Attached{Failure: failure(padisv1.ReasonNetworkFailed, err)}
	}
	w, until, ok := l.leased()
	if !ok {
		return instance.Attached{Failure: &instance.Failure{Reason: padisv1.ReasonLeaseExpired, Message: "The lease was over before the network was configured."}}
	}
	began := time.Now()
	err := l.executor.Network.Attach(l.namespace(), w)
	l.wire.took = time.Since(began)
	if err != nil {
		return instance.Attached{Failure: failure(padisv1.ReasonNetworkFailed, err)}
	}
	l.wire.attached, l.wire.unsure = true, false
	l.wire.until.Store(int64(until))
	l.executor.announcer.announce(l.plan.Container, l.plan.Launch.GetAttachments(), w)
	return instance.Attached{}
}

var errEnded = errors.New("the instance has ended meanwhile")

// renew lets the kernel keep the addresses.
func (l *life) renew() instance.Event {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	w, until, ok := l.leased()
	switch {
	case l.wire.ended:
		return instance.Renewed{}
	case !ok:
		return instance.Renewed{Failure: &instance.Failure{Reason: padisv1.ReasonLeaseExpired, Message: "The lease was over before it was renewed."}}
	}
	err := l.executor.Network.Renew(l.namespace(), w)
	if errors.Is(err, kernel.ErrExpired) {
		return instance.Renewed{Expired: true}
	}
	if err != nil {
		l.executor.Log.Error("addresses could not be kept; they lapse if that goes on", zap.String("task", l.plan.TaskID), zap.Error(err))
		return instance.Renewed{Failure: failure(padisv1.ReasonNetworkFailed, err)}
	}
	l.wire.until.Store(int64(until))
	return instance.Renewed{}
}

// silence takes the addresses down while the program runs on.
func (l *life) silence() instance.Event {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	return instance.Silenced{Failure: failure(padisv1.ReasonNetworkFailed, l.detach(0))}
}

// cut silences the network for good.
func (l *life) cut() error {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	l.wire.ended = true
	return l.detach(withdrawTime)
}

// detach has routers forget the addresses before nobody answers for them, with mu held.
func (l *life) detach(wait time.Duration) error {
	l.executor.announcer.withdraw(l.executor.background, l.plan.Container, wait)
	if err := l.executor.Network.Detach(l.namespace(), l.wire.wanted); err != nil {
		return err
	}
	l.wire.attached = false
	l.wire.until.Store(0)
	return nil
}

// change makes the network of an instance what it shall be now; what is so already is left alone. An instance without a
// network yet, or with none for a moment, has the change when it gets one.
func (l *life) change(c *padisv1.NetworkChange, host instance.Host) error {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	before := l.wire.launch(l.plan.Launch)
	after := changed(before, c)
	same := proto.Equal(before, after)
	if l.wire.ended || same && !l.wire.unsure {
		return nil
	}
	p, f := instance.Recall(l.plan.Container, after, host)
	if f != nil {
		return f
	}
	l.wire.kept, l.wire.wanted, l.wire.unsure = after, p.Wanted, true
	if l.wire.noted {
		if err := writeLaunch(l.plan.Files.Dir, host.Owner, after); err != nil {
			return fmt.Errorf("note the change: %w", err)
		}
	}
	w, _, ok := l.leased()
	if l.wire.attached && ok {
		if err := l.executor.Network.Adjust(l.namespace(), w); err != nil {
			return err
		}
	}
	l.wire.unsure = l.wire.attached && !ok
	return nil
}

// changed is a launch with other loopback addresses, drain and bandwidths.
func changed(l *padisv1.Launch, c *padisv1.NetworkChange) *padisv1.Launch {
	l = proto.CloneOf(l)
	l.LoopbackAddresses, l.DrainMs = c.GetLoopbackAddresses(), c.GetDrainMs()
	for i, b := range c.GetBandwidths() {
		if i < len(l.GetAttachments()) {
			l.Attachments[i].Bandwidth = b
		}
	}
	return l
}

// rewire changes the network of one instance. Of what is not here there is nothing to be done.
func (e *Executor) rewire(c *padisv1.NetworkChange) bool {
	var l *life
	var host instance.Host
	if !e.ask(func(time.Time) { l, host = e.holder(c.GetContainer()), e.Host }) {
		return false
	}
	if l == nil {
		return true
	}
	err := l.change(c, host)
	if err != nil {
		e.Log.Error("the network of an instance could not be changed; it is as it was", zap.String("container", c.GetContainer()), zap.Error(err))
	}
	f := failure(padisv1.ReasonNetworkFailed, err)
	e.post(func(now time.Time) {
		e.fared(now, l.plan.Wanted, f)
		e.step(now, l, instance.Rewired{Drain: l.drainTime()})
	})
	return err == nil
}

// ask for the addresses: who answers, in words.
func (l *life) probe(ctx context.Context) instance.Event {
	answers, err := l.executor.Network.Probe(ctx, l.plan.Wanted)
	var words []string
	for _, a := range answers {
		words = append(words, a.String())
	}
	return instance.Probed{Answered: strings.Join(words, "; "), Failure: failure(padisv1.ReasonNetworkFailed, err)}
}
