package executor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/logs"
	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// world is everything that an executor touches. It keeps what happens to each task, in order, as lines of text.
type world struct {
	t *testing.T
	*Executor
	mu  sync.Mutex
	log map[string][]string
	// answers are how often an address is answered before it is silent; failing is what fails, by name.
	answers map[string]int
	failing map[string]error
	// healthy decides probes, and late, if any, holds their answers up until it is closed.
	healthy   bool
	late      chan struct{}
	instances map[string]*fakeInstance
	// message is the last to the scheduler.
	message *padisv1.FromExecutor
	reports map[string]*padisv1.InstanceReport
	cancel  context.CancelFunc
	result  chan error
	// renewals are requests that were not answered; slept is how long the host has slept. valid is what each address has in
	// the kernel: when it goes. strangers are heard by whoever watches.
	renewals  []int64
	slept     time.Duration
	valid     map[string]time.Time
	strangers chan kernel.Conflict
}

func newWorld(t *testing.T, change ...func(*world, *Config)) *world {
	w := &world{t: t, log: map[string][]string{}, answers: map[string]int{}, failing: map[string]error{}, instances: map[string]*fakeInstance{}, reports: map[string]*padisv1.InstanceReport{}, result: make(chan error, 1), valid: map[string]time.Time{}, strangers: make(chan kernel.Conflict)}
	born := time.Now()
	c := Config{
		Host: instance.Host{Owner: "fw", Name: "os-name", Path: "/bin", Sandbox: t.TempDir()}, Agent: w, Network: w, Runtime: w,
		Artifacts: w, Prober: (*fakeProber)(w), ShutdownGrace: 400 * time.Millisecond, Parallel: 2, Log: zap.NewNop(),
		Boot: func() time.Duration {
			w.mu.Lock()
			defer w.mu.Unlock()
			return time.Hour + time.Since(born) + w.slept
		},
	}
	for _, f := range change {
		f(w, &c)
	}
	var err error
	if w.Executor, err = New(c); err != nil {
		t.Fatal(err)
	}
	if k, fake := c.Containers.(*keeper); fake {
		w.open = func(string, string, logs.Limits) (stream, error) { return &fakeStream{done: make(chan struct{})}, nil }
		w.openPipe = func(_, _, pipe string, _ logs.Limits) (stream, error) {
			return &fakeStream{k: k, pipe: pipe, done: make(chan struct{})}, nil
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() { w.result <- w.Run(ctx) }()
	t.Cleanup(cancel)
	w.Handle(mesos.ExecutorSubscribed{AgentID: "a", Hostname: "agent1", ExecutorID: "ex"})
	return w
}

func (w *world) say(task, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log[task] = append(w.log[task], fmt.Sprintf(format, args...))
}

func (w *world) fails(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failing[what]
}

// history of a task so far.
func (w *world) history(task string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.log[task], "\n")
}

func (w *world) until(task, line string) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(w.history(task)+"\n", line+"\n"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("never %q; %s:\n%s", line, task, w.history(task))
		}
	}
}

func (w *world) instance(task string) *fakeInstance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.instances[task]
}

func (w *world) Update(s mesos.Status) {
	var r padisv1.InstanceReport
	if err := padisv1.Decode(s.Data, &r); err != nil {
		w.t.Error(err)
	}
	line := fmt.Sprintf("%s %s", s.State, r.GetReason())
	if s.Healthy != nil {
		line += fmt.Sprintf(" healthy=%v", *s.Healthy)
	}
	if r.GetReady() {
		line += " ready"
	}
	if s.State.Terminal() && (r.GetSignal() != "" || r.GetExitCode() != 0) {
		line += fmt.Sprintf(" exit=%d%s", r.GetExitCode(), r.GetSignal())
	}
	w.mu.Lock()
	w.reports[s.TaskID] = &r
	w.mu.Unlock()
	w.say(s.TaskID, "%s", line)
}

func (w *world) Flush(context.Context) error {
	w.say("", "flush")
	return nil
}

// Message writes down what the scheduler is told.
func (w *world) Message(data []byte) {
	var m padisv1.FromExecutor
	if err := padisv1.Decode(data, &m); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	if r := m.GetRenew(); r != nil {
		w.renewals = append(w.renewals, r.GetSerial())
		w.mu.Unlock()
		return
	}
	w.message = &m
	w.mu.Unlock()
	line := fmt.Sprintf("%d %v", m.GetGeneration(), m.GetOrphans())
	for _, i := range m.GetImages() {
		line += fmt.Sprintf(" %s %v %s", i.GetImage(), i.GetPresent(), i.GetDigest()+i.GetReason())
		if p := i.GetProgress(); p != nil {
			line += fmt.Sprintf(" %d/%d", p.GetDoneBytes(), p.GetTotalBytes())
		}
	}
	w.say("scheduler", "%s", line)
}

// owner is the address of an instance.
func owner(n network.Wanted) string {
	if len(n.Interfaces) == 0 {
		return "the host"
	}
	return n.Interfaces[0].Addresses[0].Addr().String()
}

func (w *world) Probe(_ context.Context, n network.Wanted) ([]network.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := n.Interfaces[0]
	if w.answers[owner(n)] > 0 {
		w.answers[owner(n)]--
		return []network.Answer{{Address: a.Addresses[0].Addr(), MAC: a.MAC}}, nil
	}
	return nil, nil
}

func (w *world) Attach(ns int, n network.Wanted) error {
	w.say(owner(n), "up")
	if err := w.fails("attach"); err != nil {
		return err
	}
	w.lasts(n)
	return nil
}

// lasts notes until when the kernel keeps the address.
func (w *world) lasts(n network.Wanted) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.valid, owner(n)); n.Valid != 0 {
		w.valid[owner(n)] = time.Now().Add(n.Valid)
	}
}

func (w *world) Adjust(ns int, n network.Wanted) error {
	if err := w.fails("adjust"); err != nil {
		return err
	}
	w.say(owner(n), "%d/%d %v", n.Interfaces[0].Bandwidth.Ingress, n.Interfaces[0].Bandwidth.Egress, n.Loopback)
	return nil
}

func (w *world) Renew(ns int, n network.Wanted) error {
	if err := w.fails("renew"); err != nil {
		return err
	}
	w.mu.Lock()
	until, ok := w.valid[owner(n)]
	w.mu.Unlock()
	if !ok || time.Now().After(until) {
		return kernel.ErrExpired
	}
	w.say(owner(n), "kept for %s", n.Valid)
	w.lasts(n)
	return nil
}

func (w *world) SetOverlay(s network.Segment, remotes []network.Remote) error {
	if err := w.fails("overlay"); err != nil {
		return err
	}
	w.say(s.Network, "%v", remotes)
	return nil
}

func (w *world) RemoveSurplus(segments []network.Segment) error {
	for _, s := range segments {
		w.say("surplus", "%s %v", s.Network, s.Gateways)
	}
	return nil
}

// SetRelays has the pair of a bridge be number 1000 and more, by the length of its name.
func (w *world) SetRelays(segments []network.Segment, prune bool) (map[string]int, error) {
	out, names := map[string]int{}, []string{}
	for _, s := range segments {
		if out[s.Bridge] == 0 {
			names = append(names, s.Bridge)
		}
		out[s.Bridge] = 1000 + len(s.Bridge)
	}
	w.say("relays", "%v prune=%v", names, prune)
	return out, w.fails("relays")
}

func (w *world) RelayPort(ns int, hostEnd string) (kernel.RelayPort, error) {
	if err := w.fails("port"); err != nil {
		return kernel.RelayPort{}, err
	}
	return kernel.RelayPort{Index: int(hostEnd[len(hostEnd)-1]), Netns: ns}, nil
}

func (w *world) Addresses() ([]kernel.InterfaceAddress, error) {
	return []kernel.InterfaceAddress{{Interface: "eth0", Address: netip.MustParsePrefix("192.0.2.7/24")}}, w.fails("addresses")
}

func (w *world) Used(int) ([]kernel.InterfaceAddress, error) {
	return nil, errors.New("it has no network")
}

func (w *world) Watch(ctx context.Context, report func(kernel.Conflict)) {
	for {
		select {
		case c := <-w.strangers:
			report(c)
		case <-ctx.Done():
			return
		}
	}
}

func (w *world) Announce(n network.Wanted) error {
	w.say(owner(n), "announced")
	return nil
}

func (w *world) Detach(_ int, n network.Wanted) error {
	if err := w.fails("detach"); err != nil {
		return err
	}
	w.say(owner(n), "down")
	w.mu.Lock()
	delete(w.valid, owner(n))
	w.mu.Unlock()
	return nil
}

func (w *world) Fetch(ctx context.Context, a *padisv1.Artifact, dir string) error {
	if a.GetUri() == "slow" {
		<-ctx.Done()
		return ctx.Err()
	}
	return w.fails("fetch")
}

type fakeProber world

func (p *fakeProber) Probe(h *padisv1.HealthCheck, t probe.Target, timeout time.Duration) error {
	if h.GetTcp() != nil && p.late != nil {
		<-p.late
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.healthy {
		return nil
	}
	return errors.New("refused")
}

// fakeInstance ends by Kill, by Stop if it is polite, or when the test says so.
type fakeInstance struct {
	w      *world
	spec   runtime.Spec
	once   sync.Once
	ended  chan struct{}
	exit   runtime.Exit
	polite bool
}

func (w *world) Create(s runtime.Spec) (runtime.Instance, error) {
	if err := w.fails("create"); err != nil {
		return nil, err
	}
	i := &fakeInstance{w: w, spec: s, ended: make(chan struct{}), polite: s.Command[0] == "polite"}
	w.mu.Lock()
	w.instances[s.ID] = i
	w.mu.Unlock()
	return i, nil
}

func (i *fakeInstance) end(e runtime.Exit) { i.once.Do(func() { i.exit = e; close(i.ended) }) }

func (i *fakeInstance) PID() int              { return 4711 }
func (i *fakeInstance) NetworkNamespace() int { return 5 }
func (i *fakeInstance) Start() error {
	if err := i.w.fails("start"); err != nil {
		i.end(runtime.Exit{Code: 1})
		return err
	}
	return nil
}
func (i *fakeInstance) Stop(s string) error {
	i.w.say(i.spec.ID, "%s", s)
	if i.polite {
		i.end(runtime.Exit{Code: 0})
	}
	return nil
}
func (i *fakeInstance) Kill() error        { i.end(runtime.Exit{Code: 137, Signal: "SIGKILL"}); return nil }
func (i *fakeInstance) Wait() runtime.Exit { <-i.ended; return i.exit }
func (i *fakeInstance) Run([]string, time.Duration) (runtime.Output, error) {
	return runtime.Output{}, nil
}
func (i *fakeInstance) Close() error { return nil }

// task is one that has its address in its name: 10.44.0.N.
func task(t *testing.T, n int, command string, change ...func(*padisv1.Launch)) mesos.Task {
	l := &padisv1.Launch{
		Namespace: "shop", App: "web", Slot: int32(n),
		Template: &padisv1.Template{Command: []string{command}, Stop: &padisv1.Stop{Signal: "SIGTERM", GracePeriodMs: 60_000}},
		Attachments: []*padisv1.Attachment{{
			Network: &padisv1.Network{Name: "lan", Bridge: "padis0"}, Address: fmt.Sprintf("10.44.0.%d", n), PrefixLength: 16,
		}},
	}
	for _, f := range change {
		f(l)
	}
	b, err := padisv1.Encode(l)
	if err != nil {
		t.Fatal(err)
	}
	return mesos.Task{ID: fmt.Sprint("web-", n), Data: b}
}

// report is the last of a task.
func (w *world) report(task string) *padisv1.InstanceReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reports[task]
}
