package proposed

import (
	"fmt"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/balanced"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"
	"padis.io/padis/reconcile/wanted"
)

// Live is what the scheduler knows of an App, or of the directors of a LoadBalancer.
type Live struct {
	// Wanted until now; nil if nothing was.
	Wanted    *padisv1.WantedApp
	Instances []rollout.Instance
}

// App is the next step of an App, as its reconciler takes it, and why it is not in force; nil if it is. isDirectors tells
// whether directors of a LoadBalancer have its name.
func (s *State) App(a *v1alpha1.App, v *declared.View, isDirectors bool, live Live) (rollout.Plan, *rollout.Refusal) {
	id, revision, refusal := wanted.App(a, v, s.Objects, live.Wanted)
	if refusal == nil && isDirectors {
		p := v1alpha1.AppOfDirectors(a)
		refusal = &rollout.Refusal{Reason: p.Reason, Message: fmt.Sprintf("%s: %q %s", p.Field, p.Value, p.Message)}
	}
	return rollout.Decide(rollout.Snapshot{
		App: id, Newest: revision, Refusal: refusal, Current: live.Wanted,
		Replicas: a.Spec.Wanted(), MaxUnavailable: a.Spec.Update.Unavailable(), Paused: a.Spec.Update.Paused,
		Instances: live.Instances,
	}), refusal
}

// Balancer is the next step of a LoadBalancer, as its reconciler takes it: what is wanted of it, which is current if it is
// refused, the step of its directors, and why it is not in force; nil if it is. seed is for one that is new.
func (s *State) Balancer(b *v1alpha1.LoadBalancer, v *declared.View, nameTaken bool, current *padisv1.WantedBalancer, seed uint64, live Live) (*padisv1.WantedBalancer, rollout.Plan, *rollout.Refusal) {
	in := balanced.Input{Balancer: b, View: v, Others: s.Balancers, Current: current, NameTaken: nameTaken}
	if current == nil {
		in.Seed = seed
	}
	out, refusal := balanced.Wanted(in)
	id, revision, no := wanted.Directors(b, v, live.Wanted)
	if refusal == nil {
		refusal = no
	}
	if refusal != nil {
		out = current
	}
	d := &b.Spec.Directors
	return out, rollout.Decide(rollout.Snapshot{
		App: id, Newest: revision, Refusal: refusal, Current: live.Wanted,
		Replicas: d.Wanted(), MaxUnavailable: d.Update.Unavailable(), Paused: d.Update.Paused,
		Instances: live.Instances,
	}), refusal
}
