package bgp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
)

// sessions is what is known of each peer's session. GoBGP tells it from its own goroutines.
type sessions struct {
	*sync.Mutex
	byPeer  map[netip.Addr]*session
	changed chan struct{}
}

type session struct {
	peer  Peer
	state api.PeerState_SessionState
	since time.Time
	// Why it is not established.
	message string
	precise bool
	// This attempt's end is explained already.
	explained bool
}

// stale says that the router may still keep routes of the session before, and that there is no connection yet: nothing is
// lost if the peer is made anew.
func (x *session) stale() bool {
	waits := x.state == api.PeerState_IDLE || x.state == api.PeerState_ACTIVE || x.state == api.PeerState_CONNECT
	return waits && time.Since(x.since) < x.peer.GracefulRestart
}

const messageFirst = "no attempt to connect has ended yet"

func newSessions() sessions {
	return sessions{Mutex: new(sync.Mutex), byPeer: map[netip.Addr]*session{}, changed: make(chan struct{}, 1)}
}

// note wakes who waits for changes. The lock is held.
func (s sessions) note() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s sessions) begin(p Peer, now time.Time) {
	s.Lock()
	defer s.Unlock()
	s.byPeer[p.Address] = &session{peer: p, state: api.PeerState_IDLE, since: now, message: messageFirst}
	s.note()
}

func (s sessions) forget(a netip.Addr) {
	s.Lock()
	defer s.Unlock()
	delete(s.byPeer, a)
	s.note()
}

func (s sessions) of(a netip.Addr) session {
	s.Lock()
	defer s.Unlock()
	if x, ok := s.byPeer[a]; ok {
		return *x
	}
	return session{}
}

// restore keeps what was known of a peer that was made anew.
func (s sessions) restore(a netip.Addr, keep session) {
	s.Lock()
	defer s.Unlock()
	if x, ok := s.byPeer[a]; ok {
		x.message, x.precise, x.since = keep.message, keep.precise, keep.since
	}
}

func (s sessions) is(a netip.Addr, which func(netip.Addr, *session) bool) bool {
	s.Lock()
	defer s.Unlock()
	x, ok := s.byPeer[a]
	return ok && which(a, x)
}

// tell takes in why there is no session.
func (s sessions) tell(a netip.Addr, why cause) {
	s.Lock()
	defer s.Unlock()
	x, ok := s.byPeer[a]
	if !ok {
		return
	}
	explained := x.explained && why.kind == causeEnd
	x.explained = why.kind == causeOpen
	message, precise := why.explain(x.peer)
	if explained || !precise && x.precise {
		return
	}
	if x.message != message {
		x.message, x.precise = message, precise
		s.note()
	}
}

// state takes in a new state, and says whether an established session began or ended with it.
func (s sessions) state(a netip.Addr, st api.PeerState_SessionState, now time.Time) (began, ended bool) {
	s.Lock()
	defer s.Unlock()
	x, ok := s.byPeer[a]
	if !ok || x.state == st {
		return false, false
	}
	was := x.state == api.PeerState_ESTABLISHED
	is := st == api.PeerState_ESTABLISHED
	x.state = st
	if was != is {
		x.since = now
	}
	if is {
		x.message, x.precise = "", false
	}
	s.note()
	return is && !was, was && !is
}

func (s sessions) list() []Session {
	s.Lock()
	defer s.Unlock()
	out := make([]Session, 0, len(s.byPeer))
	for a, x := range s.byPeer {
		y := Session{Peer: a, State: stateName(x.state), Established: x.state == api.PeerState_ESTABLISHED, Since: x.since}
		if !y.Established {
			y.Message = x.message
		}
		out = append(out, y)
	}
	slices.SortFunc(out, func(a, b Session) int { return a.Peer.Compare(b.Peer) })
	return out
}
