package executor

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/instance"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Leases: an instance whose launch has a lease may use its addresses only as long as the scheduler says again and again
// that it may. What is granted counts from when the request was SENT, while the scheduler counts from when it answered: so
// the executor's time is over first, however long either was on its way.
//
// A launch grants nothing. It was decided and sent at a time that the executor does not know, it may have waited in an
// agent that nobody could reach, and the scheduler may have given the slot to another agent since: counted from its
// receipt, its lease could begin after it was over. So a renewal is asked for at once, and addresses are configured only
// with a grant, which costs one round trip. A grant that was asked for before the launch came is as good: it ends even
// earlier than the scheduler thinks.
//
// Addresses have their time in the kernel, too, which takes them away if the executor is dead. What is adopted begins
// with whatever the kernel still has of that.
const (
	// leastLease is what must be left of one to be of use: kernels count in seconds.
	leastLease = time.Second
	// leaseLook is how often it is looked whether one is over: timers do not go while a host sleeps, but leases do.
	leaseLook = time.Second
	// askAgain is the most between two requests while something waits for a grant, or the last one has no answer.
	askAgain = 5 * time.Second
	// askPause is the least between two requests.
	askPause = 100 * time.Millisecond
	// askedMost bounds the requests whose answers are still of use.
	askedMost = 64
)

// leases are what the scheduler was asked for. All but granted belongs to the loop.
type leases struct {
	// serial of the last request. asked are those without an answer, and when they were sent since the start of the host.
	serial int64
	asked  map[int64]time.Duration
	// askedAt is when the last one was sent; answered: it was granted. soon: one is wanted at once.
	askedAt        time.Time
	answered, soon bool
	leaseAt        time.Time
	// granted is when the newest request that was granted had been sent.
	granted atomic.Int64
}

// left is what is left of the lease of an instance at the time boot since the start of the host; false if that is too little.
func (e *leases) left(p instance.Plan, boot time.Duration) (time.Duration, bool) {
	granted := time.Duration(e.granted.Load())
	if granted == 0 {
		return 0, false
	}
	left := granted + time.Duration(p.Launch.GetLeaseMs())*time.Millisecond - boot
	return left, left >= leastLease
}

// sinceBoot is the time since the start of the host, its sleep included; time.Now leaves that out.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		// Linux has it since 2.6.39.
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	}
	return time.Duration(t.Nano())
}

// leaseOf lets an instance have the grant that it waits for, if there is one.
func (e *Executor) leaseOf(now time.Time, l *life) {
	if !l.plan.Leased() {
		return
	}
	if e.leaseAt.IsZero() {
		e.leaseAt = now.Add(leaseLook)
	}
	if !l.state.AwaitsGrant() {
		return
	}
	if _, ok := e.left(l.plan, e.Boot()); ok {
		e.step(now, l, instance.Granted{})
	}
}

// look ends what is over, and asks for more.
func (e *Executor) look(now time.Time) {
	e.leaseAt = time.Time{}
	boot := e.Boot()
	var least time.Duration
	waits := false
	for _, l := range e.lives {
		if !l.plan.Leased() {
			continue
		}
		if until := time.Duration(l.wire.until.Load()); l.state.Holds() && until != 0 && boot >= until {
			e.Expiries++
			e.Log.Warn("a lease is over; the addresses are taken down", zap.String("task", l.plan.TaskID))
			e.step(now, l, instance.Lapsed{})
		}
		e.leaseOf(now, l)
		waits = waits || l.state.AwaitsGrant() || l.state.Silent()
		if lease := time.Duration(l.plan.Launch.GetLeaseMs()) * time.Millisecond; least == 0 || lease < least {
			least = lease
		}
		if left := time.Duration(l.wire.until.Load()) - boot; l.state.Holds() && left > 0 {
			e.lookBy(now.Add(min(left, leaseLook)))
		}
	}
	if least == 0 || !e.connected {
		return
	}
	pause := least / 3
	if waits || !e.answered {
		pause = min(pause, askAgain)
	}
	if e.soon {
		pause = 0
	}
	if at := e.askedAt.Add(max(pause, askPause)); now.Before(at) {
		e.lookBy(at)
		return
	}
	e.request(now)
	e.lookBy(now.Add(max(min(least/3, askAgain), askPause)))
}

// lookBy has it looked again at a time, or before.
func (e *Executor) lookBy(at time.Time) {
	if e.leaseAt.IsZero() || at.Before(e.leaseAt) {
		e.leaseAt = at
	}
}

// request asks for a renewal. Serials grow with the clock, so that no answer to an earlier executor is taken for one.
func (e *Executor) request(now time.Time) {
	e.serial = max(e.serial+1, now.UnixMilli())
	data, err := padisv1.Encode(&padisv1.FromExecutor{Renew: &padisv1.Renewal{Serial: e.serial}})
	if err != nil {
		e.Log.Error("a request cannot be encoded; this is a bug", zap.Error(err))
		return
	}
	if e.asked == nil || len(e.asked) >= askedMost {
		e.asked = map[int64]time.Duration{}
	}
	e.asked[e.serial] = e.Boot() // before it is sent
	e.askedAt, e.answered, e.soon = now, false, false
	e.Agent.Message(data)
}

// renewal takes the answer to a request.
func (e *Executor) renewal(now time.Time, r *padisv1.Renewal) {
	sent, ok := e.asked[r.GetSerial()]
	if !ok {
		return
	}
	for serial := range e.asked {
		if serial <= r.GetSerial() {
			delete(e.asked, serial)
		}
	}
	e.Renewals++
	e.granted.Store(max(e.granted.Load(), int64(sent)))
	e.answered = r.GetSerial() == e.serial
	boot := e.Boot()
	for _, l := range e.lives {
		if _, ok := e.left(l.plan, boot); ok && l.plan.Leased() && (l.state.Holds() || l.state.AwaitsGrant()) {
			e.step(now, l, instance.Granted{})
		}
	}
	e.lookBy(now)
}
