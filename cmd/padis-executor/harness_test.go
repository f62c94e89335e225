package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/local"
	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/master"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	innerEnv  = "PADIS_TEST_INNER"
	serveVerb = "serve-http"
	patience  = time.Minute
)

// binary is the executor as it is shipped.
var binary string

// TestMain runs the tests as a small machine: in network, mount and PID namespaces of their own, whose uplink eth1 ends
// in sw0, the interface of a router with the gateway's address. All of it ends with the tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveVerb {
		serveHTTP()
	}
	if os.Getenv(innerEnv) == "" {
		os.Exit(outer())
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(filepath.Dir(binary))
	os.Exit(code)
}

func outer() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), innerEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		return 1
	}
	return 0
}

func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	for _, c := range []string{
		"ip link set lo up", "ip link add eth1 type veth peer name sw0", "ip link set eth1 up", "ip link set sw0 up", "ip addr add 10.44.0.1/16 dev sw0",
	} {
		if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, out)
		}
	}
	dir, err := os.MkdirTemp("", "padis-executor")
	if err != nil {
		return err
	}
	binary = filepath.Join(dir, "padis-executor")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=test", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the executor: %w\n%s", err, out)
	}
	return nil
}

// serveHTTP is the program that instances run: it says who it is.
func serveHTTP() {
	fmt.Println("serving on", os.Getenv("PADIS_ADDRESS"))
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintf(w, "%s at %s on %s, host name %s\n", os.Getenv("PADIS_INSTANCE"), os.Getenv("PADIS_ADDRESSES"), os.Getenv("PADIS_HOST"), name)
	})
	fmt.Println(http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

// machine is one Mesos agent with the executor, and a framework that does what the test says.
type machine struct {
	t testing.TB
	*local.Cluster
	client *master.Client

	mu       sync.Mutex
	statuses map[string][]status
	offers   []mesos.Offer
	executor string
	// from has the address of the executor, said is its last word; grants renews its leases.
	from   mesos.FromExecutor
	said   *padisv1.FromExecutor
	grants bool
}

type status struct {
	mesos.Status
	report *padisv1.InstanceReport
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	cluster, err := local.Start(local.Config{Dir: t.TempDir(), Agents: []agent.Config{{Hostname: "host1", Resources: "cpus:100;mem:100000;disk:100000"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Shutdown)
	m := &machine{t: t, Cluster: cluster, statuses: map[string][]status{}, executor: "padis-1"}
	m.client, err = master.New(master.Config{
		Masters: cluster.MasterURL(), Framework: master.Framework{Name: "padis", FailoverTimeout: time.Hour}, Logger: zap.NewNop(), Rand: rand.Float64,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.client.Run(ctx, "", m.handle)
	}()
	t.Cleanup(func() { cancel(); <-done })
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(m.WorkDir(0), "slaves/*/frameworks/*/executors/*/runs/*/stderr"))
			for _, name := range logs {
				b, _ := os.ReadFile(name)
				t.Logf("%s:\n%s", name, b)
			}
		}
	})
	return m
}

func (m *machine) handle(e mesos.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e := e.(type) {
	case mesos.Offers:
		m.offers = append(m.offers, e.Offers...)
	case mesos.Rescind:
		m.offers = slices.DeleteFunc(m.offers, func(o mesos.Offer) bool { return o.ID == e.OfferID })
	case mesos.FromExecutor:
		m.heard(e)
	case mesos.Update:
		s := status{e.Status, &padisv1.InstanceReport{}}
		if err := padisv1.Decode(e.Status.Data, s.report); err != nil {
			m.t.Error(err)
		}
		m.statuses[e.Status.TaskID] = append(m.statuses[e.Status.TaskID], s)
		if len(e.Status.UUID) > 0 {
			go func() {
				_ = m.client.Send(context.Background(), mesos.Acknowledge{AgentID: e.Status.AgentID, TaskID: e.Status.TaskID, UUID: e.Status.UUID})
			}()
		}
	}
}

func (m *machine) until(what string, f func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for task, all := range m.statuses {
				for _, s := range all {
					m.t.Logf("%s %s %s %v", task, s.State, s.Message, s.report)
				}
			}
			m.t.Fatalf("never: %s", what)
		}
	}
}

// status waits for a status of a task that fits.
func (m *machine) status(task, what string, fits func(status) bool) status {
	m.t.Helper()
	var found status
	m.until(task+" "+what, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, s := range m.statuses[task] {
			if fits(s) {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

func (m *machine) ready(task string) status {
	m.t.Helper()
	return m.status(task, "is ready", func(s status) bool { return s.State == mesos.TaskRunning && s.report.GetReady() })
}

func (m *machine) state(task string, state mesos.TaskState) status {
	m.t.Helper()
	return m.status(task, string(state), func(s status) bool { return s.State == state })
}

func (m *machine) send(c mesos.Call) {
	m.t.Helper()
	if err := m.client.Send(context.Background(), c); err != nil {
		m.t.Fatalf("%T: %v", c, err)
	}
}

// launch starts instances on the executor, all with one call.
func (m *machine) launch(launches map[string]*padisv1.Launch) {
	m.t.Helper()
	var offer mesos.Offer
	m.until("an offer", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.offers) == 0 {
			return false
		}
		offer = m.offers[len(m.offers)-1]
		m.offers = nil
		return true
	})
	rest := offer.Resources
	take := func(cpu int64) (taken []mesos.Resource) {
		var ok bool
		if taken, rest, ok = mesos.Carve(rest, mesos.Amounts{CPUMilli: cpu, MemoryMilli: 1000}); !ok {
			m.t.Fatalf("offer %+v is too small", offer)
		}
		return taken
	}
	executor := mesos.Executor{
		ID: m.executor, Name: "padis", Command: fmt.Sprintf("exec %s --log-level debug --cache %s --state %s --containerd off", binary, filepath.Join(m.WorkDir(0), "cache"), filepath.Join(m.WorkDir(0), "state")), Resources: mesosExecutorResources(offer),
	}
	if len(offer.ExecutorIDs) == 0 {
		executor.Resources = take(100)
	}
	accept := mesos.Accept{OfferIDs: []string{offer.ID}}
	for id, l := range launches {
		data, err := padisv1.Encode(l)
		if err != nil {
			m.t.Fatal(err)
		}
		accept.Tasks = append(accept.Tasks, mesos.Task{ID: id, Name: id, AgentID: offer.AgentID, Resources: take(100), Executor: executor, Data: data})
	}
	m.send(accept)
}

// mesosExecutorResources repeats what a running executor has, as Mesos demands of each launch.
func mesosExecutorResources(o mesos.Offer) []mesos.Resource {
	taken, _, _ := mesos.Carve(o.Resources, mesos.Amounts{CPUMilli: 100, MemoryMilli: 1000})
	return taken
}

func (m *machine) kill(task string) {
	m.t.Helper()
	m.mu.Lock()
	all := m.statuses[task]
	m.mu.Unlock()
	if len(all) == 0 {
		m.t.Fatalf("nothing is known of %s", task)
	}
	m.send(mesos.Kill{TaskID: task, AgentID: all[0].AgentID})
}

// web is an instance that serves HTTP at 10.44.X.Y.
func web(slot int, change ...func(*padisv1.Launch)) *padisv1.Launch {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	l := &padisv1.Launch{
		Namespace: "shop", App: "web", AppUid: "u", Slot: int32(slot), Attempt: 1, DnsServers: []string{"10.44.0.1"},
		Template: &padisv1.Template{
			Command: []string{self, serveVerb}, Stop: &padisv1.Stop{Signal: "SIGTERM", GracePeriodMs: 5000},
			HealthChecks: []*padisv1.HealthCheck{{
				Probe:         &padisv1.HealthCheck_Http{Http: &padisv1.HttpProbe{Port: 8080, Path: "/", BodyContains: fmt.Sprintf("web-%d", slot)}},
				GracePeriodMs: 30_000, IntervalMs: 1000, TimeoutMs: 2000, FailureThreshold: 3, SuccessThreshold: 1,
			}},
		},
		Attachments: []*padisv1.Attachment{{
			Network: &padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1"}, Pool: "lan", Address: address(slot), PrefixLength: 16, Gateway: "10.44.0.1",
		}},
	}
	for _, f := range change {
		f(l)
	}
	return l
}

func address(slot int) string { return fmt.Sprintf("10.44.1.%d", slot+1) }

// get fetches from an instance, from the router's side of the network.
func get(slot int) (string, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 44, 0, 1)}}).DialContext}}
	resp, err := client.Get("http://" + net.JoinHostPort(address(slot), "8080") + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}

// links are the host ends of instances that exist.
func links(t testing.TB) []string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range all {
		if strings.HasPrefix(l.Name, "pd") && len(l.Name) == 15 {
			out = append(out, l.Name)
		}
	}
	return out
}

// field of /proc/PID/status, "" if there is no such process.
func field(pid int32, name string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func running(pid int32) bool {
	s := field(pid, "State")
	return s != "" && s[0] != 'Z' && s[0] != 'X'
}
