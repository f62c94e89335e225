package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime/process"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// heard is what the executor says beside statuses: it is told that its leases go on as long as grants is set.
func (m *machine) heard(e mesos.FromExecutor) {
	said := &padisv1.FromExecutor{}
	if err := padisv1.Decode(e.Data, said); err != nil {
		m.t.Error(err)
		return
	}
	m.from = e
	if said.GetRenew() == nil {
		m.said = said
		return
	}
	if m.grants {
		go m.tell(&padisv1.ToExecutor{Renewed: said.GetRenew()})
	}
}

func (m *machine) tell(w *padisv1.ToExecutor) {
	data, err := padisv1.Encode(w)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.mu.Lock()
	from := m.from
	m.mu.Unlock()
	if err := m.client.Send(m.t.Context(), mesos.ToExecutor{AgentID: from.AgentID, ExecutorID: from.ExecutorID, Data: data}); err != nil && m.t.Context().Err() == nil {
		m.t.Error(err)
	}
}

func (m *machine) grant(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.grants = yes
}

func (m *machine) statement(what string, fits func(*padisv1.FromExecutor) bool) {
	m.t.Helper()
	m.until(what, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.said != nil && fits(m.said)
	})
}

// Whoever cannot renew the lease of its addresses in time loses them, and only them, until it can.
func TestLeases(t *testing.T) {
	m := newMachine(t)
	m.grant(true)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0, func(l *padisv1.Launch) { l.LeaseMs = 3000 }), "shop.web-1": web(1)})
	pid := m.ready("shop.web-0").report.GetPid()
	m.ready("shop.web-1")
	answers := func() bool { _, err := get(0); return err == nil }
	m.until("an answer", answers)
	m.grant(false)
	m.status("shop.web-0", "has lost its lease", func(s status) bool {
		return s.State == mesos.TaskRunning && s.report.GetReason() == padisv1.ReasonLeaseExpired && !s.report.GetReady()
	})
	if answers() {
		t.Error("it answers without a lease")
	}
	if _, err := get(1); err != nil {
		t.Errorf("its neighbour has none, and does not answer: %v", err)
	}
	m.grant(true)
	m.until("an answer again", answers)
	if !running(pid) {
		t.Error("the program has ended")
	}
	m.kill("shop.web-0")
	m.state("shop.web-0", mesos.TaskKilled)
}

func TestNetworksChangeLive(t *testing.T) {
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0)})
	pid := m.ready("shop.web-0").report.GetPid()
	m.statement("its address is told", func(s *padisv1.FromExecutor) bool {
		return len(s.GetAddresses()) == 1 && s.GetAddresses()[0].GetAddress() == address(0) && len(s.GetHostAddresses()) > 0
	})
	m.tell(&padisv1.ToExecutor{Generation: 1, Networks: []*padisv1.NetworkChange{{
		Container: "shop.web-0", LoopbackAddresses: []string{"198.51.100.9"}, Bandwidths: []*padisv1.Bandwidth{{Ingress: 8e6}},
	}}})
	m.statement("it is applied", func(s *padisv1.FromExecutor) bool { return s.GetGeneration() == 1 })
	out, err := exec.Command("nsenter", "-t", fmt.Sprint(pid), "-n", "ip", "addr", "show", "lo").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "198.51.100.9/32") {
		t.Errorf("%s, %v", out, err)
	}
	out, err = exec.Command("tc", "qdisc").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "tbf") {
		t.Errorf("%s, %v", out, err)
	}
	m.kill("shop.web-0")
	m.state("shop.web-0", mesos.TaskKilled)
}

// The network of a host is its instances', if that is what they want.
func TestHostNetwork(t *testing.T) {
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0, func(l *padisv1.Launch) {
		l.Attachments = []*padisv1.Attachment{{Network: &padisv1.Network{Name: "host", Driver: "host"}}}
	})})
	s := m.ready("shop.web-0")
	own, err := os.Readlink("/proc/self/ns/net")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", s.report.GetPid()))
	if err != nil || err2 != nil || own != theirs || len(s.report.GetAddresses()) == 0 {
		t.Errorf("%s and %s, %v, %v, %v", own, theirs, err, err2, s.report)
	}
	m.kill("shop.web-0")
	m.state("shop.web-0", mesos.TaskKilled)
}

// recorded is a container that some executor left running.
func recorded(t *testing.T, state, owner string, l *padisv1.Launch) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	start, err := process.StartTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	launch, err := padisv1.Encode(l)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(state, "instances", fmt.Sprintf("c-%d-%08x", l.GetSlot(), rand.Uint32()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"owner": owner, "launch.pb": string(launch), "process": fmt.Sprintf("%d %d host1\n", cmd.Process.Pid, start)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cmd.Process.Pid
}

func TestOperatorsSeeAndMendNetworks(t *testing.T) {
	state := t.TempDir()
	image := func(l *padisv1.Launch) { l.Template.Image = "shop/web:1" }
	pid := recorded(t, state, "framework-1", web(50, image))
	recorded(t, state, "framework-2", web(51, image, func(l *padisv1.Launch) { l.LeaseMs = 30_000 }))
	gone := filepath.Join(state, "instances", "gone")
	if err := os.MkdirAll(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"owner": "framework-1", "process": strconv.Itoa(os.Getpid()) + " 1 host1"} {
		if err := os.WriteFile(filepath.Join(gone, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verb := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"network"}, args...)...)
		cmd.Env = []string{stateVariable + "=" + state, "PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("network %v: exit status %d, %v:\n%s", args, got, err, out)
		}
		return string(out)
	}
	if out := verb(exitOK, "plan", "--owner", "framework-1"); !strings.Contains(out, "# shop/web-50 (container c-50-") || !strings.Contains(out, address(50)) || strings.Contains(out, "web-51") {
		t.Errorf("%s", out)
	}
	if out := verb(exitFailed, "check"); !strings.Contains(out, "lacks: ") || !strings.Contains(out, address(51)) {
		t.Errorf("%s", out)
	}
	if out := verb(exitOK, "repair"); !strings.Contains(out, "No claim") || !strings.Contains(out, "left alone") {
		t.Errorf("%s", out)
	}
	if out := verb(exitOK, "check", "--owner", "framework-1"); strings.Count(out, "ok\n") != 1 {
		t.Errorf("%s", out)
	}
	if out, err := exec.Command("nsenter", "-t", fmt.Sprint(pid), "-n", "ip", "addr", "flush", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if out := verb(exitFailed, "check", "--owner", "framework-1"); !strings.Contains(out, address(50)+"  lacks: ") {
		t.Errorf("%s", out)
	}
	verb(exitOK, "repair", "--owner", "framework-1")
	verb(exitOK, "check", "--owner", "framework-1")
	verb(exitUsage, "dance")
	verb(exitUsage, "check", "x")
	verb(exitFailed, "check", "--state", filepath.Join(state, "none"))
	if out := verb(exitFailed, "check", "--owner", "framework-2"); !strings.Contains(out, "lacks: ") {
		t.Errorf("%s", out)
	}
}
