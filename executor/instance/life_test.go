package instance

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// host of the test: what is really there, and what the machine was told to do and has not been answered.
type model struct {
	*rapid.T
	launch *padisv1.Launch
	state  State
	now    time.Time
	// pending are outcomes that will come.
	pending []Event
	checks  int
	// exists: a container, or the namespaces of a program. held: the executor has it. alive: something runs in it.
	exists, held, alive bool
	// waited: its exit has come, or will.
	waited                         bool
	attached, silent, ended, asked bool
	// lingers: the connections are watched. signalled: the program was told to end.
	lingers, signalled bool
	// configured: the kernel has the addresses. granted: the lease goes on. lost: it was over since the last probe.
	configured, granted, lost bool
}

func (m *model) fail() *Failure {
	if rapid.IntRange(0, 9).Draw(m.T, "fails") == 0 {
		return no
	}
	return nil
}

func (m *model) step(e Event) {
	if m.ended {
		e = Tick{}
	}
	next, actions, err := Step(m.now, m.state, e)
	if err != nil {
		m.Fatal(err)
	}
	m.state = next
	for _, a := range actions {
		if m.ended {
			m.Fatalf("%T after the end", a)
		}
		m.carryOut(a)
	}
	if m.state.AwaitsExit() && !m.held {
		m.Fatal("waits for the end of what it does not hold")
	}
}

func (m *model) carryOut(a Action) {
	switch a := a.(type) {
	case Adopt:
		m.pending = append(m.pending, m.adopt())
	case Fetch:
		m.pending = append(m.pending, Fetched{m.fail()})
	case Pull:
		m.pending = append(m.pending, PullProgress{1 << 20, 2 << 20}, Pulled{"sha256:1", m.fail()})
	case Probe:
		e := Probed{Failure: m.fail()}
		if rapid.Bool().Draw(m.T, "answered") {
			e.Answered = "somebody"
		}
		m.silent = e.Failure == nil && e.Answered == ""
		m.pending = append(m.pending, e)
	case Create:
		f := m.fail()
		m.alive, m.held = f == nil, f == nil
		// A container may be left of a failure.
		m.exists = m.held || m.launch.GetTemplate().GetImage() != "" && rapid.Bool().Draw(m.T, "left")
		m.pending = append(m.pending, Created{7, f})
	case Attach:
		if m.launch.Attachments[0].Probe && !m.silent && !m.launch.GetAdopt() {
			m.Fatal("configured without a silent probe")
		}
		m.attach()
	case Renew:
		m.pending = append(m.pending, m.renew())
	case Silence:
		e := Silenced{m.fail()}
		if e.Failure == nil {
			m.attached, m.configured, m.silent = false, false, false
		}
		m.pending = append(m.pending, e)
	case Start:
		m.pending = append(m.pending, Started{m.fail()})
	case Linger:
		if m.lingers || m.signalled || m.state.Reported().Report.GetReady() {
			m.Fatal("keeps connections, and clients still come, or it has its signal")
		}
		m.lingers = true
	case Signal, Kill:
		m.signalled = true
		if !m.held {
			m.Fatalf("%T to what is not held", a)
		}
		if _, kill := a.(Kill); kill && !m.waited {
			m.waited = true
			m.pending = append(m.pending, Exited{137, "SIGKILL", false})
		}
	case Check:
		m.checks++
	case Release:
		m.release(a)
	case Report:
		if a.State.Terminal() {
			if m.attached || m.alive || m.exists {
				m.Fatal("reported the end before it")
			}
			m.ended = true
		}
	}
}

// adopt answers with what there is of the container.
func (m *model) adopt() Event {
	f := m.fail()
	switch {
	case f != nil:
		return Adopted{Failure: f}
	case !m.exists:
		return Adopted{Failure: gone}
	case !m.alive:
		m.held = true
		return Adopted{Ended: &Exited{Code: rapid.IntRange(0, 3).Draw(m.T, "code")}}
	}
	m.held = true
	return Adopted{PID: 7}
}

// attach is refused if the lease is over.
func (m *model) attach() {
	leased := m.launch.GetLeaseMs() > 0
	switch f := m.fail(); {
	case leased && !m.granted:
		m.pending = append(m.pending, Attached{&Failure{Reason: padisv1.ReasonLeaseExpired}})
	case leased && !m.silent && m.lost:
		m.Fatal("configured again without a silent probe")
	case f != nil && leased && m.state.Phase == Running:
		m.pending = append(m.pending, Attached{f})
	default:
		m.attached, m.configured = true, f == nil
		m.pending = append(m.pending, Attached{f})
	}
}

// renew tells what the kernel still has.
func (m *model) renew() Event {
	switch f := m.fail(); {
	case f != nil:
		return Renewed{Failure: f}
	case !m.configured || !m.granted:
		m.lost, m.silent = true, false
		return Renewed{Expired: true}
	}
	return Renewed{}
}

func (m *model) release(a Release) {
	if m.held && m.alive {
		m.Fatal("released what lives")
	}
	if a.Discard && m.held {
		m.Fatal("discards what it holds")
	}
	f := m.fail()
	if f == nil {
		m.attached = false
		if m.held || a.Discard {
			m.exists, m.alive = false, false
		}
	}
	m.pending = append(m.pending, Released{f})
}

// lease lets the lease go on, or end, as the executor would say it.
func (m *model) lease() {
	switch rapid.IntRange(0, 5).Draw(m.T, "lease") {
	case 0:
		m.granted = true
		if m.state.Holds() || m.state.AwaitsGrant() {
			m.step(Granted{})
		}
	case 1:
		m.granted = false
		if m.state.Holds() {
			m.step(Lapsed{})
		}
	}
	if m.granted && m.state.AwaitsGrant() {
		m.step(Granted{})
	}
	if m.state.Silent() && m.state.Reported().Report.GetReady() {
		m.Fatal("ready without an address")
	}
}

func (m *model) turn(killing bool) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(m.T, "pass")) * time.Millisecond)
	if m.launch.GetLeaseMs() > 0 && !m.ended {
		m.lease()
	}
	switch k := rapid.IntRange(0, 5).Draw(m.T, "what"); {
	case k == 0:
		m.step(Tick{})
	case k == 1 && !m.ended && !killing && rapid.IntRange(0, 5).Draw(m.T, "kill") == 0:
		m.asked = true
		m.step(KillWanted{Hurry: rapid.Bool().Draw(m.T, "hurry")})
	case k == 1 && !m.ended && rapid.Bool().Draw(m.T, "rewired"):
		m.step(Rewired{time.Duration(rapid.IntRange(0, 3).Draw(m.T, "drain")) * time.Second})
	case k == 2 && m.lingers && rapid.Bool().Draw(m.T, "drained"):
		m.step(Drained{})
	case k == 2 && m.checks > 0:
		m.checks--
		m.step(Checked{0, rapid.Bool().Draw(m.T, "ok"), "x"})
	case k == 3 && m.alive && !m.waited && m.state.AwaitsExit():
		m.waited, m.alive = true, false
		m.step(Exited{rapid.IntRange(0, 3).Draw(m.T, "code"), "", rapid.Bool().Draw(m.T, "oom")})
	case k == 4 && m.alive && !m.held && rapid.Bool().Draw(m.T, "dies"):
		m.alive = false // and nobody sees it
	case len(m.pending) > 0:
		e := m.pending[0]
		m.pending = m.pending[1:]
		if _, ok := e.(Exited); ok {
			m.alive = false
		}
		m.step(e)
	}
}

// Whatever happens in whatever order the executor can bring it: a network is configured only after its address was
// found silent where that is demanded; nothing is released while processes live; no container is left by an instance
// that has ended; connections are kept only before the signal and by who is not ready; the end is reported once, and last, and only after the release; and whoever is told to end does.
func TestAnyLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{T: t, launch: launch(), now: start}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 1:
			image(m.launch)
		case 2:
			adopted(m.launch)
			m.exists = rapid.IntRange(0, 4).Draw(t, "exists") > 0
			m.alive = m.exists && rapid.IntRange(0, 4).Draw(t, "alive") > 0
			m.attached = m.alive
		}
		if rapid.Bool().Draw(t, "probe") {
			probing(m.launch)
		}
		if rapid.Bool().Draw(t, "checks") {
			checked(m.launch)
		}
		if rapid.Bool().Draw(t, "balanced") {
			balanced(m.launch)
		}
		if rapid.Bool().Draw(t, "leased") {
			leased(m.launch)
			m.configured = m.attached
		}
		m.state = State{Plan: plan(t, m.launch)}
		m.step(Begun{})
		for range rapid.IntRange(0, 40).Draw(t, "turns") {
			m.turn(false)
		}
		if m.state.Outlives() && m.state.Image == "" {
			t.Fatal("a program outlives its executor")
		}
		if !m.asked && !m.ended {
			m.step(KillWanted{})
		}
		for range 4000 {
			if m.ended {
				return
			}
			m.turn(true)
			m.step(Tick{})
		}
		t.Fatalf("told to end, it is still %s", m.state.Phase)
	})
}
