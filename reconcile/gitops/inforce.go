package gitops

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	corev1 "k8s.io/api/core/v1"
)

// meanwhile goes between why the wanted commit is not applied and what became of the one in force.
const meanwhile = "; meanwhile, "

// upheld is what is said of what stays in force while another commit is wanted, from one look to the next.
type upheld struct {
	// corrected was put back last, and found is what is otherwise now.
	corrected, found string
	// drift and ill go into the status. looked: they are known.
	drift  []v1alpha1.FieldReport
	ill    []v1alpha1.ObjectReport
	looked bool
}

func (u upheld) String() string {
	return strings.Join(slices.DeleteFunc([]string{u.corrected, u.found}, func(s string) bool { return s == "" }), "; ")
}

// also adds to a message what became of what is in force. It is there if the message is cut, too.
func also(message, said string) string {
	if said == "" {
		return message
	}
	said = cut(meanwhile+said, maxMessage/2)
	return cut(message, maxMessage-len(said)) + said
}

// sooner is the earlier of two times to come back, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// uphold keeps in force what is applied while the wanted commit is not, and says what there is to say of it and when to look
// again. It renders another commit than the wanted one only if something may have changed, and keeps one at a time.
func (l *look) uphold(ctx context.Context, frozen bool) (said string, after time.Duration) {
	s, commits := l.s, l.s.state.InForce()
	if !s.suspect(l.y.Spec.Corrects()) {
		return l.sayUpheld(), l.wake(decide.Plan{}, 0)
	}
	var (
		all    decide.Plan
		ill    []v1alpha1.ObjectReport
		looked = map[decide.ID]bool{}
	)
	name := "what is applied of commits " + strings.Join(commits, " and ") + " stays in force"
	if len(commits) == 1 {
		name = "commit " + commits[0] + " stays in force"
	}
	limit, _ := l.y.Spec.Times()
	writing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for i, commit := range commits {
		if i > 0 && !s.suspect(l.y.Spec.Corrects()) {
			break
		}
		plan, these, err := l.stillInForce(writing, commit, looked)
		if err != nil {
			s.upheld.found = name + ", and what became of it cannot be told: " + l.late(writing, err).Error()
			return l.sayUpheld(), again
		}
		if !frozen {
			if err := l.restore(writing, commit, &plan); errors.Is(err, errHeldUp) {
				return l.sayUpheld(), lagging
			} else if err != nil {
				s.upheld.found = name + ", and what others have changed cannot be put back: " + l.late(writing, err).Error()
				return l.sayUpheld(), again
			}
		}
		if len(plan.Drifted) > 0 && !frozen && l.y.Spec.Corrects() {
			text := l.corrected(plan.Drifted)
			l.events.Event(l.y, corev1.EventTypeNormal, ReasonDriftCorrected, cut(text, 1000))
			s.upheld.corrected = name + ": at " + l.now().UTC().Format(time.RFC3339) + ", " + text
			plan.Drifted = nil
		}
		ill = append(ill, l.ill(these)...)
		all.Add(plan)
		for _, w := range these {
			looked[w.ID] = true
		}
	}
	drift := l.reports(all)
	s.upheld.drift, s.upheld.ill, s.upheld.looked = drift[:min(len(drift), v1alpha1.MaxReported)], ill[:min(len(ill), v1alpha1.MaxReported)], true
	s.upheld.found = ""
	if words := s.contests.Words(all.Contested, l.now()); len(words) > 0 {
		s.upheld.found = some(words)
	} else if len(drift) > 0 {
		s.upheld.found = reported(drift)
	}
	if s.upheld.found != "" && s.upheld.corrected == "" {
		s.upheld.found = name + ": " + s.upheld.found
	}
	return l.sayUpheld(), l.wake(all, 0)
}

// sayUpheld puts what was found at the last look into the status, which was not written then maybe.
func (l *look) sayUpheld() string {
	u := &l.s.upheld
	if u.looked {
		l.next.Drift = u.drift
		if l.s.state.Written == "" {
			// Of what was written in part, it is said what the attempt waits for.
			l.next.Unhealthy = u.ill
		}
	}
	return u.String()
}

// stillInForce looks at what of a commit in force is kept, and not looked at yet, and says what is to be put back.
func (l *look) stillInForce(ctx context.Context, commit string, looked map[decide.ID]bool) (decide.Plan, []decide.Rendered, error) {
	s := l.s
	if err := l.render(ctx, l.y, s, l.set, commit); err != nil {
		return decide.Plan{}, nil, err
	}
	l.hold(ctx)
	these := decide.Upheld(s.wanted, func(id decide.ID) string {
		if k := s.known[id]; k != nil && !looked[id] {
			return k.Digest
		}
		return ""
	})
	plan, err := l.compareThese(ctx, l.y, s, l.shown.Inventory, these)
	return plan, these, err
}

// restore writes what others have changed of a commit in force.
func (l *look) restore(ctx context.Context, commit string, plan *decide.Plan) error {
	writes := l.writesOf(*plan)
	if len(writes) == 0 {
		return nil
	}
	c, err := l.objects.as(user(l.y))
	if err != nil {
		return err
	}
	if err := l.write(l.origin(ctx, commit), c, writes); err != nil {
		return err
	}
	l.putBack(plan.Drifted, writes)
	return nil
}
