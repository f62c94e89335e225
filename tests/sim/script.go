package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// Script is a world in which only that happens that the script says. Its transcript is a text to be compared.
type Script struct {
	w *World
	// lease of the apps that are declared next; 0 is none.
	lease time.Duration
	// out is the transcript; seen is how much of the trace it holds.
	out  strings.Builder
	seen int
}

// NewScript makes hosts with 2 CPUs and 2 GiB each, a pool and a running scheduler.
func NewScript(hosts int) *Script {
	w := newWorld(Options{Seed: 1, Keep: -1})
	for i := range hosts {
		w.addHost(map[string]string{"rack": "r" + strconv.Itoa(i+1)}, mesos.Amounts{CPUMilli: 2000, MemoryMilli: 2048 * 1000})
	}
	w.user.cluster.Networks = []*padisv1.Network{{Name: "net", Driver: "bridge", Bridge: "padis0"}}
	w.user.cluster.Pools = []*padisv1.Pool{{Name: "pool", Network: "net", Cidr: "10.0.0.0/24", Gateway: "10.0.0.1"}}
	w.mesos.run()
	w.sched.start()
	s := &Script{w: w}
	s.Let(2 * time.Second)
	s.seen = len(w.result.Trace)
	return s
}

// renewal is a line of which there are many.
var renewal = regexp.MustCompile(`(asks for )?renewal [0-9]+$`)

// Say writes a heading, and what has happened since the last one.
func (s *Script) Say(format string, args ...any) {
	s.flush()
	fmt.Fprintf(&s.out, "\n# "+format+"\n", args...)
}

func (s *Script) flush() {
	for _, line := range s.w.result.Trace[s.seen:] {
		if !strings.Contains(line, "agents seen") && !renewal.MatchString(line) {
			s.out.WriteString(line + "\n")
		}
	}
	s.seen = len(s.w.result.Trace)
}

// Let lets time pass.
func (s *Script) Let(d time.Duration) { s.w.advance(d) }

// Want declares an app of n instances with an address each, or changes it.
func (s *Script) Want(name string, n int, revision string) {
	u := s.w.user
	var a *padisv1.WantedApp
	if i := slices.IndexFunc(u.apps, func(a *padisv1.WantedApp) bool { return a.Name == name }); i >= 0 {
		a = u.apps[i]
	} else {
		a = &padisv1.WantedApp{Uid: fmt.Sprintf("%08x-0000-4000-8000-000000000000", len(u.apps)+1), Namespace: "shop", Name: name}
		u.apps = append(u.apps, a)
	}
	a.Revisions = []*padisv1.Revision{{
		Hash: revision, Networks: []*padisv1.NetworkWish{{Pool: "pool"}}, Restart: &padisv1.RestartPolicy{InitialDelayMs: 1000, MaxDelayMs: 8000},
		Template: &padisv1.Template{Command: []string{"serve"}, Resources: &padisv1.Resources{CpuMilli: 100, MemoryMib: 64}},
	}}
	a.Unreachable, a.Slots = nil, nil
	if s.lease > 0 {
		a.Unreachable = &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_LEASE, LeaseMs: s.lease.Milliseconds()}
	}
	for i := range n {
		a.Slots = append(a.Slots, &padisv1.WantedSlot{Index: int32(i), Revision: revision})
	}
	u.wants(a)
}

// WantImage is Want for an app whose instances are containers of an image.
func (s *Script) WantImage(name string, n int, revision, image string) {
	s.Want(name, n, revision)
	a := s.w.user.apps[slices.IndexFunc(s.w.user.apps, func(a *padisv1.WantedApp) bool { return a.Name == name })]
	a.Revisions[0].Template.Image = image
}

// Upgrade restarts the scheduler with another version of the executor, and asks for it everywhere.
func (s *Script) Upgrade() { s.w.roll() }

// Delete deletes an app.
func (s *Script) Delete(name string) {
	u := s.w.user
	u.forget(u.apps[slices.IndexFunc(u.apps, func(a *padisv1.WantedApp) bool { return a.Name == name })])
}

// CrashAt makes the scheduler die the next time it comes to a boundary: "before a commit", "after a commit",
// "before a send" or "after a send".
func (s *Script) CrashAt(where string) { s.w.sched.die, s.w.sched.where = 1, where }

// Cut separates a host (1, 2 ...) from the master, and from the other hosts if data is true.
func (s *Script) Cut(host int, data bool, d time.Duration) {
	s.w.hosts[host-1].cut(true, data, d)
}

// Lease makes the apps that are declared next use their addresses for that long without word from the scheduler.
func (s *Script) Lease(d time.Duration) { s.lease = d }

// Stall stops the executor of a host for a while.
func (s *Script) Stall(host int, d time.Duration) { s.w.hosts[host-1].stall(d) }

// KillExecutor kills the executor of a host.
func (s *Script) KillExecutor(host int) { s.w.hosts[host-1].killExecutor() }

// PowerOff takes the power of a host.
func (s *Script) PowerOff(host int, d time.Duration) { s.w.hosts[host-1].powerOff(d, false) }

// Table is what `padis get instances` would show.
func (s *Script) Table() string {
	var b strings.Builder
	for _, r := range s.w.store.instances() {
		fmt.Fprintf(&b, "%s-%d %s ready=%v host=%s %s restarts=%d task=%s %s", r.GetApp(), r.GetSlot(), instance.Name(r.GetPhase()), r.GetReady(),
			r.GetHostname(), strings.Join(r.GetAddresses(), ","), r.GetRestarts(), r.GetTaskId(), strings.Join(r.GetHauntedTasks(), ","))
		if c := r.GetContainer(); c != "" {
			fmt.Fprintf(&b, "container=%s started=%d", c, s.w.truth.starts[instance.SlotOf(r)])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Settled says what is not as it is wanted; empty if all is.
func (s *Script) Settled() string {
	if v := s.w.result.Violations; len(v) > 0 {
		return strings.Join(v, "; ")
	}
	return s.w.user.unmet()
}

// Transcript is all that happened since the start, with the table at the end.
func (s *Script) Transcript() string {
	s.flush()
	return strings.TrimLeft(s.out.String(), "\n") + "\n# In the end\n" + s.Table()
}
