package instance

import (
	"fmt"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const stopping = "It is being stopped."

// Drain is how long an instance with this launch keeps its connections when it is to end: 0 if no load balancer sends it any.
func Drain(l *padisv1.Launch) time.Duration {
	if len(l.GetLoopbackAddresses()) == 0 {
		return 0
	}
	return time.Duration(min(max(l.GetDrainMs(), 0), 365*24*3600*1000)) * time.Millisecond
}

// drains tells whether clients may have connections that came by a load balancer.
func (s State) drains() bool { return s.Phase == Running && s.link == linkUp && s.drain > 0 }

// keepConnections lets the program serve those who have a connection: who hears that it is not ready sends it no new ones.
func (m *machine) keepConnections() {
	m.Phase, m.at, m.since = Draining, m.now.Add(m.drain), m.now
	m.report(mesos.TaskKilling, nil, padisv1.ReasonDraining,
		fmt.Sprintf("It is out of rotation, and keeps the connections that it has, for at most %s. Then it is stopped.", m.drain))
	m.do(Linger{})
}

// drained goes on to the signal. What comes late, from whoever watched, means nothing any more.
func (m *machine) drained() bool {
	if m.Phase != Draining {
		return true
	}
	m.report(mesos.TaskKilling, nil, padisv1.ReasonStopping, stopping)
	m.stop(m.grace(m.ending.grace))
	return true
}

// hurry ends the drain if the end is wanted sooner than at first.
func (m *machine) hurry(e KillWanted) {
	if sooner := e.Grace != nil && *e.Grace < m.grace(m.ending.grace); !sooner && !e.Hurry {
		return
	}
	if e.Grace != nil {
		m.ending.grace = e.Grace
	}
	m.drained()
}

// rewired takes another drain, also for one that has begun.
func (m *machine) rewired(e Rewired) bool {
	m.drain = e.Drain
	if m.Phase != Draining {
		return true
	}
	if m.at = m.since.Add(m.drain); !m.now.Before(m.at) {
		m.drained()
	}
	return true
}
