package instance

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"padis.io/padis/executor/health"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// machine is one step being taken.
type machine struct {
	State
	now     time.Time
	actions []Action
	// rejoined: it has its addresses again, which is news whatever else is.
	rejoined bool
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
	m.drain = Drain(m.Launch)
	if m.Launch.GetAdopt() {
		m.report(mesos.TaskStarting, nil, padisv1.ReasonAdopting, "The container is being taken over; it runs on meanwhile.")
		m.adopt()
		return true
	}
	m.begun = m.now
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
		m.end()
		return true
	}
	next()
	return true
}

// adopt asks for the container. Until it is held it may be there.
func (m *machine) adopt() {
	m.unheld = true
	m.wait(Adopting, Adopt{})
}

// adopted goes on with a container that ran all the time, or was never away.
func (m *machine) adopted(e Adopted) bool {
	if !m.busy || m.Phase != Adopting {
		return false
	}
	m.busy = false
	if f := e.Failure; f != nil {
		if f.Reason == padisv1.ReasonContainerGone {
			m.fail(f)
		}
		if m.ending != nil {
			m.leave()
			return true
		}
		m.report(mesos.TaskStarting, nil, f.Reason, f.Message)
		m.pause(firstRetry)
		return true
	}
	m.unheld, m.runs, m.retries, m.pid, m.digest = false, true, 0, e.PID, e.Digest
	if e.Ended != nil {
		m.ended(*e.Ended)
		m.leave()
		return true
	}
	m.created = true
	if m.ending != nil {
		m.end()
		return true
	}
	if m.Leased() {
		m.awaitLease()
		return true
	}
	m.wait(Attaching, Attach{})
	return true
}

// pause sets the time of the next attempt at what has just failed.
func (m *machine) pause(first time.Duration) {
	m.at = m.now.Add(min(first<<min(m.retries, 10), lastRetry))
	m.retries++
}

// progress reports how far a pull is. It comes from whoever pulls, and may come late.
func (m *machine) progress(e PullProgress) bool {
	if m.Phase < Pulling {
		return false
	}
	if m.Phase > Pulling || m.ending != nil || !m.told.IsZero() && m.now.Before(m.told.Add(progressPause)) {
		return true
	}
	m.told = m.now
	of := ""
	if e.Total > 0 {
		of = fmt.Sprintf("of %d ", e.Total>>20)
	}
	m.report(mesos.TaskStarting, nil, padisv1.ReasonPulling, fmt.Sprintf("Pulling %s: %d %sMiB.", m.Image, e.Done>>20, of))
	return true
}

func (m *machine) fail(f *Failure) {
	if m.ending == nil {
		m.ending = &ending{state: mesos.TaskFailed, reason: f.Reason, message: f.Message}
	}
}

// end begins the end of what there is: politely, if a program runs that was not asked yet.
func (m *machine) end() {
	if m.runs && m.created {
		m.stop(m.grace(m.ending.grace))
		return
	}
	m.leave()
}

// leave ends what there is: processes first, then the network.
func (m *machine) leave() {
	m.at, m.retries = time.Time{}, 0
	if m.created {
		m.Phase = Killing
		m.do(Kill{})
		return
	}
	m.wait(Releasing, Release{m.unheld})
}

func (m *machine) fetched() {
	if m.Image != "" {
		m.wait(Pulling, Pull{})
		return
	}
	m.prepared()
}

// prepared goes on to the network: all files are on the host.
func (m *machine) prepared() {
	if m.Leased() {
		m.awaitLease()
		return
	}
	m.probeOrCreate()
}

func (m *machine) probeOrCreate() {
	attachments := m.Launch.GetAttachments()
	late := len(attachments) > 0 && m.now.Sub(m.begun) > prompt
	if late || slices.ContainsFunc(attachments, (*padisv1.Attachment).GetProbe) {
		m.wait(Probing, Probe{})
		return
	}
	m.create()
}

func (m *machine) create() {
	m.unheld = m.Image != ""
	m.wait(Creating, Create{})
}

func (m *machine) probed(e Probed) bool {
	return m.outcome(Probing, nil, func() {
		reason, message := padisv1.ReasonAddressAnswered, e.Answered
		switch {
		case e.Failure != nil:
			reason, message = e.Failure.Reason, e.Failure.Message
		case e.Answered == "" && m.created:
			m.wait(Attaching, Attach{})
			return
		case e.Answered == "":
			m.create()
			return
		}
		m.report(mesos.TaskStarting, nil, reason, message)
		m.pause(firstRetry)
	})
}

func (m *machine) wasCreated(e Created) bool {
	if !m.busy || m.Phase != Creating {
		return false
	}
	m.created, m.pid = e.Failure == nil, e.PID
	m.unheld = m.unheld && !m.created
	return m.outcome(Creating, e.Failure, func() { m.wait(Attaching, Attach{}) })
}

// wasAttached tries again where a program runs already: that would be an outage for what may be a moment's trouble.
func (m *machine) wasAttached(e Attached) bool {
	if m.busy && m.Phase == Attaching && m.ending == nil && e.Failure != nil && e.Failure.Reason == padisv1.ReasonLeaseExpired {
		m.busy = false
		m.awaitLease()
		return true
	}
	if m.busy && m.Phase == Attaching && m.runs && e.Failure != nil && m.ending == nil && m.retries < attachRetries {
		m.busy = false
		m.report(mesos.TaskStarting, nil, e.Failure.Reason, e.Failure.Message)
		m.pause(firstRetry)
		return true
	}
	return m.outcome(Attaching, e.Failure, m.attached)
}

func (m *machine) attached() {
	m.configured = m.now
	if !m.runs {
		m.wait(Launching, Start{})
		return
	}
	// The kernel announced nothing, if all was configured as it should be.
	if len(m.Wanted.Interfaces) > 0 {
		m.do(Announce{})
	}
	m.run(m.Launch.GetWasReady())
}

func (m *machine) started() {
	m.runs = true
	m.run(false)
}

func (m *machine) run(ready bool) {
	m.Phase, m.link, m.linkAt = Running, linkUp, time.Time{}
	m.resume(ready)
	m.reportHealth()
	m.probe()
}

// resume begins the health checks of what was ready, or was not.
func (m *machine) resume(ready bool) {
	checks := health.Checks(m.Launch.GetTemplate().GetHealthChecks())
	if m.health = health.New(m.now, checks); ready {
		m.health = health.Resume(m.now, checks)
	}
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
	if m.Phase > Running || m.link != linkUp {
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
		m.ending = &ending{state: mesos.TaskKilled, reason: padisv1.ReasonKilled, message: "It was stopped as wanted.", grace: e.Grace}
		if m.drains() && !e.Hurry {
			m.keepConnections()
			return true
		}
		m.report(mesos.TaskKilling, nil, padisv1.ReasonStopping, stopping)
	}
	switch {
	case m.Phase == Running:
		m.stop(m.grace(e.Grace))
	case m.Phase == Draining:
		m.hurry(e)
	case m.Phase == Stopping:
		if by := m.now.Add(m.grace(e.Grace)); by.Before(m.at) {
			m.at = by
		}
	case m.Phase < Running && m.busy:
		m.ending.grace = cmp.Or(e.Grace, m.ending.grace)
		m.do(Cancel{})
	case m.Phase < Running:
		m.end()
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
	m.ended(e)
	m.leave()
	return true
}

// ended keeps the exit; if nobody asked for the end, it is what is reported.
func (m *machine) ended(e Exited) {
	if m.ending == nil {
		m.ending = &ending{state: mesos.TaskFinished, reason: padisv1.ReasonExited, message: "The program exited with code 0."}
		switch {
		case e.OOMKilled && (e.Signal != "" || e.Code != 0):
			m.ending.state, m.ending.reason, m.ending.message = mesos.TaskFailed, padisv1.ReasonOOMKilled, m.outOfMemory()
		case e.Signal != "":
			m.ending.state, m.ending.message = mesos.TaskFailed, "The program was ended by "+e.Signal+"."
		case e.Code != 0:
			m.ending.state, m.ending.message = mesos.TaskFailed, fmt.Sprintf("The program exited with code %d; see its log.", e.Code)
		}
	}
	m.ending.exit = &e
}

func (m *machine) outOfMemory() string {
	if limit := m.Launch.GetTemplate().GetResources().GetMemoryMib(); limit > 0 {
		return fmt.Sprintf("The kernel killed it for using more than its %d MiB of memory; raise template.resources.memory.", limit)
	}
	return "The kernel killed it because memory ran out; give it template.resources.memory, or the host more."
}

func (m *machine) released(e Released) bool {
	if m.Phase != Releasing || !m.busy {
		return false
	}
	m.busy = false
	if e.Failure != nil {
		// Nobody else may have the addresses before this succeeds.
		if m.reported.State == mesos.TaskKilling {
			m.report(mesos.TaskKilling, nil, e.Failure.Reason, e.Failure.Message)
		}
		m.pause(releaseRetry)
		return true
	}
	m.Phase = Ended
	m.report(m.ending.state, nil, m.ending.reason, m.ending.message)
	return true
}

func (m *machine) tick() bool {
	m.tickLink()
	due := !m.at.IsZero() && !m.now.Before(m.at)
	switch {
	case m.Phase == Running && m.link != linkUp:
	case m.Phase == Leasing && due:
		m.at = time.Time{} // whoever knows of a grant says it again
	case m.Phase == Running:
		for m.announced < len(announcements) && !m.now.Before(m.configured.Add(announcements[m.announced])) {
			m.announced++
			if len(m.Wanted.Interfaces) > 0 {
				m.do(Announce{})
			}
		}
		m.probe()
	case m.Phase == Adopting && due:
		m.adopt()
	case m.Phase == Attaching && due:
		m.wait(Attaching, Attach{})
	case m.Phase == Probing && due:
		m.wait(Probing, Probe{})
	case m.Phase == Draining && due:
		m.drained()
	case m.Phase == Stopping && due:
		m.leave()
	case m.Phase == Releasing && due:
		m.wait(Releasing, Release{m.unheld})
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
	if m.rejoined && ready {
		message = leaseRejoined
	}
	if r := m.reported; !m.rejoined && r.State == mesos.TaskRunning && r.Report.GetReady() == ready && same(r.Healthy, healthy) {
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
	r := &padisv1.InstanceReport{Reason: reason, Message: message, Pid: int32(m.pid), Addresses: m.Addresses, Health: m.health.Reports()}
	// What is being adopted goes on as it was.
	adopting := m.Phase <= Adopting || m.Phase == Leasing && m.Launch.GetAdopt()
	r.Ready = m.link == linkUp && (state == mesos.TaskRunning && m.health.Ready() || state == mesos.TaskStarting && adopting && m.Launch.GetWasReady())
	if state.Terminal() && m.ending.exit != nil {
		r.ExitCode, r.Signal, r.OomKilled = int32(m.ending.exit.Code), m.ending.exit.Signal, m.ending.exit.OOMKilled
	}
	if m.Image != "" {
		r.Container, r.ImageDigest = m.Container, m.digest
	}
	last := m.reported
	if last.State == state && last.Report.GetReason() == reason && last.Report.GetMessage() == message && last.Report.GetReady() == r.Ready && same(last.Healthy, healthy) {
		return
	}
	m.reported = Report{state, healthy, r}
	m.do(m.reported)
}
