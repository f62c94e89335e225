// Package forecast tells what would happen if objects were applied: the reconcilers' and the scheduler's own code decides,
// on a copy of what they know, with agents as they are, executors that do at once what they are told, and time that is made
// up. Equal inputs give equal plans. Pure.
//
// First all that is on its way already comes to rest, so that it is not taken for a consequence of the changes; what becomes
// of the Apps that change waits. Then the changes are made, and what happens from there on is the plan. Instances that start
// become ready: a plan tells what is decided, not whether a program works.
package forecast

import (
	"fmt"
	"time"

	"padis.io/padis/api/plan"
	"padis.io/padis/reconcile/proposed"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/record"
)

// Input is all that a plan depends on. It is not mutated.
type Input struct {
	// Scheduler is what scheduler.Loop.Snapshot gives.
	Scheduler core.Snapshot
	// Declared is what is declared now, with the Holders of pools.
	Declared *proposed.State
	Changes  []proposed.Change
	// Now is when the changes are made.
	Now time.Time
}

const (
	// horizon is how far plans look, in made-up time; steps bounds what is decided on the way, and idle how often time is let
	// pass without anything coming of it.
	horizon = 10 * time.Minute
	steps   = 100_000
	idle    = 25
)

// Make gives the plan. The error means that the input contradicts itself.
func Make(in Input) (*plan.Plan, error) {
	out := &plan.Plan{Version: plan.Version, World: World(in.Scheduler, in.Declared)}
	after, objects := in.Declared.Apply(in.Changes)
	out.Objects = objects
	c, err := core.Clone(in.Scheduler)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	r := newRun(c, newCluster(&in.Scheduler, in.Now), in.Now)
	r.waits = changing(in.Changes, objects)
	r.declare(in.Declared)
	r.mesos.subscribe()
	r.settle()
	if len(r.errs) > 0 {
		return nil, fmt.Errorf("plan: %w", r.errs[0])
	}
	if in.Scheduler.Connected {
		out.Unfinished, out.UnfinishedIn = r.unfinished, r.restlessIn
	} else {
		out.Unfinished = "the scheduler is not connected to a Mesos master: agents may be others than were known last"
	}
	before := r.look()
	mine := r.waits
	r.findings = nil // It has logged these already.
	r.waits, r.watched = nil, map[string]*story{}
	r.declare(after)
	r.mark(mine)
	r.settle()
	if len(r.errs) > 0 {
		return nil, fmt.Errorf("plan: %w", r.errs[0])
	}
	if r.unfinished != "" {
		out.Unfinished, out.UnfinishedIn = r.unfinished, r.restlessIn
	}
	if len(r.findings) > 0 && out.Unfinished == "" {
		out.UnfinishedIn = []string{""} // It may name anything.
		out.Unfinished = fmt.Sprintf("the scheduler would find: %v", r.findings[0])
	}
	now := r.look()
	out.Apps = r.apps(before, now)
	out.Addresses = addresses(before, now)
	out.Quotas = r.quotas(before, now, out.Apps)
	r.verdicts(out.Objects)
	return out, nil
}

// changing are the Apps and LoadBalancers that change: kind, namespace and name. One that was given as it is goes on as it
// does.
func changing(changes []proposed.Change, objects []plan.Object) map[[3]string]bool {
	out := map[[3]string]bool{}
	for i := range changes {
		if objects[i].Action == plan.Unchanged {
			continue
		}
		o := changes[i].After
		if o == nil {
			o = changes[i].Before
		}
		out[[3]string{o.GetKind(), o.GetNamespace(), o.GetName()}] = true
	}
	return out
}

// vips tells whether a lease is a VIP's, and of which LoadBalancer.
func vips(uid string) (string, bool) { return record.Slot{AppUID: uid}.Balancer() }
