package instance

import (
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// link is how it stands with the addresses of an instance that runs. Only a lease takes them away and brings them back.
type link int

const (
	linkUp link = iota
	// linkSilencing: the lease is over, and the network is being silenced.
	linkSilencing
	// linkDown: a grant is waited for, or linkAt.
	linkDown
	// linkAsking: there is a grant, and the addresses are asked for, because somebody else may have them by now.
	linkAsking
	// linkJoining: the network is being configured again.
	linkJoining
)

const (
	leaseOver     = "The scheduler has not renewed the lease of its addresses in time, so they were taken down; the program runs on. It is reachable again once the scheduler answers this host: see to the connection between them."
	leaseAwaited  = "Waiting for the scheduler to grant the lease of its addresses."
	leaseRejoined = "It has its addresses again."
)

// Leased tells whether the instance may use its addresses only as long as the scheduler grants.
func (p Plan) Leased() bool { return p.Launch.GetLeaseMs() > 0 && len(p.Wanted.Interfaces) > 0 }

// AwaitsGrant tells whether a Granted is what it waits for.
func (s State) AwaitsGrant() bool {
	return s.Phase == Leasing && !s.busy && s.at.IsZero() || s.Phase == Running && s.link == linkDown && s.linkAt.IsZero()
}

// Holds tells whether it runs and has its addresses by a lease.
func (s State) Holds() bool {
	return s.Leased() && (s.Phase == Running || s.Phase == Draining || s.Phase == Stopping) && s.link == linkUp
}

// Silent tells whether it runs without its addresses.
func (s State) Silent() bool { return s.Phase == Running && s.link != linkUp }

// lease waits for a grant. What is adopted may have addresses meanwhile, which the kernel takes away in time.
func (m *machine) awaitLease() {
	m.Phase, m.at = Leasing, time.Time{}
	switch {
	case !m.runs:
		m.report(mesos.TaskStarting, nil, padisv1.ReasonStarting, leaseAwaited)
	case m.linkAt.IsZero() && m.link == linkUp:
		m.linkAt = m.now.Add(time.Duration(m.Launch.GetLeaseMs()) * time.Millisecond)
	}
}

func (m *machine) granted() bool {
	switch {
	case m.Phase == Leasing && m.AwaitsGrant() && m.created:
		m.wait(Leasing, Renew{})
	case m.Phase == Leasing && m.AwaitsGrant():
		m.probeOrCreate()
	case m.Holds():
		m.do(Renew{})
	case m.AwaitsGrant():
		m.link = linkAsking
		m.do(Probe{})
	}
	return true
}

// lapsed silences what has addresses that it must not use any more.
func (m *machine) lapsed() bool {
	if m.Holds() {
		m.silence()
	}
	return true
}

func (m *machine) silence() {
	m.link, m.linkAt, m.linkTries = linkSilencing, time.Time{}, 0
	m.do(Silence{})
	m.reportDown(padisv1.ReasonLeaseExpired, leaseOver)
	m.drained() // nobody reaches it any more
}

// reportDown says why a running instance cannot be reached.
func (m *machine) reportDown(reason, message string) {
	if m.Phase != Running {
		return
	}
	healthy := m.reported.Healthy
	if healthy != nil {
		healthy = new(bool)
	}
	m.report(mesos.TaskRunning, healthy, reason, message)
}

func (m *machine) renewed(e Renewed) bool {
	if m.Phase == Leasing && m.busy {
		return m.outcome(Leasing, nil, func() {
			switch {
			case e.Failure != nil:
				m.report(mesos.TaskStarting, nil, e.Failure.Reason, e.Failure.Message)
				m.pause(firstRetry)
			case e.Expired:
				// One of several may be left, and would answer itself.
				m.wait(Leasing, Silence{})
			default:
				m.wait(Attaching, Attach{})
			}
		})
	}
	// What could not be renewed lapses in its time.
	if e.Expired && m.Holds() {
		m.silence()
	}
	return true
}

func (m *machine) silenced(e Silenced) bool {
	if m.Phase == Leasing && m.busy {
		return m.outcome(Leasing, nil, func() {
			if e.Failure != nil {
				m.report(mesos.TaskStarting, nil, e.Failure.Reason, e.Failure.Message)
				m.pause(firstRetry)
				return
			}
			m.wait(Probing, Probe{})
		})
	}
	if m.link != linkSilencing {
		return false
	}
	if e.Failure != nil {
		m.pauseLink(releaseRetry)
		return true
	}
	m.link, m.linkTries = linkDown, 0
	return true
}

// asked takes the answer to a probe for the addresses of a running instance; false if it is another's.
func (m *machine) asked(e Probed) bool {
	if m.link != linkAsking {
		return false
	}
	m.link = linkDown
	switch {
	case m.Phase != Running:
	case e.Failure != nil:
		m.reportDown(e.Failure.Reason, e.Failure.Message)
		m.pauseLink(firstRetry)
	case e.Answered != "":
		m.reportDown(padisv1.ReasonAddressAnswered, e.Answered)
		m.pauseLink(firstRetry)
	default:
		m.link = linkJoining
		m.do(Attach{})
	}
	return true
}

// joined goes on with a running instance that has its addresses again; false if the network is another's.
func (m *machine) joined(e Attached) bool {
	if m.link != linkJoining {
		return false
	}
	if f := e.Failure; f != nil {
		m.link = linkDown
		if f.Reason != padisv1.ReasonLeaseExpired {
			m.reportDown(f.Reason, f.Message)
			m.pauseLink(firstRetry)
		}
		return true
	}
	m.link, m.linkTries = linkUp, 0
	if m.Phase != Running {
		return true
	}
	m.configured, m.announced = m.now, 0
	m.do(Announce{})
	// What the checks said while nobody could reach it says nothing; it is as healthy as it was.
	m.resume(m.health.Ready())
	m.rejoined = true
	m.reportHealth()
	m.rejoined = false
	m.probe()
	return true
}

func (m *machine) pauseLink(first time.Duration) {
	m.linkAt = m.now.Add(min(first<<min(m.linkTries, 10), lastRetry))
	m.linkTries++
}

// tickLink goes on with what has waited.
func (m *machine) tickLink() {
	if m.linkAt.IsZero() || m.now.Before(m.linkAt) {
		return
	}
	m.linkAt = time.Time{}
	switch {
	case m.Phase == Leasing:
		// Adopted, and not renewed for so long that the kernel has taken its addresses away.
		m.link = linkDown
		m.report(mesos.TaskStarting, nil, padisv1.ReasonLeaseExpired, leaseOver)
	case m.link == linkSilencing && (m.Phase == Running || m.Phase == Draining || m.Phase == Stopping):
		m.do(Silence{})
	}
}
