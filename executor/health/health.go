// Package health decides when an instance is probed and what the results mean: its schedule and its thresholds. Pure.
//
// While a check has never succeeded and its grace period lasts, it is repeated quickly at first (25 ms, doubling up to
// its interval), so that an instance is ready soon after its program is; such failures are not counted. The first
// success, or the end of the grace period, begins the regular rhythm: an interval after each probe. FailureThreshold
// consecutive failures then mean that the check failed for good. A check passes after SuccessThreshold consecutive
// successes, and until its next failure. The instance is ready while all checks pass.
package health

import (
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// firstPause is the pause after the first failure of a program that is still starting.
const firstPause = 25 * time.Millisecond

// Check is one health check, with no zero value left in it.
type Check struct {
	Name                               string
	Grace, Interval, Timeout           time.Duration
	FailureThreshold, SuccessThreshold int
}

// Checks reads the checks of a template, with the defaults of the API where it has none.
func Checks(hs []*padisv1.HealthCheck) []Check {
	or := func(ms int64, d time.Duration) time.Duration {
		if ms <= 0 {
			return d
		}
		return time.Duration(ms) * time.Millisecond
	}
	var out []Check
	for _, h := range hs {
		c := Check{
			Name: "command", Grace: time.Duration(max(h.GetGracePeriodMs(), 0)) * time.Millisecond,
			Interval: or(h.GetIntervalMs(), 5*time.Second), Timeout: or(h.GetTimeoutMs(), 2*time.Second),
			FailureThreshold: int(max(h.GetFailureThreshold(), 1)), SuccessThreshold: int(max(h.GetSuccessThreshold(), 1)),
		}
		switch {
		case h.GetTcp() != nil:
			c.Name = "tcp"
		case h.GetHttp() != nil:
			c.Name = "http"
		}
		out = append(out, c)
	}
	return out
}

// State is what is known of all checks of one instance. It is a value: methods that change it return the new one.
type State struct {
	since  time.Time
	probes []probe
}

type probe struct {
	Check
	// running: the probe is out, its result is awaited. Otherwise the next one is due at next.
	running bool
	next    time.Time
	// early counts probes before the first success.
	early int
	// begun: there was a success. passing: the check passes at this moment.
	begun, passing      bool
	successes, failures int
	message             string
	probed              bool
}

// New begins to check an instance whose program runs since now.
func New(now time.Time, checks []Check) State {
	s := State{since: now}
	for _, c := range checks {
		s.probes = append(s.probes, probe{Check: c, next: now})
	}
	return s
}

// Resume goes on checking an instance that was ready until somebody else stopped checking it: it stays so until a check fails.
func Resume(now time.Time, checks []Check) State {
	s := New(now, checks)
	for i := range s.probes {
		p := &s.probes[i]
		p.begun, p.passing, p.probed, p.successes = true, true, true, p.SuccessThreshold
	}
	return s
}

// Begin returns the indices of the checks that are due, which are then awaited.
func (s State) Begin(now time.Time) (State, []int) {
	var due []int
	s.probes = slices.Clone(s.probes)
	for i := range s.probes {
		if p := &s.probes[i]; !p.running && !p.next.After(now) {
			p.running = true
			due = append(due, i)
		}
	}
	return s, due
}

// Result takes the result of a probe that Begin told to make; message says what went wrong. Results that are not
// awaited are ignored.
func (s State) Result(now time.Time, i int, ok bool, message string) State {
	if i < 0 || i >= len(s.probes) || !s.probes[i].running {
		return s
	}
	s.probes = slices.Clone(s.probes)
	p := &s.probes[i]
	starting := !p.begun && now.Before(s.since.Add(p.Grace))
	p.running, p.probed, p.next = false, true, now.Add(p.Interval)
	if ok {
		p.begun, p.failures, p.message = true, 0, ""
		p.successes = min(p.successes+1, p.SuccessThreshold)
		p.passing = p.passing || p.successes >= p.SuccessThreshold
		return s
	}
	p.passing, p.successes, p.message = false, 0, message
	if !starting {
		p.failures = min(p.failures+1, p.FailureThreshold)
		return s
	}
	pause := p.Interval
	if p.early < 16 {
		pause = min(pause, firstPause<<p.early)
	}
	p.early++
	p.next = now.Add(pause)
	return s
}

// Next is when the next probe is due; the zero time if none is.
func (s State) Next() time.Time {
	var next time.Time
	for _, p := range s.probes {
		if !p.running && (next.IsZero() || p.next.Before(next)) {
			next = p.next
		}
	}
	return next
}

// Checked tells whether there are checks, and each has had a result.
func (s State) Checked() bool {
	return len(s.probes) > 0 && !slices.ContainsFunc(s.probes, func(p probe) bool { return !p.probed })
}

// Empty tells whether there are no checks.
func (s State) Empty() bool { return len(s.probes) == 0 }

// Ready tells whether all checks pass; without checks they do.
func (s State) Ready() bool {
	return !slices.ContainsFunc(s.probes, func(p probe) bool { return !p.passing })
}

// Failed returns the first check that failed for good, and its last message.
func (s State) Failed() (check Check, message string, failed bool) {
	for _, p := range s.probes {
		if p.failures >= p.FailureThreshold {
			return p.Check, p.message, true
		}
	}
	return Check{}, "", false
}

// Check returns the check of an index that Begin returned.
func (s State) Check(i int) Check { return s.probes[i].Check }

// Reports says how each check stands, in the order of the template.
func (s State) Reports() []*padisv1.HealthReport {
	var out []*padisv1.HealthReport
	for _, p := range s.probes {
		out = append(out, &padisv1.HealthReport{Probe: p.Name, Healthy: p.passing, ConsecutiveFailures: int32(p.failures), Message: p.message})
	}
	return out
}
