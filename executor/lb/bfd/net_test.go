package bfd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func addr(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}

// wire is a network between two sides under a clock of its own. The sides are 0 and 1; what is indexed by a side is of the
// packets that it sends.
type wire struct {
	t interface {
		Helper()
		Fatalf(string, ...any)
	}
	now    time.Time
	side   [2]Session
	next   [2]time.Time
	flying []flight
	// What becomes of a packet: when it arrives, as often as there are delays; none is lost.
	fate func(from int) []time.Duration
	seed func() uint64

	// What an observer knows: the last packet that each side heard, and how often it went down.
	heard [2]time.Time
	said  [2]Packet
	downs [2]int
	spoke [2]time.Time
	// If not nil, it is told what happens.
	log *strings.Builder
}

type flight struct {
	at   time.Time
	to   int
	data []byte
}

func newWire(t *testing.T, c [2]Config) *wire {
	w := &wire{t: t, now: time.Unix(0, 0), seed: func() uint64 { return 0 }, fate: func(int) []time.Duration { return []time.Duration{time.Millisecond} }}
	w.start(c)
	return w
}

func (w *wire) start(c [2]Config) {
	for i := range w.side {
		w.side[i] = New(c[i], w.now)
		w.next[i] = w.now
	}
}

// run lets the clock go on for d.
func (w *wire) run(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); ; {
		at, what := end, -1
		for i, n := range w.next {
			if !n.IsZero() && n.Before(at) {
				at, what = n, i
			}
		}
		k := -1
		for j, f := range w.flying {
			// What arrives in the same instant is there before silence is judged.
			if !f.at.After(at) && (k < 0 || f.at.Before(w.flying[k].at)) {
				at, k = f.at, j
			}
		}
		if at.Before(w.now) {
			w.t.Fatalf("at %v a side wants to be asked %v earlier", w.clock(), w.now.Sub(at))
		}
		w.now = at
		switch {
		case k >= 0:
			f := w.flying[k]
			w.flying = slices.Delete(w.flying, k, k+1)
			p, err := Parse(f.data)
			if err != nil {
				w.t.Fatalf("%x: %v", f.data, err)
			}
			w.step(f.to, Event{Packet: &p})
		case what >= 0:
			w.step(what, Event{})
		default:
			return
		}
	}
}

func (w *wire) step(i int, e Event) {
	w.t.Helper()
	before := w.side[i]
	e.Now, e.Seed = w.now, w.seed()
	s, out := before.Step(e)
	w.side[i], w.next[i] = s, out.Next
	w.observe(i, before, e)
	if before.State() != s.State() {
		w.say("%c: %v -> %v (%d) %s", 'A'+i, before.State(), s.State(), s.diag, s.Why())
	}
	if !out.Send {
		return
	}
	p := out.Packet
	if !p.Final {
		if w.now.Sub(w.spoke[i]) < minInterval {
			w.t.Fatalf("at %v side %d speaks %v after it spoke", w.clock(), i, w.now.Sub(w.spoke[i]))
		}
		w.spoke[i] = w.now
	}
	w.say("%c sends %v%s%s tx %v rx %v x%d to %d", 'A'+i, p.State, mark(p.Poll, " poll"), mark(p.Final, " final"), p.DesiredTx, p.RequiredRx, p.Multiplier, p.Yours)
	for _, d := range w.fate(i) {
		w.flying = append(w.flying, flight{w.now.Add(d), 1 - i, p.Append(nil)})
	}
}

// observe checks what must hold of every step, by arithmetic of its own.
func (w *wire) observe(i int, before Session, e Event) {
	w.t.Helper()
	s := w.side[i]
	if p := e.Packet; p != nil && (p.Yours == 0 || p.Yours == s.Discriminator()) {
		w.heard[i], w.said[i] = w.now, *p
	}
	// More patience than for what is said now is allowed only while that is not confirmed.
	if s.poll == pollNone && (s.usedRx != s.requiredRx || s.usedTx != s.desiredTx) {
		w.t.Fatalf("at %v side %d uses %v and %v, and says %v and %v", w.clock(), i, s.usedTx, s.usedRx, s.desiredTx, s.requiredRx)
	}
	silence := w.now.Sub(w.heard[i])
	if limit := w.patience(i); s.State() >= Init && silence >= limit {
		w.t.Fatalf("at %v side %d is %v after a silence of %v, its detection time is %v", w.clock(), i, s.State(), silence, limit)
	}
	if before.State() == Up && s.State() == Down {
		w.downs[i]++
	}
	if before.State() >= Init && s.State() == Down && s.diag == DiagSilence && silence < min(before.Detection(), w.patience(i)) {
		w.t.Fatalf("at %v side %d lost patience after %v", w.clock(), i, silence)
	}
	if (s.state == Up) != (s.Why() == "") {
		w.t.Fatalf("%v, because %q", s.state, s.Why())
	}
}

// patience is the silence that side i may bear (RFC 5880, section 6.8.4).
func (w *wire) patience(i int) time.Duration {
	return time.Duration(w.said[i].Multiplier) * max(w.said[i].DesiredTx, w.side[i].requiredRx, w.side[i].usedRx)
}

func (w *wire) clock() time.Duration { return w.now.Sub(time.Unix(0, 0)) }

func (w *wire) say(format string, args ...any) {
	if w.log != nil {
		fmt.Fprintf(w.log, "%8v "+format+"\n", append([]any{w.clock()}, args...)...)
	}
}

func mark(is bool, s string) string {
	if is {
		return s
	}
	return ""
}
