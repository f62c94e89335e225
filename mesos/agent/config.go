package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Config of a Client. FromEnvironment fills the first part; Logger and Rand are added by the caller.
type Config struct {
	// Endpoint of the agent, host:port.
	Endpoint    string
	AgentID     string
	FrameworkID string
	ExecutorID  string
	// Sandbox is the directory that Mesos made for this executor.
	Sandbox string
	// ShutdownGrace is the time between SHUTDOWN and SIGKILL; 0 if the agent did not say.
	ShutdownGrace time.Duration
	// Checkpoint tells that the agent will look for us after a restart, for RecoveryTimeout at most.
	Checkpoint      bool
	RecoveryTimeout time.Duration
	// SubscriptionBackoffMax bounds the pause between attempts to subscribe again.
	SubscriptionBackoffMax time.Duration
	// Token is sent as bearer authentication, if any.
	Token string

	Logger *zap.Logger
	// Rand gives numbers in [0,1) for the jitter of back-off; it need not be safe for concurrent use.
	Rand func() float64
	// Dial opens connections to the agent; a TCP dialer with keep-alive if nil.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Times that an agent uses unless it was told otherwise, from the configuration page of Mesos.
const (
	defaultRecoveryTimeout = 15 * time.Minute
	defaultBackoffMax      = 2 * time.Second
)

// FromEnvironment reads what the agent told the executor through MESOS_* variables. The error names every variable that
// is missing or does not parse.
func FromEnvironment(getenv func(string) string) (Config, error) {
	var errs []error
	need := func(name string) string {
		v := getenv(name)
		if v == "" {
			errs = append(errs, fmt.Errorf("%s is not set", name))
		}
		return v
	}
	duration := func(name string, or time.Duration) time.Duration {
		v := getenv(name)
		if v == "" {
			return or
		}
		d, err := ParseDuration(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return d
	}
	cfg := Config{
		Endpoint:    need("MESOS_AGENT_ENDPOINT"),
		FrameworkID: need("MESOS_FRAMEWORK_ID"),
		ExecutorID:  need("MESOS_EXECUTOR_ID"),
		Sandbox:     need("MESOS_SANDBOX"),
		AgentID:     getenv("MESOS_SLAVE_ID"),
		Token:       getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),

		ShutdownGrace:          duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", 0),
		RecoveryTimeout:        duration("MESOS_RECOVERY_TIMEOUT", defaultRecoveryTimeout),
		SubscriptionBackoffMax: duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", defaultBackoffMax),
	}
	if cfg.Endpoint != "" {
		if _, port, err := net.SplitHostPort(cfg.Endpoint); err != nil || port == "" {
			errs = append(errs, fmt.Errorf("MESOS_AGENT_ENDPOINT: %q is not HOST:PORT", cfg.Endpoint))
		}
	}
	switch v := getenv("MESOS_CHECKPOINT"); v {
	case "1", "true":
		cfg.Checkpoint = true
	case "", "0", "false":
	default:
		errs = append(errs, fmt.Errorf("MESOS_CHECKPOINT: %q is neither 0 nor 1", v))
	}
	if len(errs) > 0 {
		return Config{}, fmt.Errorf("this program is started by a Mesos agent, as an executor: %w", errors.Join(errs...))
	}
	return cfg, nil
}

// ParseDuration reads a duration as Mesos writes it: a number, perhaps with a fraction, and one of ns, us, ms, secs,
// mins, hrs, days, weeks. What does not fit is the longest duration there is.
func ParseDuration(s string) (time.Duration, error) {
	i := len(s)
	for i > 0 && s[i-1] >= 'a' && s[i-1] <= 'z' {
		i--
	}
	unit, ok := map[string]time.Duration{
		"ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond, "secs": time.Second, "mins": time.Minute,
		"hrs": time.Hour, "days": 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
	}[s[i:]]
	if !ok {
		return 0, fmt.Errorf("duration %q: the unit is one of ns, us, ms, secs, mins, hrs, days, weeks", s)
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s[:i]), 64)
	if err != nil || math.IsNaN(n) || n < 0 {
		return 0, fmt.Errorf("duration %q does not begin with a number", s)
	}
	d := n * float64(unit)
	if d >= math.MaxInt64 {
		return math.MaxInt64, nil
	}
	return time.Duration(math.Round(d)), nil
}

func (c *Config) validate() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"endpoint", c.Endpoint}, {"framework id", c.FrameworkID}, {"executor id", c.ExecutorID},
	} {
		if f.value == "" {
			errs = append(errs, errors.New("no "+f.name))
		}
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("no logger"))
	}
	if c.Rand == nil {
		errs = append(errs, errors.New("no source of chance"))
	}
	return errors.Join(errs...)
}
