// Package routers gives tests real routers, BIRD 2 and FRR, in network namespaces that end with the test binary, however
// that ends. Edge: talks to ip, bird and frr as processes.
package routers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const inner = "PADIS_TEST_ROUTERS"

// Main runs the tests in network, mount and process namespaces of their own. Call it from TestMain.
func Main(m *testing.M) { os.Exit(Isolated(m.Run)) }

// Isolated runs what a program does in such namespaces, and returns its exit status. The program is started again for it, so
// it comes first in main.
func Isolated(run func() int) int {
	if os.Getuid() != 0 {
		return run() // New skips
	}
	if os.Getenv(inner) != "" {
		if err := isolate(); err != nil {
			fmt.Fprintln(os.Stderr, "routers:", err)
			return 1
		}
		return run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func isolate() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	return unix.Mount("tmpfs", "/run", "tmpfs", 0, "")
}

// Lab is a router with hosts on one side and a machine "behind" on the other:
//
//	behind 10.1.0.2, fd01::2 -- 10.1.0.1, fd01::1 router 10.0.0.1, fd00::1 -- 10.0.0.N, fd00::N hosts
//
// The router has 10.255.0.1 besides, for sessions over several hops.
type Lab struct {
	t   testing.TB
	dir string
}

const (
	router, behind = "router", "behind"
	// ASN of the router.
	ASN = 65000
)

// New makes the namespaces and cables. A test has one at a time.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces with daemons in them take root")
	}
	l := &Lab{t, t.TempDir()}
	// FRR's daemons run as their own user.
	for d := l.dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		l.must(os.Chmod(d, 0o777))
	}
	for _, ns := range []string{router, behind} {
		l.namespace(ns)
	}
	l.In(router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	l.In(router, "ip", "link", "add", "hosts", "type", "bridge")
	l.In(router, "ip", "link", "set", "hosts", "up")
	l.In(router, "ip", "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", behind)
	l.In(router, "ip", "link", "set", "out", "up")
	for _, a := range []string{"10.0.0.1/24 dev hosts", "10.255.0.1/32 dev lo", "10.1.0.1/24 dev out",
		"fd00::1/64 dev hosts nodad", "fd01::1/64 dev out nodad"} {
		l.In(router, append([]string{"ip", "address", "add"}, strings.Fields(a)...)...)
	}
	l.In(behind, "ip", "link", "set", "eth0", "up")
	l.In(behind, "ip", "address", "add", "10.1.0.2/24", "dev", "eth0")
	l.In(behind, "ip", "address", "add", "fd01::2/64", "dev", "eth0", "nodad")
	l.In(behind, "ip", "route", "add", "default", "via", "10.1.0.1")
	l.In(behind, "ip", "route", "add", "default", "via", "fd01::1")
	return l
}

func (l *Lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *Lab) namespace(name string) {
	l.run("ip", "netns", "add", name)
	l.t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
	l.In(name, "ip", "link", "set", "lo", "up")
}

// Host makes host n (2 < n < 255) and returns its namespace. Addresses are those on its loopback, which it announces.
func (l *Lab) Host(n int, addresses ...string) string {
	l.t.Helper()
	ns := fmt.Sprintf("host%d", n)
	l.namespace(ns)
	l.In(ns, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", ns, "netns", router)
	l.In(ns, "ip", "link", "set", "eth0", "up")
	l.In(router, "ip", "link", "set", ns, "up", "master", "hosts")
	l.In(ns, "ip", "address", "add", fmt.Sprintf("10.0.0.%d/24", n), "dev", "eth0")
	l.In(ns, "ip", "address", "add", fmt.Sprintf("fd00::%x/64", n), "dev", "eth0", "nodad")
	l.In(ns, "ip", "route", "add", "default", "via", "10.0.0.1")
	l.In(ns, "ip", "route", "add", "default", "via", "fd00::1")
	for _, a := range addresses {
		l.In(ns, "ip", "address", "add", a, "dev", "lo")
	}
	return ns
}

// In runs a command in a namespace and returns what it prints; it fails the test if the command fails.
func (l *Lab) In(ns string, args ...string) string {
	l.t.Helper()
	return l.run(append([]string{"ip", "netns", "exec", ns}, args...)...)
}

func (l *Lab) run(args ...string) string {
	l.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Cut drops all that comes to a host and leaves it, until Heal: its links stay up, as those of a dead host behind a switch do.
func (l *Lab) Cut(ns string) {
	l.t.Helper()
	l.In(ns, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; policy drop; }; "+
		"add chain inet cut out { type filter hook output priority 0; policy drop; }")
}

// Heal ends a Cut.
func (l *Lab) Heal(ns string) { l.t.Helper(); l.In(ns, "nft", "delete table inet cut") }

// Script is an executable that runs the test binary in a namespace, with arguments before its own. Pid tells its process.
func (l *Lab) Script(ns string, before ...string) string {
	l.t.Helper()
	self, err := os.Executable()
	l.must(err)
	path := filepath.Join(l.dir, ns+".sh")
	l.must(os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\necho $$ >%s.pid\nexec ip netns exec %s %s %s \"$@\"\n",
		path, ns, self, strings.Join(before, " ")), 0o755))
	return path
}

// Pid is the process that a script started last; 0 if there was none yet.
func (l *Lab) Pid(script string) (pid int) {
	text, _ := os.ReadFile(script + ".pid")
	_, _ = fmt.Sscan(string(text), &pid)
	return pid
}

// Until waits for a condition; after a minute it fails the test with what says.
func (l *Lab) Until(what string, condition func() bool, says func() string) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("in vain: %s\n%s", what, says())
		}
	}
}

// Routes is the router's kernel route for a prefix; empty if there is none.
func (l *Lab) Routes(prefix string) string {
	l.t.Helper()
	family := "-4"
	if strings.Contains(prefix, ":") {
		family = "-6"
	}
	return strings.TrimSpace(l.In(router, "ip", family, "route", "show", "table", "main", prefix))
}

// UntilRoute waits until the router's route for a prefix names all of the next hops, or is gone if there are none.
func (l *Lab) UntilRoute(prefix string, nextHops ...string) {
	l.t.Helper()
	l.Until(fmt.Sprintf("route %s by %v", prefix, nextHops), func() bool {
		r := l.Routes(prefix) + " "
		for _, h := range nextHops {
			if !strings.Contains(r, "via "+h+" ") {
				return false
			}
		}
		return strings.Count(r, "via ") == len(nextHops)
	}, func() string { return l.Routes(prefix) })
}

// UntilReached waits until the machine behind the router gets an answer from an address.
func (l *Lab) UntilReached(address string) {
	l.t.Helper()
	var out []byte
	l.Until(address+" answers", func() (ok bool) {
		var err error
		out, err = exec.Command("ip", "netns", "exec", behind, "ping", "-n", "-c", "1", "-W", "1", address).CombinedOutput()
		return err == nil
	}, func() string { return string(out) })
}

// Watch notes what changes in the router's routes; the function returned ends it, and returns the lines.
func (l *Lab) Watch() func() string {
	l.t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("ip", "netns", "exec", router, "ip", "-o", "monitor", "route")
	cmd.Stdout = &out
	l.must(cmd.Start())
	stop := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	l.t.Cleanup(stop)
	return func() string { stop(); return out.String() }
}
