package rollout

import (
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status reads "Accepted Available=NoOffers Progressing=Updating": a condition is False for what follows the sign, except
// Progressing, which is True.
func statusOf(text string) v1alpha1.AppStatus {
	var s v1alpha1.AppStatus
	for _, word := range strings.Fields(text) {
		kind, reason, bad := strings.Cut(word, "=")
		c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: "because"}
		switch {
		case kind == v1alpha1.ConditionProgressing && (reason == "Complete" || reason == "Paused"), kind != v1alpha1.ConditionProgressing && bad:
			c.Status = metav1.ConditionFalse
		case !bad:
			c.Reason = map[string]string{v1alpha1.ConditionAccepted: "Accepted", v1alpha1.ConditionAvailable: "Ready"}[kind]
		}
		s.Conditions = append(s.Conditions, c)
	}
	return s
}

func TestTransitions(t *testing.T) {
	for _, c := range []struct{ before, after, events string }{
		{"", "Accepted Available=Starting Progressing=Starting", ""},
		{"Accepted Available=Starting Progressing=Starting", "Accepted Available Progressing=Complete", "Normal Ready: because"},
		{"Accepted Available Progressing=Complete", "Accepted Available=Exited Progressing=Starting", ""},
		{"", "Accepted=PoolNotFound Available=PoolNotFound Progressing=PoolNotFound", "Warning PoolNotFound: because"},
		{"Accepted=PoolNotFound Available=PoolNotFound", "Accepted=Invalid Available=Invalid", "Warning Invalid: because"},
		{"Accepted=Invalid Available", "Accepted=Invalid Available", ""},
		{"Accepted=Invalid Available", "Accepted Available", "Normal Accepted: because"},
		{"Accepted Available=Updating Progressing=Updating", "Accepted Available Progressing=Updating", ""},
		{"Accepted Available=Updating Progressing=Updating", "Accepted Available Progressing=Complete", "Normal Ready: because, Normal Updated: because"},
		{"Accepted Available Progressing=Updating", "Accepted Available Progressing=Paused", "Normal Paused: because"},
		{"Accepted Available Progressing=Paused", "Accepted Available Progressing=Paused", ""},
		{"Accepted Available Progressing=Updating", "Accepted Available Progressing=ImageNotFound", ""},
		{"Accepted Available=Updating Progressing=ImageNotFound", "Accepted Available Progressing=ImageNotFound", ""},
		{"Accepted Available Progressing=ImageNotFound", "Accepted Available Progressing=Complete", "Normal Updated: because"},
		{"Accepted Available Progressing=Readdressing", "Accepted Available Progressing=Complete", "Normal Updated: because"},
	} {
		var got []string
		for _, e := range Transitions(statusOf(c.before), statusOf(c.after)) {
			got = append(got, e.String())
		}
		if strings.Join(got, ", ") != c.events {
			t.Errorf("%q -> %q: %q, want %q", c.before, c.after, got, c.events)
		}
	}
}

func TestAWorryIsToldOnceItLasts(t *testing.T) {
	start := time.Unix(1000, 0)
	var w Worry
	for _, c := range []struct {
		after  time.Duration
		status string
		event  string
		again  time.Duration
	}{
		{0, "Accepted Available=NoOffers", "", 2 * time.Second},
		{500 * time.Millisecond, "Accepted Available=NoOffers", "", 1500 * time.Millisecond},
		{600 * time.Millisecond, "Accepted Available=Starting", "", 0},
		{1 * time.Second, "Accepted Available=NoOffers", "", 2 * time.Second},
		{2 * time.Second, "Accepted Available=PoolExhausted", "", 2 * time.Second},
		{4 * time.Second, "Accepted Available=PoolExhausted", "Warning PoolExhausted: because", 0},
		{9 * time.Second, "Accepted Available=PoolExhausted", "", 0},
		{10 * time.Second, "Accepted Available", "", 0},
		{11 * time.Second, "Accepted Available=PoolExhausted", "", 2 * time.Second},
		{12 * time.Second, "Accepted=Invalid Available=PoolExhausted", "", 0},
		{20 * time.Second, "Accepted Available Progressing=Updating", "", 0},
		{21 * time.Second, "Accepted Available Progressing=ImageNotFound", "", 2 * time.Second},
		{23 * time.Second, "Accepted Available Progressing=ImageNotFound", "Warning ImageNotFound: because", 0},
		{24 * time.Second, "Accepted Available Progressing=Complete", "", 0},
	} {
		next, event, again := w.Next(statusOf(c.status), start.Add(c.after))
		w = next
		got := ""
		if event != nil {
			got = event.String()
		}
		if got != c.event || again != c.again {
			t.Errorf("after %s, %s: %q and again after %s, want %q and %s", c.after, c.status, got, again, c.event, c.again)
		}
	}
}
