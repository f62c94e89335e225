package forecast

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/proposed"
	"padis.io/padis/reconcile/rollout"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/project"
	"padis.io/padis/scheduler/record"
)

// run is the control plane and its world in made-up time.
type run struct {
	core  *core.Core
	mesos *cluster
	now   time.Time
	// end is when it is given up that all comes to rest.
	end time.Time

	state *proposed.State
	view  *declared.View
	// Apps and LoadBalancers that are declared, by uid.
	declaredApps map[string]*v1alpha1.App
	balancers    map[string]*v1alpha1.LoadBalancer
	// directors are the names that directors have, names those of Apps.
	directors, names map[[2]string]bool
	// waits are the Apps and LoadBalancers of which no step is taken yet.
	waits map[[3]string]bool
	// changed are the uids of those that the changes are of.
	changed map[string]bool
	// dirty are the uids to look at, events what the reconcilers have decided beside.
	dirty  map[string]bool
	events []core.Event
	// refusals are the reasons why something is not in force, by uid.
	refusals map[string]*rollout.Refusal
	// watched are how Apps got where they are, by uid; nil while nobody wants to know.
	watched    map[string]*story
	unfinished string
	// restlessIn are the namespaces that unfinished tells of.
	restlessIn []string
	// findings are what the scheduler would log as errors; errs are contradictions of the made-up world.
	findings, errs []error
}

// story is how an App got where it is.
type story struct {
	batches [][]int32
	batchOf map[int32]int
	// causes are why slots change.
	causes   map[int32]string
	replicas int32
	minimum  int32
	// lowest is how many were ready when fewest were, while instances were replaced.
	lowest  int32
	held    []int32
	because string
}

func newRun(c *core.Core, m *cluster, now time.Time) *run {
	return &run{core: c, mesos: m, now: now, refusals: map[string]*rollout.Refusal{}, dirty: map[string]bool{}}
}

// declare makes a state the one that is declared.
func (r *run) declare(s *proposed.State) {
	gone := map[string]bool{}
	for _, uid := range r.core.Apps() {
		gone[uid] = true
	}
	r.state, r.view = s, declared.Build(s.Input())
	r.declaredApps, r.balancers = map[string]*v1alpha1.App{}, map[string]*v1alpha1.LoadBalancer{}
	r.directors, r.names = map[[2]string]bool{}, map[[2]string]bool{}
	for i := range s.Apps {
		if a := &s.Apps[i]; a.DeletionTimestamp == nil {
			r.declaredApps[string(a.UID)] = a
			r.names[[2]string{a.Namespace, a.Name}] = true
			r.dirty[string(a.UID)] = true
			delete(gone, string(a.UID))
		}
	}
	lost := map[string]bool{}
	for _, uid := range r.core.Balancers() {
		lost[uid] = true
	}
	for i := range s.Balancers {
		if b := &s.Balancers[i]; b.DeletionTimestamp == nil {
			r.balancers[string(b.UID)] = b
			r.directors[[2]string{b.Namespace, v1alpha1.DirectorsName(b.Name)}] = true
			r.dirty[string(b.UID)] = true
			delete(gone, string(b.UID))
			delete(lost, string(b.UID))
		}
	}
	r.events = append(r.events, core.Declare{Cluster: proto.CloneOf(r.view.Cluster)})
	for _, uid := range slices.Sorted(maps.Keys(gone)) {
		r.events = append(r.events, core.Forget{AppUID: uid})
	}
	for _, uid := range slices.Sorted(maps.Keys(lost)) {
		r.events = append(r.events, core.ForgetBalancer{UID: uid})
	}
}

// mark notes the uids of the Apps and LoadBalancers that the changes are of.
func (r *run) mark(changes map[[3]string]bool) {
	r.changed = map[string]bool{}
	for uid, a := range r.declaredApps {
		r.changed[uid] = changes[[3]string{"App", a.Namespace, a.Name}]
	}
	for uid, b := range r.balancers {
		r.changed[uid] = changes[[3]string{"LoadBalancer", b.Namespace, b.Name}]
	}
}

// settle lets things happen until all is at rest, or nothing more comes.
func (r *run) settle() {
	r.end, r.unfinished, r.restlessIn = r.now.Add(horizon), "", nil
	var next time.Time
	quiet := 0
	for range steps {
		events := append(r.events, r.mesos.take(r.now)...)
		r.events = nil
		events = append(events, r.reconcile()...)
		if len(events) == 0 {
			// What LoadBalancers give up shows only when all have been told.
			if r.rests() && (len(r.core.Balancers()) == 0 || quiet >= idle) {
				return
			}
			if next.IsZero() || next.After(r.end) || quiet >= idle {
				r.unfinished, r.restlessIn = r.restless()
				return
			}
			quiet++
			r.now = later(next, r.now.Add(time.Millisecond))
			events = []core.Event{core.Tick{}}
		} else {
			r.now = r.now.Add(time.Millisecond)
		}
		eff := r.core.Step(r.now, events...)
		r.findings = append(r.findings, eff.Errors...)
		r.mesos.now, next = r.now, eff.Next
		for _, call := range eff.Calls {
			if err := r.mesos.call(call); err != nil {
				r.errs = append(r.errs, err)
			}
		}
		for _, key := range eff.Changed.Slots {
			r.dirty[key.AppUID] = true
			if in := r.core.Instance(key); in == nil || in.GetPhase() != padisv1.Phase_PENDING {
				quiet = 0
			}
		}
		for _, uid := range eff.Changed.Balancers {
			r.dirty[uid] = true
		}
		if len(r.errs) > 0 {
			return
		}
	}
	r.unfinished, r.restlessIn = fmt.Sprintf("it does not come to rest within %d steps", steps), []string{""}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rests tells whether nothing is on its way: all that is wanted runs, and nothing else is there.
func (r *run) rests() bool {
	for p, n := range r.core.Stats().Phases {
		if p != padisv1.Phase_RUNNING && n > 0 {
			return false
		}
	}
	return true
}

// restless says what has not come to rest, and in which namespaces; empty if that is only what waits for something that
// nobody brings.
func (r *run) restless() (string, []string) {
	st := r.core.Stats().Phases
	var what []string
	phases := []padisv1.Phase{padisv1.Phase_BACKOFF, padisv1.Phase_STAGING, padisv1.Phase_STARTING, padisv1.Phase_ADOPTING, padisv1.Phase_STOPPING, padisv1.Phase_UNREACHABLE}
	for _, p := range phases {
		if st[p] > 0 {
			what = append(what, fmt.Sprintf("%d %s", st[p], project.Phase(p)))
		}
	}
	if len(what) == 0 {
		return "", nil
	}
	in := map[string]bool{}
	for _, key := range r.core.Slots() {
		if i := r.core.Instance(key); slices.Contains(phases, i.GetPhase()) {
			in[i.GetNamespace()] = true
		}
	}
	return fmt.Sprintf("after %s of made-up time there are instances still on their way, or on agents that do not answer: %v", horizon, what), slices.Sorted(maps.Keys(in))
}

// reconcile takes the next step of all that has changed, as the reconcilers do.
func (r *run) reconcile() []core.Event {
	var out []core.Event
	for _, uid := range slices.Sorted(maps.Keys(r.dirty)) {
		delete(r.dirty, uid)
		switch a, b := r.declaredApps[uid], r.balancers[uid]; {
		case a != nil && !r.waits[[3]string{"App", a.Namespace, a.Name}] && !r.preceded(a.Namespace, a.Name, uid):
			p, refusal := r.state.App(a, r.view, r.taken(a), r.live(uid))
			out = r.follow(out, uid, a.Spec.Wanted(), a.Spec.Update.Unavailable(), p, refusal)
		case b != nil && !r.waits[[3]string{"LoadBalancer", b.Namespace, b.Name}] && !r.preceded(b.Namespace, v1alpha1.DirectorsName(b.Name), uid):
			current := r.core.Balancer(uid)
			taken := r.names[[2]string{b.Namespace, v1alpha1.DirectorsName(b.Name)}]
			w, p, refusal := r.state.Balancer(b, r.view, taken, current, 1, r.live(uid))
			if w != nil && !proto.Equal(w, current) {
				out = append(out, core.WantBalancer{Balancer: w})
			}
			d := &b.Spec.Directors
			out = r.follow(out, uid, d.Wanted(), d.Update.Unavailable(), p, refusal)
		}
	}
	return out
}

// taken tells whether the directors of a LoadBalancer have the name of an App.
func (r *run) taken(a *v1alpha1.App) bool { return r.directors[[2]string{a.Namespace, a.Name}] }

// preceded tells whether instances of an earlier App of the name are still there. It is looked at again when they are gone.
func (r *run) preceded(namespace, name, uid string) bool {
	if r.core.App(uid) != nil {
		return false
	}
	for _, other := range r.core.Apps() {
		if w := r.core.App(other); w.GetNamespace() == namespace && w.GetName() == name && other != uid {
			r.dirty[uid] = false // Present, so that it is looked at again after the next step.
			return true
		}
	}
	return false
}

func (r *run) live(uid string) proposed.Live {
	l := proposed.Live{Wanted: r.core.App(uid)}
	var shown []*runtime.Instance
	for _, in := range r.core.Instances(uid) {
		key := record.Slot{AppUID: uid, Index: in.GetSlot()}
		shown = append(shown, project.Instance(in, r.core.Refusals(key), nil))
	}
	l.Instances = rollout.Observe(shown)
	return l
}

// follow puts the step of an App in force.
func (r *run) follow(out []core.Event, uid string, replicas int32, unavailable int32, p rollout.Plan, refusal *rollout.Refusal) []core.Event {
	r.refusals[uid] = refusal
	fresh := p.Wanted != nil && !proto.Equal(p.Wanted, r.core.App(uid))
	if r.watched != nil {
		r.watch(uid, replicas, unavailable, p, fresh)
	}
	if fresh {
		out = append(out, core.Want{App: p.Wanted})
	}
	return out
}

// causes are why an instance does not stay as it is.
var causes = map[rollout.Verb]string{
	rollout.Replace: "its revision changes",
	rollout.Release: "its fixed address changes",
}

// watch notes how an App gets where it goes.
func (r *run) watch(uid string, replicas, unavailable int32, p rollout.Plan, fresh bool) {
	s := r.watched[uid]
	if s == nil {
		s = &story{batchOf: map[int32]int{}, causes: map[int32]string{}}
		r.watched[uid] = s
	}
	s.replicas, s.minimum = replicas, max(0, replicas-max(1, unavailable))
	s.held, s.because = p.Waiting, p.Because
	ready := int32(0)
	for _, in := range r.core.Instances(uid) {
		if in.GetReady() && in.GetPhase() == padisv1.Phase_RUNNING && in.GetSlot() < replicas {
			ready++
		}
	}
	if len(s.batches) > 0 {
		s.lowest = min(s.lowest, ready)
	}
	if !fresh {
		return
	}
	var batch []int32
	for _, step := range p.Steps {
		if cause := causes[step.Verb]; cause != "" && s.causes[step.Slot] == "" {
			s.causes[step.Slot] = cause
		}
		if _, again := s.batchOf[step.Slot]; !again && (step.Verb == rollout.Replace || step.Verb == rollout.Release) {
			batch = append(batch, step.Slot)
		}
	}
	if len(batch) > 0 {
		if len(s.batches) == 0 {
			s.lowest = ready
		}
		slices.SortFunc(batch, cmp.Compare[int32])
		s.batches = append(s.batches, batch)
		for _, slot := range batch {
			s.batchOf[slot] = len(s.batches)
		}
	}
}
