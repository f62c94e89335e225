package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestInstancesServeAtTheirOwnAddresses(t *testing.T) {
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0), "shop.web-1": web(1), "shop.web-2": web(2)})
	for i := range 3 {
		task := fmt.Sprint("shop.web-", i)
		s := m.ready(task)
		if s.Healthy == nil || !*s.Healthy || s.report.GetAddresses()[0] != address(i) {
			t.Errorf("%s: %+v %v", task, s.Status, s.report)
		}
		want := fmt.Sprintf("web-%d at %s on host1, host name web-%d", i, address(i), i)
		m.until(want, func() bool {
			body, err := get(i)
			return err == nil && strings.Contains(body, want)
		})
		logs, err := filepath.Glob(filepath.Join(m.WorkDir(0), "slaves/*/frameworks/*/executors/padis-1/runs/latest/tasks", task, "stdout"))
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs: %v, %v", logs, err)
		}
		if b, err := os.ReadFile(logs[0]); err != nil || string(b) != "serving on "+address(i)+"\n" {
			t.Errorf("the log says %q, %v", b, err)
		}
	}
	m.kill("shop.web-1")
	s := m.state("shop.web-1", mesos.TaskKilled)
	if body, err := get(1); err == nil {
		t.Errorf("reported as killed, it answers: %s", body)
	}
	m.state("shop.web-1", mesos.TaskKilling)
	if running(s.report.GetPid()) {
		t.Error("reported as killed, it runs")
	}
	if body, err := get(2); err != nil {
		t.Errorf("its neighbour does not answer: %v %s", err, body)
	}
}

func TestWhatCannotRunIsReportedWithItsReason(t *testing.T) {
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{
		"command": web(0, func(l *padisv1.Launch) { l.Template.Command = []string{"no-such-program"} }),
		"user":    web(1, func(l *padisv1.Launch) { l.Template.User = "no-such-user" }),
		"artifact": web(2, func(l *padisv1.Launch) {
			l.Template.Artifacts = []*padisv1.Artifact{{Uri: "file:///etc/passwd", Sha256: strings.Repeat("0", 64)}}
		}),
		"parent": web(3, func(l *padisv1.Launch) { l.Attachments[0].Network = &padisv1.Network{Bridge: "padis9", Parent: "eth9"} }),
		"bridge": web(4, func(l *padisv1.Launch) { l.Attachments[0].Network.Bridge = "a-name-that-is-too-long" }),
		"image":  web(5, func(l *padisv1.Launch) { l.Template.Image = "nginx" }),
		"exit":   web(6, func(l *padisv1.Launch) { l.Template.Command = []string{"sh", "-c", "exit 7"} }),
		"health": web(7, func(l *padisv1.Launch) {
			l.Template.HealthChecks[0] = &padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: 81}}, IntervalMs: 20, TimeoutMs: 1000, FailureThreshold: 3}
		}),
		"probe": web(8, func(l *padisv1.Launch) {
			l.Template.HealthChecks[0] = &padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Command{Command: &padisv1.CommandProbe{Command: []string{"sh", "-c", "echo out of order; exit 1"}}}, IntervalMs: 20, TimeoutMs: 5000, FailureThreshold: 2}
		}),
	})
	for task, want := range map[string][2]string{
		"command":  {padisv1.ReasonCommandNotFound, "no-such-program"},
		"user":     {padisv1.ReasonUserNotFound, "no-such-user"},
		"artifact": {padisv1.ReasonArtifactFailed, "file:///etc/passwd"},
		"parent":   {padisv1.ReasonNetworkFailed, "eth9"},
		"bridge":   {padisv1.ReasonNetworkFailed, "a-name-that-is-too-long"},
		"image":    {padisv1.ReasonRuntimeUnavailable, "switched off"},
		"exit":     {padisv1.ReasonExited, "code 7"},
		"health":   {padisv1.ReasonHealthCheckFailed, "connection refused"},
		"probe":    {padisv1.ReasonHealthCheckFailed, "out of order"},
	} {
		s := m.state(task, mesos.TaskFailed)
		if s.report.GetReason() != want[0] || !strings.Contains(s.report.GetMessage(), want[1]) {
			t.Errorf("%s: %v, want %v", task, s.report, want)
		}
	}
	m.until("no link is left", func() bool { return len(links(t)) == 0 })
}

func TestNothingIsLeftOfAKilledExecutor(t *testing.T) {
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0), "shop.web-1": web(1)})
	a, b := m.ready("shop.web-0").report.GetPid(), m.ready("shop.web-1").report.GetPid()
	executor, err := strconv.Atoi(field(a, "PPid"))
	if err != nil {
		t.Fatal(err)
	}
	old := links(t)
	if len(old) != 2 {
		t.Fatalf("links %v", old)
	}
	if err := unix.Kill(executor, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.state("shop.web-0", mesos.TaskFailed)
	m.until("the programs end", func() bool { return !running(a) && !running(b) })
	// The same address, in a new executor.
	m.launch(map[string]*padisv1.Launch{"shop.web-0.2": web(0, func(l *padisv1.Launch) { l.Attachments[0].Probe = true })})
	m.ready("shop.web-0.2")
	m.until("an answer", func() bool { _, err := get(0); return err == nil })
	now := links(t)
	for _, l := range old {
		for _, n := range now {
			if l == n {
				t.Errorf("link %s was left", l)
			}
		}
	}
	if body, err := get(1); err == nil {
		t.Errorf("the dead answers: %s", body)
	}
}

func TestInstancesOutliveTheAgent(t *testing.T) {
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0)})
	pid := m.ready("shop.web-0").report.GetPid()
	m.KillAgent(0)
	// Offers of before would spoil the launch below.
	m.until("offers are rescinded", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.offers) == 0
	})
	if _, err := get(0); err != nil {
		t.Error(err)
	}
	if err := m.RestartAgent(0); err != nil {
		t.Fatal(err)
	}
	m.launch(map[string]*padisv1.Launch{"shop.web-1": web(1)})
	m.ready("shop.web-1")
	if !running(pid) {
		t.Error("it was restarted")
	}
	m.kill("shop.web-0")
	m.state("shop.web-0", mesos.TaskKilled)
}

func TestAnAddressThatSomebodyHasIsWaitedFor(t *testing.T) {
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("addr", "add", address(0)+"/16", "dev", "sw0")
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0, func(l *padisv1.Launch) { l.Attachments[0].Probe = true })})
	s := m.status("shop.web-0", "is answered", func(s status) bool { return s.report.GetReason() == padisv1.ReasonAddressAnswered })
	b, err := os.ReadFile("/sys/class/net/sw0/address")
	if err == nil && s.State != mesos.TaskStarting {
		t.Errorf("%+v %v %s", s.Status, s.report, b)
	}
	ip("addr", "del", address(0)+"/16", "dev", "sw0")
	m.ready("shop.web-0")
	m.until("an answer", func() bool { _, err := get(0); return err == nil })
}

func TestExitStatuses(t *testing.T) {
	for args, want := range map[string]int{"version": exitOK, "help": exitOK, "--help": exitOK, "": exitEnvironment, "run": exitEnvironment, "dance": exitUsage, "--host-paths /srv,data": exitUsage, "--dance": exitUsage, "run x": exitUsage} {
		cmd := exec.Command(binary, strings.Fields(args)...)
		cmd.Env = []string{}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want || len(out) == 0 {
			t.Errorf("%q: exit status %d, want %d; it says %q", args, got, want, out)
		}
	}
}

func TestHostPaths(t *testing.T) {
	for _, c := range []struct {
		variable string
		args     []string
		want     string
	}{
		{"", nil, ""},
		{"/srv/, /data", nil, "/srv /data"},
		{"/srv", []string{"--host-paths", "/mnt/a,/mnt/b"}, "/mnt/a /mnt/b"},
		{"/srv", []string{"--host-paths="}, ""},
	} {
		t.Setenv(hostPathsVariable, c.variable)
		if o, err := parse(c.args); err != nil || strings.Join(o.hostPaths, " ") != c.want {
			t.Errorf("%+v: %q, %v", c, o.hostPaths, err)
		}
	}
	t.Setenv(hostPathsVariable, "srv")
	if o, err := parse(nil); err == nil || !strings.Contains(err.Error(), hostPathsVariable) {
		t.Errorf("%q, %v", o.hostPaths, err)
	}
}

func TestVariablesCountWhereNoFlagIs(t *testing.T) {
	got := func(args ...string) string {
		o, err := parse(args)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%q %q %q %d %s", o.ociRuntime, o.access, o.cache, o.parallel, o.level)
	}
	check := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check(got(), fmt.Sprintf(`"" ":0" "" %d info`, 2*runtime.NumCPU()))
	for name, value := range map[string]string{
		ociRuntimeVariable: "crun", accessVariable: ":9466", cacheVariable: "/srv/cache", parallelVariable: "3", logLevelVariable: "debug",
	} {
		t.Setenv(name, value)
	}
	check(got(), `"crun" ":9466" "/srv/cache" 3 debug`)
	check(got("--oci-runtime", "runc", "--access", ":1", "--cache", "/c", "--parallel", "4", "--log-level", "warn"), `"runc" ":1" "/c" 4 warn`)
	for name, bad := range map[string]string{parallelVariable: "0", logLevelVariable: "loud"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, bad)
			if _, err := parse(nil); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%s: %v", name, bad, err)
			}
		})
	}
}

// BenchmarkFifty launches fifty instances with one call and reports how long it takes until the last one is ready, and
// what the executor then costs.
func BenchmarkFifty(b *testing.B) {
	const n = 50
	for b.Loop() {
		m := newMachine(b)
		launches := map[string]*padisv1.Launch{}
		for i := range n {
			launches[fmt.Sprint("shop.web-", i)] = web(i)
		}
		begin := time.Now()
		m.launch(launches)
		var pid int32
		for task := range launches {
			pid = m.ready(task).report.GetPid()
		}
		all := time.Since(begin)
		executor, err := strconv.Atoi(field(pid, "PPid"))
		if err != nil {
			b.Fatal(err)
		}
		kb, err := strconv.Atoi(strings.TrimSuffix(field(int32(executor), "VmRSS"), " kB"))
		if err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(binary)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Printf("figure: executor_50_rss_mb %.1f\nfigure: executor_50_ready_seconds %.2f\nfigure: executor_binary_mb %.1f\nfigure: executor_50_threads %s\n", float64(kb)/1024, all.Seconds(), float64(info.Size())/(1<<20), field(int32(executor), "Threads"))
		m.Shutdown()
	}
}
