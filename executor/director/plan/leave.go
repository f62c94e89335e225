package plan

import "time"

// How long a director that was told to end gives the routers for each step.
const (
	// Prefer is for RFC 8326: routers choose others while this one still forwards.
	Prefer = 500 * time.Millisecond
	// Quiet is how long nothing may have been forwarded before it ends, Linger how long it waits for that at most.
	Quiet  = 500 * time.Millisecond
	Linger = 10 * time.Second
	// look is how often packets are counted.
	look = 50 * time.Millisecond
)

// Leave is how far a director is on its way out. The zero value has not begun.
type Leave struct {
	began, withdrew, grew time.Time
	forwarded             uint64
}

// Step is what a director does next on its way out.
type Step uint8

// In this order: routers are asked to prefer others, then all is taken back, then packets fade, then it ends.
const (
	Ask Step = iota
	Withdraw
	Fade
	End
)

func (s Step) String() string { return [...]string{"ask", "withdraw", "fade", "end"}[s&3] }

// Begun tells whether it is on its way out.
func (l Leave) Begun() bool { return !l.began.IsZero() }

// Next goes on: what to do now, and when to come back. Forwarded are the packets sent to real servers so far, said says that
// routers were ever told something.
func (l Leave) Next(now time.Time, forwarded uint64, said bool) (Leave, Step, time.Time) {
	if !l.Begun() {
		l.began = now
	}
	if until := l.began.Add(Prefer); said && l.withdrew.IsZero() && now.Before(until) {
		return l, Ask, until
	}
	if l.withdrew.IsZero() {
		l.withdrew, l.grew, l.forwarded = now, now, forwarded
		if said {
			return l, Withdraw, now.Add(look)
		}
	}
	if forwarded != l.forwarded {
		l.grew, l.forwarded = now, forwarded
	}
	if !said || !now.Before(l.grew.Add(Quiet)) || !now.Before(l.withdrew.Add(Linger)) {
		return l, End, now
	}
	return l, Fade, now.Add(look)
}
