package instance

import (
	"hash/fnv"
	"strconv"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// What a RestartPolicy that says nothing means.
const (
	defaultInitialDelay = time.Second
	defaultMaxDelay     = 5 * time.Minute
	defaultStableAfter  = time.Minute
	// soon is the first delay after an end that was not the program's fault.
	soon = 100 * time.Millisecond
)

// Stable tells whether the run that ends now was ready for so long that earlier failures are forgotten.
func Stable(r *padisv1.InstanceRecord, policy *padisv1.RestartPolicy, now time.Time) bool {
	return r.GetReadyMs() > 0 && now.UnixMilli()-r.GetReadyMs() >= millis(policy.GetStableAfterMs(), defaultStableAfter).Milliseconds()
}

// Delay is the time between the end of a task and the next launch: initial * 2^(failures-1), at most the policy's
// maximum, spread by a tenth either way so that instances that failed together do not return together. The spread
// comes from the slot and the attempt, so that the same history waits the same time.
func Delay(cause Cause, failures int32, policy *padisv1.RestartPolicy, slot record.Slot, attempt int64) time.Duration {
	d := millis(policy.GetInitialDelayMs(), defaultInitialDelay)
	most := millis(policy.GetMaxDelayMs(), defaultMaxDelay)
	if cause == Dropped || cause == Collapsed || cause == Killed {
		d = min(d, soon)
	}
	for i := int32(1); i < failures && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	h := fnv.New64a()
	_, _ = h.Write([]byte(slot.String() + "." + strconv.FormatInt(attempt, 10)))
	return d*9/10 + d*time.Duration(h.Sum64()%1000)/5000
}

func millis(ms int64, otherwise time.Duration) time.Duration {
	if ms <= 0 {
		return otherwise
	}
	return time.Duration(ms) * time.Millisecond
}
