package hosts

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/hosts/supervise"
)

// The test binary plays every process of a tree: the launcher (who starts the tree), the middle (process 1 of the
// tree), the hosts and their agents. The environment variable says which.
const (
	roleVariable   = "PADIS_HOSTS_TEST_ROLE"
	markerVariable = "PADIS_HOSTS_TEST_MARKER"
	dataVariable   = "PADIS_HOSTS_TEST_DATA" // set if the hosts shall run containers
	testPort       = "7000"
)

// note is what the middle tells the test: a host's process id in the middle's PID namespace, or the client's network.
type note struct {
	Name   string `json:"name"`
	Pid    int    `json:"pid"`
	Client int    `json:"client"`
}

func TestMain(m *testing.M) {
	role, argument, _ := strings.Cut(os.Getenv(roleVariable), ":")
	var err error
	switch role {
	case "":
		os.Exit(m.Run())
	case "launcher":
		err = playLauncher()
	case "middle":
		err = playMiddle()
	case "host":
		err = playHost(argument)
	case "agent":
		err = playAgent(argument)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role, argument, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func playLauncher() error {
	runtime.LockOSThread()
	attr, err := TreeAttributes()
	if err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	middle := exec.Command(executable)
	middle.Env = environment("middle")
	middle.Stdin, middle.Stdout, middle.Stderr = os.Stdin, os.Stdout, os.Stderr
	middle.SysProcAttr = attr
	if err := middle.Start(); err != nil {
		return ExplainStart(err)
	}
	fmt.Printf("{\"name\":\"middle\",\"pid\":%d}\n", middle.Process.Pid)
	return middle.Wait()
}

func environment(role string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, roleVariable+"=") {
			env = append(env, e)
		}
	}
	return append(env, roleVariable+"="+role)
}

// playMiddle runs two hosts until its standard input ends.
func playMiddle() error {
	if err := PrivateMounts(); err != nil {
		return err
	}
	fabric, err := Open()
	if err != nil {
		return err
	}
	if err := fabric.SetGateways([]netip.Prefix{netip.MustParsePrefix("10.99.0.1/24")}); err != nil {
		return err
	}
	var mu sync.Mutex
	tell := func(n note) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(n)
	}
	tell(note{Name: "client", Client: fabric.ClientNamespace()})
	reaper := supervise.NewReaper()
	go reaper.Run(context.Background())
	supervisor := supervise.New(reaper, func(e supervise.Event) {
		if e.Kind == supervise.Started {
			tell(note{Name: e.Service, Pid: e.Pid})
		}
	})
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	for i := range 2 {
		spec, err := Host(i + 1)
		if err != nil {
			return err
		}
		var ours, theirs *os.File
		supervisor.Add(supervise.Service{
			Name: spec.Name,
			Command: func() (c supervise.Command, err error) {
				ours, theirs, err = NewLink()
				return supervise.Command{
					Path: executable, Env: environment("host:" + strconv.Itoa(spec.Index)),
					Files: []*os.File{theirs}, Attr: HostAttributes(), Output: os.Stderr,
				}, err
			},
			Started: func(pid int, err error) error {
				defer ours.Close()
				if err := errors.Join(err, theirs.Close()); err != nil {
					return err
				}
				return fabric.Attach(spec, pid, ours)
			},
			Backoff: supervise.Constant(50 * time.Millisecond),
			Grace:   5 * time.Second,
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	supervisor.Stop()
	if data := os.Getenv(dataVariable); data != "" {
		parent, err := CgroupParent(data)
		if err != nil {
			return err
		}
		return RemoveCgroups(parent)
	}
	return nil
}

func playHost(index string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	containerd, err := testContainerd("host-" + index)
	if err != nil {
		return err
	}
	return Run(ctx, HostConfig{
		Name:       "host-" + index,
		Link:       os.NewFile(3, "link"),
		Containerd: containerd,
		Agent: func() (supervise.Command, error) {
			return supervise.Command{Path: executable, Env: environment("agent:" + index), Output: os.Stderr}, nil
		},
	}, zap.NewNop())
}

// playAgent bridges the data link, takes 10.99.0.1INDEX on it, and answers with the host's name. It starts a process
// that survives it.
func playAgent(index string) error {
	survivor := exec.Command("sleep", "3600")
	survivor.Env = environment("agent:" + index)
	survivor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := survivor.Start(); err != nil {
		return err
	}
	own := "10.99.0.1" + index
	if _, err := netlink.LinkByName("padis0"); err != nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "padis0"
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
	}
	bridge, err := netlink.LinkByName("padis0")
	if err != nil {
		return err
	}
	uplink, err := netlink.LinkByName(DataLink)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetMaster(uplink, bridge), netlink.LinkSetUp(bridge),
		netlink.AddrReplace(bridge, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(own + "/24"))}),
		netlink.RouteReplace(&netlink.Route{Dst: ipNet(ClientGateway().Masked()), Gw: net.ParseIP("10.99.0.1")})); err != nil {
		return err
	}
	// Mounts are the host's own.
	if err := syscall.Mount("tmpfs", "/mnt", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount on the host: %w", err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(own, testPort))
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		name, err := os.Hostname()
		if err == nil {
			_, err = fmt.Fprintf(conn, "%s %d\n", name, os.Getpid())
		}
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
}

// tree is a running tree as the test sees it.
type tree struct {
	t        *testing.T
	marker   string
	launcher *exec.Cmd
	stdin    io.Closer
	notes    chan note
	middle   int
	client   int
	hosts    map[string]int
}

// startTree starts a launcher as the given user and waits until both hosts are there.
func startTree(t *testing.T, uid uint32, env ...string) *tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("entering the namespaces of the tree from the test needs root")
	}
	tr := &tree{t: t, marker: fmt.Sprintf("%s-%d", t.Name(), time.Now().UnixNano()), notes: make(chan note, 64), hosts: map[string]int{}}
	tr.launcher = exec.Command(copyOfTestBinary(t))
	tr.launcher.Env = []string{"PATH=" + os.Getenv("PATH"), roleVariable + "=launcher", markerVariable + "=" + tr.marker}
	tr.launcher.Env = append(tr.launcher.Env, env...)
	tr.launcher.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	tr.launcher.Dir = "/"
	stderr := &lockedBuffer{}
	tr.launcher.Stderr = stderr
	stdin, err := tr.launcher.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	tr.stdin = stdin
	stdout, err := tr.launcher.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.launcher.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(tr.notes)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var n note
			if json.Unmarshal(lines.Bytes(), &n) == nil {
				tr.notes <- n
			}
		}
	}()
	t.Cleanup(func() {
		_ = tr.launcher.Process.Kill()
		_ = tr.launcher.Wait()
		tr.waitGone()
		if t.Failed() {
			t.Log(stderr.String())
		}
	})
	// The launcher's and the middle's notes cross: the order in which they arrive is not known.
	inside := map[string]int{}
	for tr.middle == 0 || tr.client == 0 || len(inside) < 2 {
		n := tr.next()
		switch n.Name {
		case "middle":
			tr.middle = n.Pid
		case "client":
			tr.client = n.Client
		default:
			inside[n.Name] = n.Pid
		}
	}
	for name, pid := range inside {
		tr.hosts[name] = tr.outside(pid)
	}
	return tr
}

func (tr *tree) next() note {
	tr.t.Helper()
	select {
	case n, ok := <-tr.notes:
		if !ok {
			tr.t.Fatal("the tree ended early")
		}
		return n
	case <-time.After(20 * time.Second):
		tr.t.Fatal("the tree does not come up")
	}
	return note{}
}

func (tr *tree) outside(pid int) int {
	tr.t.Helper()
	out, err := OutsidePid(tr.middle, pid)
	if err != nil {
		tr.t.Fatal(err)
	}
	return out
}

// ask connects to a host's data address from the network namespace at path and returns the answer.
func (tr *tree) ask(path string, address string) string {
	tr.t.Helper()
	ns, err := netns.GetFromPath(path)
	if err != nil {
		tr.t.Fatal(err)
	}
	defer ns.Close()
	var answer string
	eventually(tr.t, "an answer of "+address+" in "+path, func() error {
		return inNamespace(ns, func() error {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, testPort), time.Second)
			if err != nil {
				return err
			}
			defer conn.Close()
			b, err := io.ReadAll(conn)
			answer = string(b)
			return err
		})
	})
	return answer
}

func (tr *tree) network(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

// waitGone waits until no process carries the tree's marker.
func (tr *tree) waitGone() {
	tr.t.Helper()
	eventually(tr.t, "the end of all processes of the tree", func() error {
		if left := marked(tr.marker, 0); len(left) > 0 {
			return fmt.Errorf("processes %v are left", left)
		}
		return nil
	})
}

// marked lists the processes that carry the marker; with host not 0 only those in the PID namespace of that process.
func marked(marker string, host int) []int {
	var pids []int
	namespace, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", host))
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(env), markerVariable+"="+marker) {
			continue
		}
		if host != 0 {
			if other, _ := os.Readlink(filepath.Join(filepath.Dir(path), "ns/pid")); other != namespace {
				continue
			}
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually polls real processes, with a deadline far beyond what they need.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
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

// copyOfTestBinary is where every user may run it.
func copyOfTestBinary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "padis-hosts-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "padis-test")
	// What is written here cannot be run while a process that another test forks at this moment still has it open.
	if os.Link(executable, path) == nil {
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o755)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b, err := os.ReadFile(executable)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, b, 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
