package supervise

import "time"

// Backoff says how long to wait before a child that ended is started again. First doubles with each consecutive
// failure up to Max; a child that ran for StableAfter starts at First again. First equal to Max is a constant delay.
type Backoff struct {
	First, Max, StableAfter time.Duration
}

// DefaultBackoff suits the parts of one machine: they come back at once, and a part that cannot start does not burn a
// core or fill its log.
func DefaultBackoff() Backoff {
	return Backoff{First: 200 * time.Millisecond, Max: 10 * time.Second, StableAfter: 10 * time.Second}
}

// Constant is a back-off that always waits d.
func Constant(d time.Duration) Backoff { return Backoff{First: d, Max: d, StableAfter: d} }

// Next returns the number of consecutive failures after a run of the given length, and the delay before the next one.
func (b Backoff) Next(failures int, ran time.Duration) (int, time.Duration) {
	if ran >= b.StableAfter {
		failures = 0
	}
	delay := b.First
	for i := 0; i < failures && delay < b.Max; i++ {
		delay *= 2
	}
	return failures + 1, min(delay, b.Max)
}
