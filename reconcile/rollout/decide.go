package rollout

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"

	"google.golang.org/protobuf/proto"
)

// recheck is how long to rely on being told of changes while something is under way.
const recheck = 30 * time.Second

// condition of a slot after a decision.
type state int

const (
	// settled: wants the newest revision and is ready at it.
	settled state = iota
	// starting: wants the newest revision and is not ready at it yet.
	starting
	// outdated: keeps an older revision for now.
	outdated
	// releasing: taken out of what is wanted until its instance is gone.
	releasing
	// barred: must not be started.
	barred
)

// slot is what is decided for one index.
type slot struct {
	index int32
	state state
	// revision that is wanted; empty while releasing.
	revision string
	// before is the revision that was wanted until now, and had tells whether the slot was wanted at all.
	before string
	had    bool
	// instance is nil if there is none.
	instance *Instance
}

// Decide is the next step of an App. Equal snapshots give equal plans, and a plan that was put in force gives no further
// step until an instance changes.
func Decide(s Snapshot) Plan {
	d := decision{Snapshot: s, instances: map[int32]*Instance{}, revisions: map[string]*padisv1.Revision{}}
	for n := range s.Instances {
		d.instances[s.Instances[n].Slot] = &s.Instances[n]
	}
	for _, r := range s.Current.GetRevisions() {
		d.revisions[r.Hash] = r
	}
	switch {
	case s.Leaving:
		return d.leave()
	case s.Refusal != nil:
		return d.refuse()
	}
	d.assign()
	d.update()
	return d.finish()
}

// decision is a decision in the making.
type decision struct {
	Snapshot
	instances map[int32]*Instance
	// revisions that were known until now, by hash.
	revisions map[string]*padisv1.Revision
	slots     []slot
	// busy counts the slots that want the newest revision, or are on their way to it, and are not ready.
	busy int32
}

// assign gives each declared slot what it had, and the missing ones the newest revision.
func (d *decision) assign() {
	had := map[int32]string{}
	for _, w := range d.Current.GetSlots() {
		had[w.Index] = w.Revision
	}
	for i := range d.Replicas {
		before, ok := had[i]
		s := slot{index: i, before: before, had: ok, revision: before, instance: d.instances[i]}
		switch {
		case !ok && d.readdressed(s.instance):
			s.state, s.revision = releasing, ""
		case !ok:
			s.state, s.revision = starting, d.Newest.Hash
		case before != d.Newest.Hash || d.readdressed(s.instance):
			s.state = outdated
		case s.instance.ready() && s.instance.Revision == d.Newest.Hash:
			s.state = settled
		default:
			s.state = starting
		}
		if s.state == starting || s.state == releasing {
			d.busy++
		}
		d.slots = append(d.slots, s)
	}
}

// update replaces outdated slots: first those that are not ready or are being replaced already, which costs nothing, then
// the others in ascending order as far as MaxUnavailable allows.
func (d *decision) update() {
	if d.Paused {
		return
	}
	for n := range d.slots {
		if s := &d.slots[n]; s.state == outdated && (!s.instance.ready() || s.instance.Revision != s.before) {
			d.replace(s)
		}
	}
	for n := range d.slots {
		if s := &d.slots[n]; s.state == outdated && d.busy < d.budget() {
			d.replace(s)
		}
	}
}

func (d *decision) budget() int32 { return max(1, d.MaxUnavailable) }

func (d *decision) replace(s *slot) {
	if s.instance.ready() && s.instance.Revision == d.Newest.Hash && !d.readdressed(s.instance) {
		// The update that was to take it is taken back before its image was there.
		s.state, s.revision = settled, d.Newest.Hash
		return
	}
	d.busy++
	if d.readdressed(s.instance) {
		s.state, s.revision = releasing, ""
		return
	}
	s.state, s.revision = starting, d.Newest.Hash
}

// readdressed tells whether an instance was started at the newest revision with another address than the one that is
// fixed for its slot. One of another revision needs no such care: it is replaced anyway, and leases anew when it starts.
func (d *decision) readdressed(in *Instance) bool {
	if in == nil || in.Revision != d.Newest.Hash {
		return false
	}
	for n, w := range d.Newest.Networks {
		if n >= len(in.Addresses) || int(in.Slot) >= len(w.Addresses) {
			continue
		}
		if held, fixed := in.Addresses[n], w.Addresses[in.Slot]; held != "" && fixed != "" && !sameAddress(held, fixed) {
			return true
		}
	}
	return false
}

func sameAddress(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return a == b || errX == nil && errY == nil && x == y
}

// finish builds the plan from the slots.
func (d *decision) finish() Plan {
	p := Plan{Wanted: d.identity()}
	used := map[string]bool{d.Newest.Hash: true}
	for _, s := range d.slots {
		if s.revision != "" {
			p.Wanted.Slots = append(p.Wanted.Slots, &padisv1.WantedSlot{Index: s.index, Revision: s.revision})
			used[s.revision] = true
		}
		switch {
		case s.state == outdated:
			p.Waiting = append(p.Waiting, s.index)
		case !s.had && s.state == starting:
			p.Steps = append(p.Steps, Step{Verb: Create, Slot: s.index, To: s.revision})
		case s.had && s.state == releasing:
			p.Steps = append(p.Steps, Step{Verb: Release, Slot: s.index, From: s.before})
		case s.had && s.revision != s.before:
			p.Steps = append(p.Steps, Step{Verb: Replace, Slot: s.index, From: s.before, To: s.revision})
		case s.had && d.moved(s):
			p.Steps = append(p.Steps, Step{Verb: Relocate, Slot: s.index, From: s.before})
		}
	}
	for _, w := range d.Current.GetSlots() {
		if w.Index >= d.Replicas {
			p.Steps = append(p.Steps, Step{Verb: Remove, Slot: w.Index, From: w.Revision})
		}
	}
	// A revision stays known while an instance runs it: how to stop the instance is in there.
	for _, in := range d.instances {
		used[in.Revision] = true
	}
	p.Wanted.Revisions = append(p.Wanted.Revisions, proto.CloneOf(d.Newest))
	for _, r := range d.Current.GetRevisions() {
		if used[r.Hash] && r.Hash != d.Newest.Hash {
			p.Wanted.Revisions = append(p.Wanted.Revisions, proto.CloneOf(r))
		}
	}
	slices.SortStableFunc(p.Wanted.Revisions[1:], func(a, b *padisv1.Revision) int { return strings.Compare(a.Hash, b.Hash) })
	if len(p.Waiting) > 0 {
		p.Because = d.because()
	}
	p.Status = d.status(p)
	if d.busy > 0 || len(d.instances) != len(p.Wanted.Slots) {
		p.After = recheck
	}
	return p
}

// moved tells whether the placement constraints changed for a slot whose revision keeps its name.
func (d *decision) moved(s slot) bool {
	r := d.revisions[s.revision]
	if r == nil || s.revision != d.Newest.Hash || s.instance == nil || s.instance.Phase == phasePending {
		return false
	}
	return !slices.EqualFunc(r.Constraints, d.Newest.Constraints, func(a, b *padisv1.Constraint) bool { return proto.Equal(a, b) })
}

func (d *decision) identity() *padisv1.WantedApp {
	w := proto.CloneOf(d.App)
	w.Slots, w.Revisions = nil, nil
	// The scheduler's own note, which comes back with what is wanted.
	w.AttemptFloor = d.Current.GetAttemptFloor()
	return w
}

// because says why outdated slots are not replaced yet.
func (d *decision) because() string {
	if d.Paused {
		return "the update is paused; set spec.update.paused to false to go on"
	}
	var busy []trouble
	for n := range d.slots {
		if s := &d.slots[n]; s.state == starting || s.state == releasing {
			busy = append(busy, d.trouble(s))
		}
	}
	return fmt.Sprintf("at most %d may be not ready because of the update, and %s", d.budget(), d.tell(busy))
}

// refuse leaves what is wanted as it is, but for slots that must not be started any more.
func (d *decision) refuse() Plan {
	p := Plan{Wanted: d.Current, Refused: true}
	had := map[int32]bool{}
	for _, w := range d.Current.GetSlots() {
		had[w.Index] = true
		s := slot{index: w.Index, revision: w.Revision, before: w.Revision, had: true, instance: d.instances[w.Index]}
		if d.revoked(w.Revision) && !s.instance.lives() {
			s.state, s.revision = barred, ""
			p.Steps = append(p.Steps, Step{Verb: Bar, Slot: w.Index, From: w.Revision})
		}
		d.slots = append(d.slots, s)
	}
	if len(p.Steps) > 0 {
		p.Wanted = proto.CloneOf(d.Current)
		p.Wanted.Slots = slices.DeleteFunc(p.Wanted.Slots, func(w *padisv1.WantedSlot) bool {
			return d.revoked(w.Revision) && !d.instances[w.Index].lives()
		})
	}
	if d.revoked(d.Newest.GetHash()) && d.wants(d.Newest.GetHash()) {
		for i := range d.Replicas {
			if !had[i] {
				d.slots = append(d.slots, slot{index: i, state: barred, instance: d.instances[i]})
			}
		}
		slices.SortFunc(d.slots, func(a, b slot) int { return int(a.index - b.index) })
	}
	p.Status = d.status(p)
	if d.Current == nil {
		p.Status.Summary = fmt.Sprintf("0/%d", d.Replicas)
	}
	return p
}

// revoked tells whether nothing of the revision may be started any more.
func (d *decision) revoked(revision string) bool {
	return d.Refusal.Revoked && d.Newest != nil && revision == d.Newest.Hash
}

// wants tells whether a revision was wanted until now.
func (d *decision) wants(revision string) bool {
	return slices.ContainsFunc(d.Current.GetRevisions(), func(r *padisv1.Revision) bool { return r.Hash == revision })
}

// leave wants nothing any more.
func (d *decision) leave() Plan {
	p := Plan{Status: d.leavingStatus()}
	for _, w := range d.Current.GetSlots() {
		p.Steps = append(p.Steps, Step{Verb: Remove, Slot: w.Index, From: w.Revision})
	}
	if len(d.instances) > 0 {
		p.After = recheck
	}
	return p
}
