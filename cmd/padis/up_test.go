package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/mesos/local/hosts"
)

// up is a running `padis up` with fake parts (see fake_test.go).
type up struct {
	t       *testing.T
	bin     string
	dataDir string
	listen  string
	uid     uint32
	cmd     *exec.Cmd
	output  *safeBuffer
}

func startUp(t *testing.T, uid uint32, flags ...string) *up {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the test looks into the namespaces of others, which needs root")
	}
	u := &up{t: t, bin: fakeBinaries(t), uid: uid, output: &safeBuffer{}}
	u.dataDir = filepath.Join(u.bin, "data")
	if err := errors.Join(os.Mkdir(u.dataDir, 0o700), os.Chown(u.dataDir, int(uid), int(uid))); err != nil {
		t.Fatal(err)
	}
	u.listen = freeAddress(t)
	u.start(flags...)
	t.Cleanup(func() {
		_ = u.cmd.Process.Kill()
		_ = u.cmd.Wait()
		u.waitGone()
		if t.Failed() {
			t.Logf("padis up printed:\n%s", u.output)
			paths, _ := filepath.Glob(filepath.Join(u.dataDir, "logs", "*.log"))
			for _, path := range paths {
				b, _ := os.ReadFile(path)
				t.Logf("%s:\n%s", filepath.Base(path), b)
			}
		}
	})
	u.waitFor("Ready: padis get apps")
	return u
}

func (u *up) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(u.bin, "padis"), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.bin, playVariable + "=1", dataDirVariable + "=" + u.dataDir}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.uid, Gid: u.uid}}
	return cmd
}

func (u *up) start(flags ...string) {
	u.t.Helper()
	u.cmd = u.command(append([]string{"up", "--listen", u.listen, "--hosts", "2", "--host-restart-delay", "100ms"}, flags...)...)
	u.cmd.Stdout, u.cmd.Stderr = u.output, u.output
	if err := u.cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
}

func (u *up) waitFor(text string) {
	u.t.Helper()
	eventually(u.t, "output "+text, func() error {
		if !strings.Contains(u.output.String(), text) {
			return fmt.Errorf("it is\n%s", u.output)
		}
		return nil
	})
}

// padis runs a command line beside the running one, as the same user.
func (u *up) padis(args ...string) (string, int) {
	u.t.Helper()
	out, err := u.command(args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return string(out), exit.ExitCode()
	case err != nil:
		u.t.Fatal(err)
	}
	return string(out), 0
}

// entry waits for a part that is registered, with another process id than before.
func (u *up) entry(name string, before int) hosts.Entry {
	u.t.Helper()
	var found hosts.Entry
	eventually(u.t, name+" in the registry", func() error {
		entries, err := hosts.ReadRegistry(u.dataDir)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(entries, func(e hosts.Entry) bool { return e.Name == name && e.Pid != before })
		if at < 0 {
			return fmt.Errorf("it has %v", entries)
		}
		found = entries[at]
		return nil
	})
	return found
}

func (u *up) setPools(pools ...fakePool) {
	u.t.Helper()
	b, err := json.Marshal(pools)
	if err != nil {
		u.t.Fatal(err)
	}
	response, err := http.Post("http://"+u.listen+"/test/pools", "application/json", bytes.NewReader(b))
	if err != nil {
		u.t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		u.t.Fatalf("%v %v", response.Status, err)
	}
}

func (u *up) expectGateways(want ...string) {
	u.t.Helper()
	eventually(u.t, fmt.Sprintf("gateways %v", want), func() error {
		out, status := u.padis("on", "switch", "--", "ip", "-o", "-4", "addr", "show", "dev", "switch0")
		if status != 0 {
			return fmt.Errorf("status %d: %s", status, out)
		}
		var have []string
		for line := range strings.Lines(out) {
			if fields := strings.Fields(line); len(fields) > 3 {
				have = append(have, fields[3])
			}
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			return fmt.Errorf("there are %v", have)
		}
		return nil
	})
}

// waitGone waits until no process carries the mark of this `padis up`.
func (u *up) waitGone() {
	u.t.Helper()
	eventually(u.t, "end of all processes", func() error {
		if left := u.marked(); len(left) > 0 {
			return fmt.Errorf("processes %v are left", left)
		}
		return nil
	})
}

func (u *up) marked() (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), upMarker+"="+u.dataDir) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestUp(t *testing.T) {
	for _, user := range []struct {
		name string
		uid  uint32
	}{{"root", 0}, {"without root", 65534}} {
		t.Run(user.name, func(t *testing.T) {
			t.Parallel()
			before := footprint(t)
			u := startUp(t, user.uid)

			// Each host has a name, an address and processes of its own; the client reaches a host by the gateway.
			for _, host := range []string{"host-1", "host-2"} {
				u.entry(host, 0)
				if out, status := u.padis("on", host, "--", "hostname"); status != 0 || strings.TrimSpace(out) != host {
					t.Errorf("hostname on %s: %d %q", host, status, out)
				}
			}
			if out, status := u.padis("on", "host-1", "ip", "-o", "-4", "addr"); status != 0 || !strings.Contains(out, "172.31.0.11/24") {
				t.Errorf("addresses of host-1: %d %s", status, out)
			}
			u.setPools(fakePool{Name: "shop", CIDR: "10.44.0.0/16", Gateway: "10.44.0.1"}, fakePool{Name: "twin", CIDR: "10.44.0.0/16", Gateway: "10.44.0.1"},
				fakePool{Name: "none", CIDR: "10.45.0.0/16"}, fakePool{Name: "inner", CIDR: "10.48.0.0/16", Gateway: "10.48.0.1", Network: "tunnels"})
			u.expectGateways("10.44.0.1/16")
			if out, status := u.padis("on", "host-1", "sh", "-c", "ip addr add 10.44.0.7/16 dev eth1 && ip route replace default via 10.44.0.1"); status != 0 {
				t.Fatalf("give host-1 an address of the pool: %s", out)
			}
			if out, status := u.padis("on", "client", "--", "bash", "-c", "cat < /dev/tcp/10.44.0.7/5051"); status != 0 || !strings.HasPrefix(out, "host-1 ") {
				t.Errorf("the client heard %d %q", status, out)
			}
			// The exit status is the command's.
			if _, status := u.padis("on", "host-2", "--", "sh", "-c", "exit 7"); status != 7 {
				t.Errorf("exit status %d, want 7", status)
			}
			if out, status := u.padis("on", "host-9", "--", "true"); status != exitCannotRun || !strings.Contains(out, "there are: ") {
				t.Errorf("a host that does not exist: %d %s", status, out)
			}

			// The control plane dies: it returns, and the gateways are brought up to date.
			scheduler := u.entry("scheduler", 0)
			kill(t, scheduler.Pid)
			u.entry("scheduler", scheduler.Pid)
			u.setPools(fakePool{Name: "shop", CIDR: "10.46.0.0/24", Gateway: "10.46.0.1"})
			u.expectGateways("10.46.0.1/24")

			// A second one on the same directory, or the same port, is refused.
			if out, status := u.padis("up", "--listen", freeAddress(t)); status != exitError || !strings.Contains(out, "in use by process "+strconv.Itoa(u.cmd.Process.Pid)) {
				t.Errorf("second padis up: %d %s", status, out)
			}
			if out, status := u.padis("up", "--listen", u.listen, "--data-dir", t.TempDir()+"/x"); status != exitError {
				t.Errorf("padis up on the same port: %d %s", status, out)
			}

			if err := u.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := u.cmd.Wait(); err != nil {
				t.Errorf("after Ctrl-C: %v", err)
			}
			u.waitGone()
			assertOrder(t, u.output.String(), "scheduler     stopped", "host-1        stopped", "mesos-master  stopped", "padis         stopped")
			if out, status := u.padis("on", "host-1", "--", "true"); status != exitCannotRun || !strings.Contains(out, "no `padis up` runs") {
				t.Errorf("on a host of the past: %d %s", status, out)
			}
			if after := footprint(t); after != before {
				t.Errorf("links and mounts were\n%s\nand are\n%s", before, after)
			}
			// The directory can be used again.
			u.output = &safeBuffer{}
			u.start("--quiet")
			u.entry("scheduler", 0)
			u.expectGateways("10.46.0.1/24")
			if got := u.output.String(); got != "" {
				t.Errorf("--quiet printed %q", got)
			}
		})
	}
}

func TestUpHostLosesPower(t *testing.T) {
	t.Parallel()
	u := startUp(t, 0)
	host := u.entry("host-1", 0)
	if out, status := u.padis("on", "host-1", "--", "sh", "-c", "sleep 3600 >/dev/null 2>&1 & echo started"); status != 0 {
		t.Fatalf("%d %s", status, out)
	}
	kill(t, host.Pid)
	u.entry("host-1", host.Pid)
	u.waitFor("host-1        killed by killed; starts again in 100ms; log ")
	if out, status := u.padis("on", "host-1", "--", "sh", "-c", "ls -d /proc/[0-9]*/exe; ip -o -4 addr show dev eth0"); status != 0 || !strings.Contains(out, "172.31.0.11/24") {
		t.Errorf("after its return: %d %s", status, out)
	}
	eventually(t, "a host without what ran on it before", func() error {
		out, _ := u.padis("on", "host-1", "--", "sh", "-c", "cat /proc/[0-9]*/comm")
		if strings.Contains(out, "sleep") {
			return errors.New(out)
		}
		return nil
	})
}

func TestUpKilledLeavesNothing(t *testing.T) {
	for _, uid := range []uint32{0, 65534} {
		t.Run(strconv.Itoa(int(uid)), func(t *testing.T) {
			t.Parallel()
			before := footprint(t)
			u := startUp(t, uid)
			u.entry("host-2", 0)
			eventually(t, "agents on the hosts", func() error {
				if all := u.marked(); len(all) < 7 {
					return fmt.Errorf("only %v run", all)
				}
				return nil
			})
			kill(t, u.cmd.Process.Pid)
			_ = u.cmd.Wait()
			u.waitGone()
			if after := footprint(t); after != before {
				t.Errorf("links and mounts were\n%s\nand are\n%s", before, after)
			}
			// What it left in the data directory does not hinder the next one.
			u.output = &safeBuffer{}
			u.start()
			u.waitFor("Ready: padis get apps")
		})
	}
}

func TestUpInnerDies(t *testing.T) {
	t.Parallel()
	u := startUp(t, 0)
	kill(t, u.entry("switch", 0).Pid)
	var exit *exec.ExitError
	if err := u.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitError {
		t.Errorf("without its inner process it ended with %v", err)
	}
	u.waitFor("padis up has lost its inner process")
	u.waitGone()
}

func TestUpConfig(t *testing.T) {
	t.Parallel()
	good := upConfig{DataDir: "d", Hosts: 3, Listen: "127.0.0.1:6443", AgentResources: "cpus:4;mem:4096.5;disk:1", AgentAttributes: "rack:r{i}", HostRestartDelay: time.Second, Containers: "auto"}
	if err := good.validate(); err != nil || !filepath.IsAbs(good.DataDir) {
		t.Errorf("%v, data directory %s", err, good.DataDir)
	}
	for name, change := range map[string]func(*upConfig){
		"--hosts":              func(c *upConfig) { c.Hosts = -1 },
		"--hosts 201":          func(c *upConfig) { c.Hosts = hosts.MaxHosts + 1 },
		"--listen":             func(c *upConfig) { c.Listen = "here" },
		"--agent-resources":    func(c *upConfig) { c.AgentResources = "cpus" },
		"--agent-attributes":   func(c *upConfig) { c.AgentAttributes = "rack" },
		"--host-restart-delay": func(c *upConfig) { c.HostRestartDelay = -1 },
		"--containers":         func(c *upConfig) { c.Containers = "yes" },
	} {
		bad := good
		change(&bad)
		var usage usageError
		if err := bad.validate(); !errors.As(err, &usage) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUpContainers(t *testing.T) {
	t.Parallel()
	there := func() (string, error) { return "/bin/containerd", nil }
	lacking := func() (string, error) { return "", errors.New("runc is missing") }
	for _, c := range []struct {
		containers       string
		find             func() (string, error)
		containerd, none string
		fails            bool
	}{
		{"auto", there, "/bin/containerd", "", false},
		{"auto", lacking, "", "runc is missing", false},
		{"on", there, "/bin/containerd", "", false},
		{"on", lacking, "", "", true},
		{"off", there, "", "`padis up` runs with --containers off", false},
	} {
		u := upConfig{Containers: c.containers}
		err := u.findContainers(c.find)
		if (err != nil) != c.fails || u.Containerd != c.containerd || u.NoContainers != c.none {
			t.Errorf("%s: %v, containerd %q, none because %q", c.containers, err, u.Containerd, u.NoContainers)
		}
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func assertOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("%q is missing, or comes too early, in\n%s", part, text)
			return
		}
		rest = after
	}
}

// footprint is what a `padis up` must not change on the machine: the names of interfaces and mounts.
func footprint(t *testing.T) string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range links {
		fmt.Fprintln(&b, l.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + string(mounts)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually polls real processes, with a deadline far beyond what they need.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s: %v", what, err)
		}
		<-tick.C
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
