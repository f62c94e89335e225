// Package director is one director of a LoadBalancer: it takes orders from its executor, puts tables into a dataplane,
// announces VIPs to routers while they can be served, and checks real servers on the path that clients take. Edge: talks to its
// executor over a unix socket, and to HTTP clients; its parts talk to routers, real servers and the kernel.
//
// It is run as `padis-executor director`, in the network namespace and the work directory of its instance. One goroutine
// decides (plan.Decide) and does everything in the order that was decided; the parts wake it when something of theirs changed.
// It never changes a table by itself: tables are equal on all directors. What it may do alone is not to announce.
package director

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/director/check"
	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/director/plane"
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/bfd/udp"
	"padis.io/padis/executor/network/kernel"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// retry is between attempts at what failed.
const retry = time.Second

// Options are what a director cannot be told by its executor.
type Options struct {
	// Instance names it in metrics and, if it has no IPv4 address, makes its BGP identifier.
	Instance string
	// Own are its addresses, all on Device.
	Own    []netip.Addr
	Device string
	// Socket is the executor's, Listen where /ready and /metrics are served.
	Socket, Listen string
	// Dataplanes makes each by its name. "auto" is the first of Auto that works.
	Dataplanes map[string]func() (lb.Dataplane, error)
	Auto       []string
	Log        *zap.Logger
}

func (o Options) validate() error {
	switch {
	case len(o.Own) == 0:
		return errors.New("the director has no address (PADIS_ADDRESSES is empty): it needs a network with a segment")
	case o.Device == "":
		return errors.New("the director has no interface: give one")
	}
	for _, name := range o.Auto {
		if o.Dataplanes[name] == nil {
			return fmt.Errorf("dataplane %q is tried for auto, and there is none", name)
		}
	}
	return nil
}

type director struct {
	o       Options
	log     *zap.Logger
	link    *link
	checker *check.Checker
	page    page

	// What was ordered last, and why it cannot be read; empty if it can.
	balance *padisv1.Balance
	wrong   string
	state   plan.State
	// What was decided last.
	decision plan.Decision
	leave    plan.Leave
	said     bool // when it began to leave, routers knew something

	forwarder forwarder
	announcer announcer
}

// Run is the director until it has left: a first value of stop begins that, a second ends it at once, as does the end of ctx.
func Run(ctx context.Context, stop <-chan os.Signal, o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &director{o: o, log: o.Log, link: newLink(o.Socket, o.Log), forwarder: forwarder{o: o}, announcer: announcer{o: o}}
	var err error
	if d.announcer.watch, err = udp.New(o.Log); err != nil {
		return err
	}
	if err := plane.Prepare(o.Device); err != nil {
		o.Log.Warn("the kernel may drop answers to checks, or forward by itself", zap.Error(err))
	}
	if m, err := kernel.OpenMarked(o.Device, ownOf(o.Own, true).IsValid(), ownOf(o.Own, false).IsValid()); err != nil {
		o.Log.Warn("checks cannot take the path that clients take: they go to the real servers' own addresses", zap.Error(err))
		d.checker = check.New(o.Own, nil, o.Log)
	} else {
		defer m.Close()
		d.checker = check.New(o.Own, m, o.Log)
	}
	d.report()
	served := make(chan struct{})
	go func() { defer close(served); serve(ctx, o.Listen, &d.page, o.Log) }()
	linked := make(chan struct{})
	go func() { defer close(linked); d.link.run(ctx) }()
	d.loop(ctx, stop)
	// Routers are told the end first, whatever happens then.
	d.announcer.close()
	d.checker.Close()
	err = d.forwarder.close()
	cancel()
	<-served
	<-linked
	return err
}

func (d *director) loop(ctx context.Context, stop <-chan os.Signal) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stop:
			if d.leave.Begun() {
				d.log.Warn("told to end at once")
				return
			}
			d.depart()
		case b := <-d.link.orders:
			d.take(b)
		case <-d.checker.Changed():
			d.state.Reach = reach(d.checker.Results())
		case <-d.announcer.changed():
		case <-d.announcer.watch.Changed():
		case <-timer.C:
		}
		look, end := d.settle()
		d.report()
		if end {
			return
		}
		if look.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(look))
		}
	}
}

// take reads an order. One that cannot be read changes nothing.
func (d *director) take(b *padisv1.Balance) {
	if proto.Equal(b, d.balance) {
		d.link.say(d.tell()) // it is repeated because the answer was not heard
		return
	}
	before := d.state.Wanted
	o, err := plan.Read(b, before)
	if err == nil && before != nil && before.UID != o.UID {
		err = fmt.Errorf("it is for the LoadBalancer %s/%s, this director is one of %s/%s", o.Namespace, o.Name, before.Namespace, before.Name)
	}
	if err != nil {
		d.wrong = fmt.Sprintf("order %d cannot be used, what was before stays: %v", b.GetNumber(), err)
		d.log.Error("an order cannot be used", zap.Int64("number", b.GetNumber()), zap.Error(err))
		return
	}
	d.balance, d.wrong = b, ""
	d.state.Wanted, d.state.Retry = o, time.Time{}
	d.state.Anew = d.forwarder.plane != nil && d.forwarder.asked != o.Asked.GetDataplane()
	if before == nil || !proto.Equal(before.Asked.GetAnnouncement(), o.Asked.GetAnnouncement()) {
		d.announcer.order(o.Asked.GetAnnouncement())
	}
}

// depart begins to leave.
func (d *director) depart() {
	d.log.Info("told to end: routers are asked to prefer others")
	d.said = d.announcer.established() && (len(d.state.Announced) > 0 || time.Since(d.state.Withdrew) < plan.Quiet)
	d.leave, _, _ = d.leave.Next(time.Now(), d.forwarder.count(), true)
	d.announcer.drain()
}

// settle does what is to be done now, and tells when to look again.
func (d *director) settle() (look time.Time, end bool) {
	if d.leave.Begun() {
		var step plan.Step
		d.leave, step, look = d.leave.Next(time.Now(), d.forwarder.count(), d.said)
		switch step {
		case plan.End:
			return look, true
		case plan.Withdraw:
			d.log.Info("leaving: all VIPs are taken back")
			d.state.Leaving = true
		}
	}
	for {
		d.state.Now = time.Now()
		decision := plan.Decide(d.state)
		changed, again := d.announce(decision.Announce)
		look = earliest(look, decision.Look, again)
		if decision.Apply {
			d.apply()
		} else if !changed {
			d.decision = decision
			return look, false
		}
	}
}

func earliest(all ...time.Time) (first time.Time) {
	for _, t := range all {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// announce tells the routers, and whether that changed what is announced.
func (d *director) announce(vips []netip.Addr) (changed bool, again time.Time) {
	changed = !slices.Equal(vips, d.state.Announced)
	again = d.announcer.set(vips)
	for _, v := range d.state.Announced {
		if !slices.Contains(vips, v) {
			d.state.Withdrew = time.Now()
			break
		}
	}
	if changed {
		d.log.Info("announcing", zap.Int("vips", len(vips)), zap.Int("before", len(d.state.Announced)))
	}
	d.state.Announced = vips
	return changed, again
}

// apply puts the newest order into the dataplane.
func (d *director) apply() {
	o := d.state.Wanted
	if d.state.Anew {
		d.state.Applied = nil
		if err := d.forwarder.close(); err != nil {
			d.log.Warn("the dataplane could not take everything back", zap.Error(err))
		}
		d.state.Anew = false
	}
	if err := d.forwarder.set(o); err != nil {
		if d.state.Refused.IsZero() {
			d.state.Refused = time.Now()
		}
		if d.state.Why != err.Error() {
			d.log.Error("the dataplane does not take an order", zap.Int64("number", o.Number), zap.Error(err))
		}
		d.state.Why, d.state.Retry = err.Error(), time.Now().Add(retry)
		return
	}
	d.state.Applied, d.state.Refused, d.state.Retry, d.state.Why = o, time.Time{}, time.Time{}, ""
	catcher, _ := d.forwarder.plane.(check.Catcher)
	d.checker.Set(o, catcher)
	d.state.Reach = reach(d.checker.Results())
}

func reach(all map[string]check.Result) map[string]plan.Reach {
	out := make(map[string]plan.Reach, len(all))
	for id, r := range all {
		out[id] = r.Reach
	}
	return out
}
