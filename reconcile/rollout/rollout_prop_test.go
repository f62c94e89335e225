package rollout

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// engine plays the scheduler: it obeys what is wanted at once and lets instances fail, start and end at random.
type engine struct {
	*world
	// hurt are the slots that were ready when an update took them, and were not ready as wanted since.
	hurt map[int32]bool
	// pulls tells whether images come to their agents before an instance is stopped.
	pulls bool
}

func (e *engine) wanted() map[int32]string {
	m := map[int32]string{}
	for _, s := range e.snapshot.Current.GetSlots() {
		m[s.Index] = s.Revision
	}
	return m
}

// decide puts a plan in force and checks what must hold of every plan.
func (e *engine) decide(t *rapid.T) Plan {
	s := e.take()
	frozen := fmt.Sprintf("%+v", s)
	current := s.Current
	wasReady := map[int32]bool{}
	for i, in := range e.instances {
		wasReady[i] = in.ready()
	}
	p := Decide(s)
	if fmt.Sprintf("%+v", s) != frozen {
		t.Fatalf("the snapshot was changed")
	}
	hurtBefore := len(e.hurt)
	for _, st := range p.Steps {
		switch st.Verb {
		case Replace, Release:
			if s.Paused {
				t.Fatalf("replaces while paused:\n%s", p)
			}
			if in := e.instances[st.Slot]; wasReady[st.Slot] && in.Revision != st.To {
				e.hurt[st.Slot] = true
			}
		case Remove:
			delete(e.hurt, st.Slot)
			if st.Slot < s.Replicas {
				t.Fatalf("removes slot %d of %d:\n%s", st.Slot, s.Replicas, p)
			}
		}
	}
	if budget := int(max(1, s.MaxUnavailable)); len(e.hurt) > hurtBefore && len(e.hurt) > budget {
		t.Fatalf("the update keeps %v from being ready, more than %d; was\n%s\n%s", slices.Sorted(maps.Keys(e.hurt)), budget, describeWanted(current), p)
	}
	known := map[string]bool{}
	for _, r := range p.Wanted.GetRevisions() {
		known[r.Hash] = true
	}
	last := int32(-1)
	for _, w := range p.Wanted.GetSlots() {
		if w.Index <= last || w.Index >= s.Replicas || !known[w.Revision] {
			t.Fatalf("slot %d at %s is out of order, out of range or of an unknown revision:\n%s", w.Index, w.Revision, p)
		}
		last = w.Index
	}
	for _, c := range p.Status.Conditions {
		if c.Reason == "" || c.Message == "" || c.ObservedGeneration != s.App.Generation {
			t.Fatalf("condition %+v explains nothing", c)
		}
	}
	e.snapshot.Current = p.Wanted
	if again := Decide(e.take()); !proto.Equal(again.Wanted, p.Wanted) || len(again.Steps) > 0 {
		t.Fatalf("deciding twice takes another step:\n%s\nthen\n%s", p, again)
	}
	e.obey()
	return p
}

// obey is what the scheduler does at once with what is wanted.
func (e *engine) obey() {
	wanted := e.wanted()
	for i, in := range e.instances {
		switch {
		case e.pulls && wanted[i] != "" && in.ready() && in.Revision != wanted[i]:
			in.Reason = padisv1.ReasonPrepulling
		case wanted[i] == "" || in.Revision != "" && in.Revision != wanted[i]:
			in.Phase, in.Ready, in.Reason = "Stopping", false, padisv1.ReasonStopping
		}
	}
	for i := range wanted {
		if in := e.instances[i]; in.ready() && in.Revision == wanted[i] {
			delete(e.hurt, i)
		}
		if e.instances[i] == nil {
			e.instances[i] = &Instance{Slot: i, Phase: "Pending", Reason: padisv1.ReasonNoOffers}
		}
	}
}

// live lets something happen to an instance. Only what the scheduler wants can start.
func (e *engine) live(i int32, what string) {
	in, rev := e.instances[i], e.wanted()[i]
	switch {
	case what == "end" && rev == "":
		delete(e.instances, i)
	case what == "end" || what == "fail":
		in.Phase, in.Ready, in.Reason, in.Message = "BackOff", false, padisv1.ReasonExited, "exit code 1"
	case rev == "":
	case what == "pulled" && in.ready() && in.Revision != rev:
		in.Phase, in.Ready, in.Reason = "Stopping", false, padisv1.ReasonStopping
	case what == "start" && in.Phase != "Running":
		in.Phase, in.Ready, in.Revision, in.Reason = "Starting", false, rev, padisv1.ReasonStarting
		if int(i) < len(e.fixed) && e.fixed[i] != "" {
			in.Addresses = []string{e.fixed[i]}
		} else if len(in.Addresses) == 0 {
			in.Addresses = []string{fmt.Sprintf("10.44.1.%d", i+1)}
		}
	case what == "ready" && in.Revision == rev && in.Phase != "Stopping":
		in.Phase, in.Ready, in.Reason = "Running", true, padisv1.ReasonReady
		delete(e.hurt, i)
	}
}

func newEngine() *engine { return &engine{world: newWorld(), hurt: map[int32]bool{}} }

// Whatever is declared and whatever happens in between: an update takes no more ready instances than it may, nothing is
// replaced while paused, a plan in force gives no further step; and when the failures end, all of it comes about.
func TestUpdatesAreBoundedAndEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEngine()
		e.pulls = rapid.Bool().Draw(t, "pulls")
		e.snapshot.Replicas = rapid.Int32Range(0, 7).Draw(t, "replicas")
		e.decide(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"live", "live", "live", "live", "template", "scale", "pool", "fixed", "max", "pause"}).Draw(t, "do") {
			case "template":
				e.hash = rapid.SampledFrom([]string{"a1", "b2", "c3"}).Draw(t, "hash") + e.pools[0]
			case "pool":
				e.pools = []string{rapid.SampledFrom([]string{"shop", "bank"}).Draw(t, "pool")}
				e.hash = e.hash[:2] + e.pools[0]
			case "fixed":
				e.fixed = rapid.SliceOfN(rapid.SampledFrom([]string{"", "10.44.9.1", "10.44.9.2"}), 0, 4).Draw(t, "fixed")
			case "scale":
				e.snapshot.Replicas = rapid.Int32Range(0, 7).Draw(t, "replicas")
			case "max":
				e.snapshot.MaxUnavailable = rapid.Int32Range(0, 3).Draw(t, "max")
			case "pause":
				e.snapshot.Paused = rapid.Bool().Draw(t, "paused")
			case "live":
				if len(e.instances) > 0 {
					i := rapid.SampledFrom(slices.Sorted(maps.Keys(e.instances))).Draw(t, "instance")
					e.live(i, rapid.SampledFrom([]string{"start", "ready", "ready", "end", "fail", "pulled"}).Draw(t, "happens"))
				}
			}
			e.decide(t)
		}

		e.snapshot.Paused = false
		var p Plan
		for n := 0; ; n++ {
			p = e.decide(t)
			if len(p.Steps) == 0 && p.After == 0 {
				break
			}
			if n > 100 {
				t.Fatalf("does not come to an end:\n%s", p)
			}
			for _, i := range slices.Sorted(maps.Keys(e.instances)) {
				e.live(i, "pulled")
				if in := e.instances[i]; in.Phase == "Stopping" {
					e.live(i, "end")
				}
				if e.instances[i] != nil {
					e.live(i, "start")
					e.live(i, "ready")
				}
			}
		}
		for i := range e.snapshot.Replicas {
			in := e.instances[i]
			if in == nil || !in.ready() || in.Revision != e.hash || p.Wanted.Slots[i].Index != i || p.Wanted.Slots[i].Revision != e.hash {
				t.Fatalf("slot %d is %+v at the end:\n%s", i, in, p)
			}
			if int(i) < len(e.fixed) && e.fixed[i] != "" && in.Addresses[0] != e.fixed[i] {
				t.Fatalf("slot %d holds %s, not the declared %s", i, in.Addresses[0], e.fixed[i])
			}
		}
		if len(p.Wanted.Slots) != int(e.snapshot.Replicas) || len(e.instances) != int(e.snapshot.Replicas) || len(p.Wanted.Revisions) != 1 {
			t.Fatalf("%d instances at the end:\n%s", len(e.instances), p)
		}
	})
}

// Scaling alone touches no slot that stays.
func TestScalingTouchesNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.snapshot.Replicas = rapid.Int32Range(0, 40).Draw(t, "from")
		w.plan()
		w.serve()
		for _, in := range w.instances {
			in.Ready = rapid.Bool().Draw(t, "ready")
		}
		w.snapshot.Replicas = rapid.Int32Range(0, 40).Draw(t, "to")
		for _, st := range w.plan().Steps {
			if st.Verb != Create && st.Verb != Remove {
				t.Fatalf("%+v", st)
			}
		}
	})
}
