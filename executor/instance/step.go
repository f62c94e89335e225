package instance

import (
	"fmt"
	"slices"
	"time"

	"padis.io/padis/executor/health"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Phase of an instance.
type Phase int

// The phases; see the package comment.
const (
	New Phase = iota
	Fetching
	Probing
	Creating
	Attaching
	Launching
	Running
	Stopping
	Killing
	Releasing
	Ended
)

var phaseNames = [...]string{"New", "Fetching", "Probing", "Creating", "Attaching", "Launching", "Running", "Stopping", "Killing", "Releasing", "Ended"}

func (p Phase) String() string { return phaseNames[p] }

// Pauses that the machine itself decides.
const (
	// firstRetry is the pause before an address that was answered is probed again; it doubles up to lastRetry.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 10 * time.Second
	// releaseRetry is the pause before the network is silenced again, when that failed.
	releaseRetry = 200 * time.Millisecond
	// defaultGrace is the time between the stop signal and SIGKILL, as in the API.
	defaultGrace = 10 * time.Second
)

// announcements after the network was configured: the first one, the kernel's own, can be lost.
var announcements = [...]time.Duration{50 * time.Millisecond, time.Second}

// State is what is known of one instance. It is a value: Step returns the next one.
type State struct {
	Plan
	Phase Phase
	// busy: an action is being carried out whose outcome will come as an event.
	busy bool
	// created: there are namespaces and a process in them, whose end will come as Exited.
	created bool
	pid     int
	health  health.State
	// retries of what the phase waits for, and when the next one is; deadline of Stopping.
	retries int
	at      time.Time
	// announced counts the announcements that were made, configured is when the network was.
	announced  int
	configured time.Time
	ending     *ending
	// reported is what the last report said.
	reported Report
}

// ending is how the instance will be reported when all is released. What was decided first stays.
type ending struct {
	state           mesos.TaskState
	reason, message string
	exit            *Exited
}

// Event is what happened.
type Event interface{ event() }

// Outcomes of the actions of like names. Failure is nil on success.
type (
	// Begun is the first event of an instance.
	Begun struct{}
	// Fetched: the sandbox is complete.
	Fetched struct{ Failure *Failure }
	// Probed: nobody answered, or somebody did, and what that means in words.
	Probed struct {
		Answered string
		Failure  *Failure
	}
	// Created: the namespaces are there, with a process in them.
	Created struct {
		PID     int
		Failure *Failure
	}
	// Attached: the network is configured.
	Attached struct{ Failure *Failure }
	// Started: the program runs.
	Started struct{ Failure *Failure }
	// Checked is the result of one probe of check Index.
	Checked struct {
		Index   int
		OK      bool
		Message string
	}
	// Exited: all processes of the instance have ended. It comes once, after Started, or after Kill if that is earlier.
	Exited struct {
		Code   int
		Signal string
	}
	// Released: nobody answers for the addresses, and nothing is left.
	Released struct{ Failure *Failure }
	// KillWanted asks for the end. Grace is nil if the template's applies.
	KillWanted struct{ Grace *time.Duration }
	// Tick lets time pass.
	Tick struct{}
)

func (Begun) event()      {}
func (Fetched) event()    {}
func (Probed) event()     {}
func (Created) event()    {}
func (Attached) event()   {}
func (Started) event()    {}
func (Checked) event()    {}
func (Exited) event()     {}
func (Released) event()   {}
func (KillWanted) event() {}
func (Tick) event()       {}

// Action is what is to be done.
type Action interface{ action() }

// The actions. Each of the first six is answered by its outcome.
type (
	// Fetch makes the sandbox and brings the artifacts into it.
	Fetch struct{}
	// Probe asks whether somebody has the addresses.
	Probe struct{}
	// Create makes the namespaces.
	Create struct{}
	// Attach configures the network.
	Attach struct{}
	// Start runs the program.
	Start struct{}
	// Release silences the network and frees all.
	Release struct{}
	// Cancel cuts short a Fetch or Probe that is being carried out; its outcome still comes.
	Cancel struct{}
	// Check makes one probe of check Index.
	Check struct {
		Index   int
		Timeout time.Duration
	}
	// Announce repeats the announcement of the addresses.
	Announce struct{}
	// Signal asks the program to end.
	Signal struct{ Name string }
	// Kill ends all processes.
	Kill struct{}
	// Report tells the scheduler.
	Report struct {
		State   mesos.TaskState
		Healthy *bool
		Report  *padisv1.InstanceReport
	}
)

func (Fetch) action()    {}
func (Probe) action()    {}
func (Create) action()   {}
func (Attach) action()   {}
func (Start) action()    {}
func (Release) action()  {}
func (Cancel) action()   {}
func (Check) action()    {}
func (Announce) action() {}
func (Signal) action()   {}
func (Kill) action()     {}
func (Report) action()   {}

// Step decides what an event means. Events that cannot happen in the phase are refused: the error says so, and the
// state is as before.
func Step(now time.Time, s State, e Event) (State, []Action, error) {
	m := machine{State: s, now: now}
	var ok bool
	switch e := e.(type) {
	case Begun:
		ok = m.begin()
	case Fetched:
		ok = m.outcome(Fetching, e.Failure, m.fetched)
	case Probed:
		ok = m.probed(e)
	case Created:
		ok = m.wasCreated(e)
	case Attached:
		ok = m.outcome(Attaching, e.Failure, m.attached)
	case Started:
		ok = m.outcome(Launching, e.Failure, m.started)
	case Checked:
		ok = m.checked(e)
	case Exited:
		ok = m.exited(e)
	case Released:
		ok = m.released(e)
	case KillWanted:
		ok = m.kill(e)
	case Tick:
		ok = m.tick()
	}
	if !ok {
		return s, nil, fmt.Errorf("instance %s: %T cannot happen in phase %s", s.TaskID, e, s.Phase)
	}
	return m.State, m.actions, nil
}

// Grace is the time that the template gives the program between its stop signal and SIGKILL.
func (s State) Grace() time.Duration {
	stop := s.Launch.GetTemplate().GetStop()
	if stop == nil {
		return defaultGrace
	}
	return time.Duration(min(stop.GetGracePeriodMs(), 365*24*3600*1000)) * time.Millisecond
}

// Next is when a Tick is needed; the zero time if none is.
func (s State) Next() time.Time {
	next := s.at
	if s.Phase != Running {
		return next
	}
	if s.announced < len(announcements) && len(s.Wanted.Interfaces) > 0 {
		next = s.configured.Add(announcements[s.announced])
	}
	if h := s.health.Next(); !h.IsZero() && (next.IsZero() || h.Before(next)) {
		next = h
	}
	return next
}

type machine struct {
	State
	now     time.Time
	actions []Action
}

func (m *machine) do(a ...Action) { m.actions = append(m.actions, a...) }

// wait enters a phase that begins with an action whose outcome is awaited.
func (m *machine) wait(p Phase, a Action) {
	m.Phase, m.busy, m.at = p, true, time.Time{}
	m.do(a)
}

func (m *machine) begin() bool {
	if m.Phase != New {
		return false
	}
	m.report(mesos.TaskStarting, nil, padisv1.ReasonStarting, "The sandbox is being made.")
	m.wait(Fetching, Fetch{})
	return true
}

// outcome is the common part of the events that end an action: a failure and a wish to end lead out.
func (m *machine) outcome(p Phase, f *Failure, next func()) bool {
	if !m.busy || m.Phase != p {
		return false
	}
	m.busy = false
	if f != nil {
		m.fail(f)
	}
	if m.ending != nil {
		m.leave()
		return true
	}
	next()
	return true
}

func (m *machine) fail(f *Failure) {
	if m.ending == nil {
		m.ending = &ending{state: mesos.TaskFailed, reason: f.Reason, message: f.Message}
	}
}

// leave ends what there is: processes first, then the network.
func (m *machine) leave() {
	m.at = time.Time{}
	if m.created {
		m.Phase = Killing
		m.do(Kill{})
		return
	}
	m.wait(Releasing, Release{})
}

func (m *machine) fetched() {
	if slices.ContainsFunc(m.Launch.GetAttachments(), (*padisv1.Attachment).GetProbe) {
		m.wait(Probing, Probe{})
		return
	}
	m.wait(Creating, Create{})
}

func (m *machine) probed(e Probed) bool {
	return m.outcome(Probing, nil, func() {
		reason, message := padisv1.ReasonAddressAnswered, e.Answered
		switch {
		case e.Failure != nil:
			reason, message = e.Failure.Reason, e.Failure.Message
		case e.Answered == "":
			m.wait(Creating, Create{})
			return
		}
		m.report(mesos.TaskStarting, nil, reason, message)
		m.at = m.now.Add(min(firstRetry<<min(m.retries, 10), lastRetry))
		m.retries++
	})
}

func (m *machine) wasCreated(e Created) bool {
	m.created, m.pid = e.Failure == nil, e.PID
	return m.outcome(Creating, e.Failure, func() { m.wait(Attaching, Attach{}) })
}

func (m *machine) attached() {
	m.configured = m.now
	m.wait(Launching, Start{})
}

func (m *machine) started() {
	m.Phase = Running
	m.health = health.New(m.now, health.Checks(m.Launch.GetTemplate().GetHealthChecks()))
	m.reportHealth()
	m.probe()
}

// probe begins the probes that are due.
func (m *machine) probe() {
	var due []int
	m.health, due = m.health.Begin(m.now)
	for _, i := range due {
		m.do(Check{i, m.health.Check(i).Timeout})
	}
}

func (m *machine) checked(e Checked) bool {
	if m.Phase < Running {
		return false
	}
	if m.Phase > Running {
		return true // a probe that was under way
	}
	m.health = m.health.Result(m.now, e.Index, e.OK, e.Message)
	m.reportHealth()
	if check, message, failed := m.health.Failed(); failed {
		m.fail(&Failure{padisv1.ReasonHealthCheckFailed, fmt.Sprintf("The %s check failed %d times in a row, the last time: %s", check.Name, check.FailureThreshold, message)})
		m.stop(m.grace(nil))
		return true
	}
	m.probe()
	return true
}

func (m *machine) kill(e KillWanted) bool {
	if e.Grace != nil && *e.Grace < 0 {
		e.Grace = nil
	}
	if m.ending == nil && m.Phase < Stopping {
		m.ending = &ending{state: mesos.TaskKilled, reason: padisv1.ReasonKilled, message: "It was stopped as wanted."}
		m.report(mesos.TaskKilling, nil, padisv1.ReasonStopping, "It is being stopped.")
	}
	switch {
	case m.Phase == Running:
		m.stop(m.grace(e.Grace))
	case m.Phase == Stopping:
		if by := m.now.Add(m.grace(e.Grace)); by.Before(m.at) {
			m.at = by
		}
	case m.Phase < Running && m.busy:
		m.do(Cancel{})
	case m.Phase < Running:
		m.leave()
	}
	return true
}

func (m *machine) grace(asked *time.Duration) time.Duration {
	if asked != nil {
		return *asked
	}
	return m.Grace()
}

func (m *machine) stop(grace time.Duration) {
	name := m.Launch.GetTemplate().GetStop().GetSignal()
	if name == "" {
		name = signals[0]
	}
	if grace <= 0 || name == "SIGKILL" {
		m.leave()
		return
	}
	m.Phase, m.at = Stopping, m.now.Add(grace)
	m.do(Signal{name})
}

func (m *machine) exited(e Exited) bool {
	if !m.created || m.busy {
		return false
	}
	m.created = false
	if m.ending == nil {
		m.ending = &ending{state: mesos.TaskFinished, reason: padisv1.ReasonExited, message: "The program exited with code 0."}
		switch {
		case e.Signal != "":
			m.ending.state, m.ending.message = mesos.TaskFailed, "The program was ended by "+e.Signal+"."
		case e.Code != 0:
			m.ending.state, m.ending.message = mesos.TaskFailed, fmt.Sprintf("The program exited with code %d; see its log.", e.Code)
		}
	}
	m.ending.exit = &e
	m.leave()
	return true
}

func (m *machine) released(e Released) bool {
	if m.Phase != Releasing || !m.busy {
		return false
	}
	m.busy = false
	if e.Failure != nil {
		// Nobody else may have the addresses before this succeeds.
		m.at = m.now.Add(releaseRetry)
		return true
	}
	m.Phase = Ended
	m.report(m.ending.state, nil, m.ending.reason, m.ending.message)
	return true
}

func (m *machine) tick() bool {
	due := !m.at.IsZero() && !m.now.Before(m.at)
	switch {
	case m.Phase == Running:
		for m.announced < len(announcements) && !m.now.Before(m.configured.Add(announcements[m.announced])) {
			m.announced++
			if len(m.Wanted.Interfaces) > 0 {
				m.do(Announce{})
			}
		}
		m.probe()
	case m.Phase == Probing && due:
		m.wait(Probing, Probe{})
	case m.Phase == Stopping && due:
		m.leave()
	case m.Phase == Releasing && due:
		m.wait(Releasing, Release{})
	}
	return true
}

// reportHealth reports a running instance, if that says something new.
func (m *machine) reportHealth() {
	ready := m.health.Ready()
	var healthy *bool
	if m.health.Checked() {
		healthy = &ready
	}
	reason, message := padisv1.ReasonReady, "It runs, and all health checks pass."
	switch {
	case m.health.Empty():
		message = "It runs; there are no health checks."
	case !ready && m.reported.Report.GetReady():
		reason, message = padisv1.ReasonUnhealthy, "A health check does not pass: "+m.unhealthy()
	case !ready:
		reason, message = padisv1.ReasonRunning, "It runs; its health checks have not passed yet."
		if m.health.Checked() {
			message = "It runs; its health checks have not passed yet: " + m.unhealthy()
		}
		if r := m.reported.Report; r.GetReason() == padisv1.ReasonUnhealthy {
			reason, message = r.GetReason(), r.GetMessage()
		}
	}
	if r := m.reported; r.State == mesos.TaskRunning && r.Report.GetReady() == ready && same(r.Healthy, healthy) {
		return
	}
	m.report(mesos.TaskRunning, healthy, reason, message)
}

func (m *machine) unhealthy() string {
	for _, r := range m.health.Reports() {
		if !r.GetHealthy() {
			return r.GetProbe() + ": " + r.GetMessage()
		}
	}
	return ""
}

func same(a, b *bool) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// report reports, unless the last report said the same.
func (m *machine) report(state mesos.TaskState, healthy *bool, reason, message string) {
	r := &padisv1.InstanceReport{Reason: reason, Message: message, Pid: int32(m.pid), Addresses: m.addresses(), Health: m.health.Reports()}
	r.Ready = state == mesos.TaskRunning && m.health.Ready()
	if state.Terminal() && m.ending.exit != nil {
		r.ExitCode, r.Signal = int32(m.ending.exit.Code), m.ending.exit.Signal
	}
	last := m.reported
	if last.State == state && last.Report.GetReason() == reason && last.Report.GetMessage() == message && last.Report.GetReady() == r.Ready && same(last.Healthy, healthy) {
		return
	}
	m.reported = Report{state, healthy, r}
	m.do(m.reported)
}

// Reported is the last report; its State is empty before the first.
func (s State) Reported() Report { return s.reported }
