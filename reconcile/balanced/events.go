package balanced

import (
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/rollout"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Transitions tells what is new in a status compared with the one that was shown before. What passes by itself is not worth
// telling, and what was said of one condition is not said of the next.
func Transitions(before, after v1alpha1.LoadBalancerStatus) []rollout.Event {
	var events []rollout.Event
	told := map[string]bool{}
	for _, kind := range []string{
		v1alpha1.ConditionAccepted, v1alpha1.ConditionAnnounced, v1alpha1.ConditionPeersUp, v1alpha1.ConditionServersReady,
		v1alpha1.ConditionRedundant, v1alpha1.ConditionConnectionsKept,
	} {
		was, is := find(before, kind), find(after, kind)
		if is.Status == was.Status && is.Reason == was.Reason {
			continue
		}
		switch {
		case is.Status == metav1.ConditionFalse && worth(is) && !told[is.Reason]:
			told[is.Reason] = true
			events = append(events, rollout.Event{Warning: true, Reason: is.Reason, Message: is.Message})
		case is.Status == metav1.ConditionTrue && (kind == v1alpha1.ConditionAnnounced || was.Status == metav1.ConditionFalse && worth(was)) && !told[is.Message]:
			told[is.Message] = true
			events = append(events, rollout.Event{Reason: is.Reason, Message: is.Message})
		}
	}
	return events
}

// worth tells whether a condition that is not met calls for a look.
func worth(c metav1.Condition) bool {
	if c.Type == v1alpha1.ConditionPeersUp && c.Reason == padisv1.ReasonNoPeers {
		// Announced says it.
		return false
	}
	return !passing(c.Reason)
}

func find(s v1alpha1.LoadBalancerStatus, kind string) metav1.Condition {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}
