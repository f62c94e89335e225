package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// store is the ledger: what is in it survives everything.
type store struct {
	w    *World
	data map[string]proto.Message
	// refuse makes the next commits fail.
	refuse int
}

func newStore(w *World) *store { return &store{w: w, data: map[string]proto.Message{}} }

var errStore = errors.New("the simulated ledger did not answer")

// Commit implements the loop's ledger. It may die or fail before, within and after the writing.
func (s *store) Commit(_ context.Context, writes []record.Write) error {
	w := s.w
	w.sched.boundary("before a commit")
	if s.refuse > 0 {
		s.refuse--
		w.fault("commit refused")
		return errStore
	}
	if w.chance(0.004) {
		w.fault("commit fails, nothing written")
		return errStore
	}
	cut := len(writes)
	if w.chance(0.01) {
		// What is too large for one transaction is several, in the order given.
		cut = w.rng.IntN(len(writes) + 1)
	}
	s.apply(writes[:cut])
	if cut < len(writes) {
		w.fault("commit cut short after %d of %d writes", cut, len(writes))
		if w.rng.IntN(2) == 0 {
			panic(crash{"within a commit"})
		}
		return errStore
	}
	if w.chance(0.004) {
		w.fault("commit fails, but all is written")
		return errStore
	}
	w.sched.boundary("after a commit")
	return nil
}

func (s *store) apply(writes []record.Write) {
	for _, wr := range writes {
		before := s.data[wr.Key]
		if wr.Value == nil {
			delete(s.data, wr.Key)
		} else {
			s.data[wr.Key] = proto.Clone(wr.Value)
		}
		s.describe(wr, before)
		s.w.truth.written(wr, before)
	}
}

// describe notes a write as a line of the trace.
func (s *store) describe(wr record.Write, before proto.Message) {
	if wr.Value == nil {
		s.w.note("  ledger - %s", wr.Key)
		return
	}
	switch v := wr.Value.(type) {
	case *padisv1.InstanceRecord:
		was := "None"
		if b, ok := before.(*padisv1.InstanceRecord); ok {
			was = instance.Name(b.GetPhase())
		}
		s.w.note("  ledger + %s %s-%d %s -> %s (%s)%s", wr.Key, v.GetApp(), v.GetSlot(), was, instance.Name(v.GetPhase()), v.GetReason(), details(v))
	case *padisv1.LeaseRecord:
		s.w.note("  ledger + %s for %s-%d", wr.Key, v.GetApp(), v.GetSlot())
	default:
		s.w.note("  ledger + %s", wr.Key)
	}
}

func details(r *padisv1.InstanceRecord) string {
	var b strings.Builder
	if r.GetTaskId() != "" {
		fmt.Fprintf(&b, " task=%s on %s", r.GetTaskId(), r.GetHostname())
	}
	if len(r.GetHauntedTasks()) > 0 {
		fmt.Fprintf(&b, " haunted by %s", strings.Join(r.GetHauntedTasks(), ","))
	}
	return b.String()
}

// snapshot is what a starting scheduler loads.
func (s *store) snapshot() record.Snapshot {
	var snap record.Snapshot
	for _, k := range slices.Sorted(maps.Keys(s.data)) {
		switch v := proto.Clone(s.data[k]).(type) {
		case *padisv1.FrameworkRecord:
			snap.Framework = v
		case *padisv1.Cluster:
			snap.Cluster = v
		case *padisv1.WantedApp:
			snap.Apps = append(snap.Apps, v)
		case *padisv1.InstanceRecord:
			snap.Instances = append(snap.Instances, v)
		case *padisv1.LeaseRecord:
			snap.Leases = append(snap.Leases, v)
		case *padisv1.ExecutorRecord:
			snap.Executors = append(snap.Executors, v)
		case *padisv1.AgentRecord:
			snap.Agents = append(snap.Agents, v)
		case *padisv1.WantedBalancer:
			snap.Balancers = append(snap.Balancers, v)
		case *padisv1.BalanceRecord:
			snap.Balances = append(snap.Balances, v)
		}
	}
	return snap
}

// instances returns the records of instances by key.
func (s *store) instances() []*padisv1.InstanceRecord {
	var rs []*padisv1.InstanceRecord
	for _, k := range slices.Sorted(maps.Keys(s.data)) {
		if r, ok := s.data[k].(*padisv1.InstanceRecord); ok {
			rs = append(rs, r)
		}
	}
	return rs
}

func (s *store) instance(slot record.Slot) *padisv1.InstanceRecord {
	r, _ := s.data[record.InstanceKey(slot)].(*padisv1.InstanceRecord)
	return r
}
