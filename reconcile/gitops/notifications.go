package gitops

import (
	"context"
	"fmt"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"
	"padis.io/padis/reconcile/gitops/notify"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// tell puts what the receivers of notifications are to be told into the status that is about to be written.
func (l *look) tell(ctx context.Context) (lost int) {
	news := notify.News{Failure: l.failure()}
	if l.s != nil {
		news.Corrected, news.Recurring = l.s.corrected, l.s.recurring
	}
	if len(l.y.Spec.Notifications) > 0 {
		news.Source = l.disbelieved(ctx)
	}
	l.next.Told, l.next.Telling, lost = notify.Next(l.y, &l.next, news, l.now())
	return lost
}

// told has what is in the status now sent.
func (l *look) told(lost int) {
	if l.s != nil {
		l.s.corrected, l.s.recurring = "", ""
	}
	if lost > 0 {
		l.events.Event(l.y, corev1.EventTypeWarning, ReasonNotificationLost, fmt.Sprintf("%s given up, because more than %d wait for the receivers of spec.notifications", decide.Plural(lost, "message is", "messages are"), v1alpha1.MaxTelling))
	}
	l.teller.waiting(l.y, l.next.Telling)
}

// failure is the event that the reason of a Sync that is not ready stands for; empty if that may pass by itself.
func (l *look) failure() string {
	ready := find(l.next.Conditions, v1alpha1.ConditionReady)
	if ready.Status == metav1.ConditionTrue {
		return ""
	}
	switch ready.Reason {
	case ReasonInvalid, ReasonSettings, ReasonBroken, ReasonConflict, ReasonFailed, decide.ReasonStalled:
		return v1alpha1.NotifyFailed
	case ReasonRefused, decide.ReasonPruneLimit, decide.ReasonPruneAll:
		return v1alpha1.NotifyRefused
	case ReasonUnhealthy:
		// What only progresses is on its way, unless an attempt has given up waiting for it.
		for _, u := range l.next.Unhealthy {
			if l.next.Failures > 0 || u.Health == decide.Failed.String() {
				return v1alpha1.NotifyFailed
			}
		}
	}
	return ""
}

// disbelieved is the newest commit of the source if it does not vouch for it.
func (l *look) disbelieved(ctx context.Context) *notify.Refusal {
	ref := l.y.Spec.SourceRef
	name := types.NamespacedName{Namespace: l.y.Namespace, Name: ref.Name}
	if ref.Namespace != "" {
		name.Namespace = ref.Namespace
	}
	var gs v1alpha1.GitSource
	// Before there is a session, it is not known whether the Sync may read the source.
	if l.s == nil || find(l.next.Conditions, v1alpha1.ConditionReady).Reason == ReasonSourceNotReady || l.client.Get(ctx, name, &gs) != nil || gs.Status.Refused == "" {
		return nil
	}
	c := find(gs.Status.Conditions, v1alpha1.ConditionReady)
	return &notify.Refusal{Commit: gs.Status.Refused, Reason: c.Reason, Message: fmt.Sprintf("gitsource %s: %s", name, c.Message)}
}
