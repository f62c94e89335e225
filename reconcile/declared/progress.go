package declared

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// UpgradeProgress is the status of an upgrade that is in force, but for what is the same for all kinds.
func UpgradeProgress(spec *v1alpha1.ExecutorUpgradeSpec, u runtime.Upgrade) v1alpha1.ExecutorUpgradeStatus {
	out := v1alpha1.ExecutorUpgradeStatus{Total: int32(u.Total), Updated: int32(u.Updated), Upgrading: int32(len(u.Upgrading)), Skipped: int32(len(u.Skipped))}
	c := metav1.Condition{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse}
	count := fmt.Sprintf("%d of %d executors are up to date", u.Updated, u.Total)
	var left []string
	for _, host := range slices.Sorted(maps.Keys(u.Skipped)) {
		left = append(left, host+": "+u.Skipped[host])
	}
	switch {
	case len(u.Upgrading) > 0:
		c.Status, c.Reason = metav1.ConditionTrue, padisv1.ReasonUpgrading
		c.Message = fmt.Sprintf("%s; now on %s", count, few(u.Upgrading))
	case u.Updated >= u.Total:
		c.Reason, c.Message = padisv1.ReasonComplete, count
	case spec.Paused:
		c.Reason, c.Message = padisv1.ReasonPaused, count+"; set spec.paused to false to go on"
	case spec.ArtifactSHA256 != "" && spec.ArtifactSHA256 != u.Target:
		c.Reason, c.Message = padisv1.ReasonInvalid, fmt.Sprintf("%s; the scheduler offers the executor %s and not that of spec.artifactSHA256: start the scheduler with that executor, or correct the field", count, u.Target)
	case u.Total-u.Updated <= len(u.Skipped):
		c.Reason, c.Message = padisv1.ReasonComplete, count+"; the others are left alone"
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, padisv1.ReasonUpgrading, count
	}
	if u.Message != "" {
		c.Message += "; " + u.Message
	}
	if len(left) > 0 {
		c.Message += "; left alone: " + few(left)
	}
	out.Conditions = []metav1.Condition{c}
	return out
}

// PrepullProgress is the status of an ImagePrepull that is in force, but for what is the same for all kinds.
func PrepullProgress(states []runtime.AgentImage) v1alpha1.ImagePrepullStatus {
	var out v1alpha1.ImagePrepullStatus
	agents := map[string]*v1alpha1.AgentPrepull{}
	var failed []string
	states = slices.Clone(states)
	slices.SortFunc(states, func(a, b runtime.AgentImage) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Agent, b.Agent), strings.Compare(a.Image, b.Image))
	})
	for _, s := range states {
		a := agents[s.Agent]
		if a == nil {
			a = &v1alpha1.AgentPrepull{Agent: s.Agent, Host: s.Host}
			agents[s.Agent] = a
		}
		a.Wanted++
		out.Wanted++
		switch {
		case s.Present:
			a.Present++
			out.Present++
		case underWay(s.Reason):
		default:
			a.Failed++
			out.Failed++
			text := fmt.Sprintf("%s %s: %s", s.Image, s.Reason, s.Message)
			if a.Message == "" {
				a.Message = text
			}
			failed = append(failed, "on "+s.Host+" "+text)
		}
	}
	for _, a := range agents {
		out.Agents = append(out.Agents, *a)
	}
	slices.SortFunc(out.Agents, func(a, b v1alpha1.AgentPrepull) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(b.Wanted-b.Present, a.Wanted-a.Present), strings.Compare(a.Host, b.Host), strings.Compare(a.Agent, b.Agent))
	})
	out.Agents = out.Agents[:min(len(out.Agents), v1alpha1.MaxPrepullAgents)]
	out.Conditions = []metav1.Condition{present(out, len(agents), failed)}
	return out
}

// underWay tells whether a reason passes by itself.
func underWay(reason string) bool {
	return reason == "" || reason == padisv1.ReasonPulling || reason == padisv1.ReasonPrepulling
}

func present(s v1alpha1.ImagePrepullStatus, agents int, failed []string) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionPresent, Status: metav1.ConditionFalse, Reason: padisv1.ReasonPulling,
		Message: fmt.Sprintf("%d of %d pulls on %d agents are done", s.Present, s.Wanted, agents)}
	switch {
	case agents == 0:
		c.Reason, c.Message = padisv1.ReasonNoOffers, "no agent that runs an executor of Padis has one of the attributes of spec.agents; images are pulled when one has"
	case s.Present == s.Wanted:
		c.Status, c.Reason = metav1.ConditionTrue, padisv1.ReasonComplete
	case len(failed) > 0:
		c.Message += fmt.Sprintf("; %d have failed and are tried again: %s", len(failed), few(failed))
	}
	return c
}
