package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The defaults of the schema, repeated for objects that were made in Go and never passed an API server.
const (
	DefaultHealthGracePeriod   = 30 * time.Second
	DefaultHealthInterval      = 5 * time.Second
	DefaultHealthTimeout       = 2 * time.Second
	DefaultFailureThreshold    = 3
	DefaultSuccessThreshold    = 1
	DefaultStopSignal          = "SIGTERM"
	DefaultStopGracePeriod     = 10 * time.Second
	DefaultRestartInitialDelay = time.Second
	DefaultRestartMaxDelay     = 5 * time.Minute
	DefaultRestartStableAfter  = time.Minute
	DefaultMaxUnavailable      = 1
	DefaultMTU                 = 1500
	DefaultVXLANMTU            = 1450
	DefaultDrainTime           = 30 * time.Second
	DefaultTableSize           = 4093
	DefaultBackendWeight       = 100
	DefaultCheckInterval       = 2 * time.Second
	DefaultCheckTimeout        = time.Second
	DefaultHoldTime            = 3 * time.Second
	DefaultBFDInterval         = 100 * time.Millisecond
	DefaultBFDMultiplier       = 3
	DefaultFetchInterval       = time.Minute
	DefaultFetchTimeout        = time.Minute
	DefaultRetryInterval       = 5 * time.Second
	DefaultRetryMax            = 5 * time.Minute
	DefaultSyncTimeout         = 5 * time.Minute
	DefaultSyncHealthTimeout   = 10 * time.Minute
)

func durationOr(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}

func atLeastOne(n, otherwise int32) int32 {
	if n < 1 {
		return otherwise
	}
	return n
}

// Wanted is the number of instances wanted; 1 when nothing is said.
func (s *AppSpec) Wanted() int32 {
	if s.Replicas == nil {
		return 1
	}
	return *s.Replicas
}

// Times gives the grace period, the interval and the timeout.
func (h *HealthCheck) Times() (grace, interval, timeout time.Duration) {
	return durationOr(h.GracePeriod, DefaultHealthGracePeriod),
		durationOr(h.Interval, DefaultHealthInterval),
		durationOr(h.Timeout, DefaultHealthTimeout)
}

// Thresholds gives the numbers of consecutive failures and successes that count.
func (h *HealthCheck) Thresholds() (failure, success int32) {
	return atLeastOne(h.FailureThreshold, DefaultFailureThreshold), atLeastOne(h.SuccessThreshold, DefaultSuccessThreshold)
}

// Grace is the time between the stop signal and the kill.
func (s *Stop) Grace() time.Duration { return durationOr(s.GracePeriod, DefaultStopGracePeriod) }

// SignalName is the name of the stop signal.
func (s *Stop) SignalName() string {
	if s.Signal == "" {
		return DefaultStopSignal
	}
	return s.Signal
}

// Delays gives the first and the longest delay before a restart, and how long an instance must have been ready for
// the first to apply again.
func (r *RestartPolicy) Delays() (initial, maximum, stableAfter time.Duration) {
	return durationOr(r.InitialDelay, DefaultRestartInitialDelay),
		durationOr(r.MaxDelay, DefaultRestartMaxDelay),
		durationOr(r.StableAfter, DefaultRestartStableAfter)
}

// Unavailable is the number of instances that may be not ready because of an update.
func (u *UpdateStrategy) Unavailable() int32 {
	return atLeastOne(u.MaxUnavailable, DefaultMaxUnavailable)
}

// EffectiveMTU is the largest packet that instances send, in bytes.
func (s *NetworkSpec) EffectiveMTU() int32 {
	switch {
	case s.MTU != 0:
		return s.MTU
	case s.Driver == DriverVXLAN:
		return DefaultVXLANMTU
	}
	return DefaultMTU
}

// driverOf is the driver of a Network.
func driverOf(s *NetworkSpec) string {
	if s.Driver == "" {
		return DriverBridge
	}
	return s.Driver
}

// Hold is how long a silent router counts as up.
func (s *BGPPeerSpec) Hold() time.Duration { return durationOr(s.HoldTime, DefaultHoldTime) }

// Every is the time between two packets.
func (b *BFD) Every() time.Duration { return durationOr(b.Interval, DefaultBFDInterval) }

// Missing is how many packets may be missing in a row.
func (b *BFD) Missing() int32 { return atLeastOne(b.Multiplier, DefaultBFDMultiplier) }

// Times gives the interval and the timeout.
func (c *PathCheck) Times() (interval, timeout time.Duration) {
	return durationOr(c.Interval, DefaultCheckInterval), durationOr(c.Timeout, DefaultCheckTimeout)
}

// Thresholds gives the numbers of consecutive failures and successes that count.
func (c *PathCheck) Thresholds() (failure, success int32) {
	return atLeastOne(c.FailureThreshold, DefaultFailureThreshold), atLeastOne(c.SuccessThreshold, DefaultSuccessThreshold)
}

// Drain is how long an instance that is to stop keeps its connections.
func (s *LoadBalancerSpec) Drain() time.Duration { return durationOr(s.DrainTime, DefaultDrainTime) }
