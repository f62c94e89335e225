package agent

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFromEnvironment(t *testing.T) {
	env := map[string]string{ // as a real agent of Mesos 1.11 set it
		"LIBPROCESS_IP": "127.0.0.1", "LIBPROCESS_PORT": "0", "MESOS_AGENT_ENDPOINT": "127.0.0.1:15201", "MESOS_CHECKPOINT": "1",
		"MESOS_DIRECTORY": "/var/lib/mesos/run", "MESOS_EXECUTOR_ID": "exec-2", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
		"MESOS_FRAMEWORK_ID": "fw-1", "MESOS_HTTP_COMMAND_EXECUTOR": "0", "MESOS_RECOVERY_TIMEOUT": "15mins",
		"MESOS_SANDBOX": "/var/lib/mesos/run", "MESOS_SLAVE_ID": "S0", "MESOS_SLAVE_PID": "slave(1)@127.0.0.1:15201",
		"MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs",
	}
	getenv := func(k string) string { return env[k] }
	want := Config{
		Endpoint: "127.0.0.1:15201", AgentID: "S0", FrameworkID: "fw-1", ExecutorID: "exec-2", Sandbox: "/var/lib/mesos/run",
		ShutdownGrace: 5 * time.Second, Checkpoint: true, RecoveryTimeout: 15 * time.Minute, SubscriptionBackoffMax: 2 * time.Second,
	}
	if got, err := FromEnvironment(getenv); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	// Without checkpointing an agent says less.
	env["MESOS_CHECKPOINT"] = "0"
	delete(env, "MESOS_RECOVERY_TIMEOUT")
	delete(env, "MESOS_SUBSCRIPTION_BACKOFF_MAX")
	want.Checkpoint = false
	if got, err := FromEnvironment(getenv); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := FromEnvironment(func(string) string { return "" }); err == nil || strings.Count(err.Error(), "is not set") != 4 {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"MESOS_AGENT_ENDPOINT": "127.0.0.1", "MESOS_CHECKPOINT": "yes", "MESOS_RECOVERY_TIMEOUT": "15 minutes",
		"MESOS_SUBSCRIPTION_BACKOFF_MAX": "secs", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "-5secs",
	} {
		_, err := FromEnvironment(func(k string) string {
			if k == name {
				return bad
			}
			return env[k]
		})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, bad, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"5secs": 5 * time.Second, "15mins": 15 * time.Minute, "1.5hrs": 90 * time.Minute, "2days": 48 * time.Hour, "1weeks": 168 * time.Hour,
		"250ms": 250 * time.Millisecond, "3us": 3 * time.Microsecond, "7ns": 7, "0ns": 0, "1e3secs": 1000 * time.Second, "1e300weeks": math.MaxInt64,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%q gave %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "5", "secs", "-1secs", "5 s", "NaNsecs", "5Secs", "1,5secs"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q gave %s", in, got)
		}
	}
}

func TestNewNamesAllThatIsMissing(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{"endpoint", "framework", "executor", "logger", "chance"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not speak of %s", err, want)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"5secs", "1.5hrs", "1e300weeks", "-1ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if d, err := ParseDuration(in); err == nil && d < 0 {
			t.Fatalf("%q gave %s", in, d)
		}
	})
}
