package bfd

import (
	"math/bits"
	"time"
)

// Config is what one side of a session is told.
type Config struct {
	// Names the session among all of the host; never 0, and another one than before the last restart.
	Discriminator uint32
	Interval      time.Duration
	Multiplier    uint8
	// Holds the session in AdminDown.
	Down bool
}

// Event is what happened: time has passed, and perhaps one thing more.
type Event struct {
	Now time.Time
	// Chance for the jitter of the next packet.
	Seed uint64
	// A packet for this session that Parse passed; nil is none.
	Packet *Packet
	// A new configuration; nil is none. The discriminator stays what it was.
	Config *Config
}

// Output is what is to be done about it.
type Output struct {
	Send   bool
	Packet Packet
	// When the session wants another Event at the latest; zero is only when something happens.
	Next time.Time
}

// Session is one side. It is a value: Step does not touch the one before.
type Session struct {
	config Config
	state  State
	diag   Diag
	since  time.Time
	remote remote
	// When the last packet came; zero if there was none within the detection time.
	heard time.Time

	// What the other side is told, and what is applied here until it has answered (see settle).
	desiredTx, requiredRx time.Duration
	usedTx, usedRx        time.Duration
	poll                  poll

	// The last packet, when a period began last, and the chance that this period has.
	sent   Packet
	sentAt time.Time
	chance uint64
}

// remote is what the other side said last.
type remote struct {
	discriminator         uint32
	state                 State
	diag                  Diag
	multiplier            uint8
	desiredTx, requiredRx time.Duration
}

// Until something is heard (RFC 5880, section 6.8.1).
var unheard = remote{state: Down, requiredRx: time.Microsecond}

// poll is a sequence of packets that demand an answer (RFC 5880, section 6.5).
type poll uint8

const (
	pollNone poll = iota
	pollOn
	// Times changed while one was on: its answer may be to the times before, so another one follows.
	pollAgain
)

// New is a session that is down. Give it an Event at once: it begins by sending.
func New(c Config, now time.Time) Session {
	s := Session{config: c, state: Down, since: now, remote: unheard}
	if c.Down {
		s.state, s.diag = AdminDown, DiagAdmin
	}
	s.sentAt = now.Add(-slowest)
	s.setTimes()
	return s
}

func (s Session) State() State { return s.state }

// Since is when the state changed last.
func (s Session) Since() time.Time { return s.since }

// Discriminator of this side.
func (s Session) Discriminator() uint32 { return s.config.Discriminator }

// Detection is the silence after which the other side counts as dead; 0 if nothing was heard of it.
func (s Session) Detection() time.Duration {
	if s.heard.IsZero() {
		return 0
	}
	return time.Duration(s.remote.multiplier) * max(s.usedRx, s.remote.desiredTx)
}

// Step takes in an Event.
func (s Session) Step(e Event) (Session, Output) {
	if e.Config != nil {
		s.configure(*e.Config, e.Now)
	}
	// A packet that is there counts before silence does: if this host stood still for a moment, the other side did not.
	final := e.Packet != nil && s.receive(*e.Packet, e.Now)
	if !s.heard.IsZero() && !e.Now.Before(s.heard.Add(s.Detection())) {
		s.expire(e.Now)
	}
	p := s.packet()
	out := Output{Packet: p}
	switch {
	case final:
		// An answer is out of turn, and never a question (section 6.8.7).
		out.Send, out.Packet.Poll, out.Packet.Final = true, false, true
	case s.due(e.Now):
		out.Send, s.sentAt, s.chance = true, e.Now, e.Seed
	}
	if out.Send {
		s.sent = out.Packet
	}
	out.Next = s.next()
	if !out.Next.IsZero() && out.Next.Before(e.Now) {
		out.Next = e.Now
	}
	return s, out
}

func (s *Session) configure(c Config, now time.Time) {
	c.Discriminator = s.config.Discriminator
	s.config = c
	switch {
	case c.Down && s.state != AdminDown:
		s.become(AdminDown, DiagAdmin, now)
	case !c.Down && s.state == AdminDown:
		s.become(Down, DiagNone, now)
	default:
		s.setTimes()
	}
}

// receive takes in a packet (section 6.8.6) and says whether it wants an answer at once.
func (s *Session) receive(p Packet, now time.Time) (answer bool) {
	if p.Yours != 0 && p.Yours != s.config.Discriminator {
		return false
	}
	s.heard = now
	s.remote = remote{p.Mine, p.State, p.Diag, p.Multiplier, p.DesiredTx, p.RequiredRx}
	if p.Final && s.poll != pollNone {
		s.poll--
		s.settle()
	}
	if s.state == AdminDown {
		return false
	}
	switch {
	case p.State == AdminDown:
		if s.state != Down {
			s.become(Down, DiagNeighbour, now)
		}
	case s.state == Down && p.State == Down:
		s.become(Init, s.diag, now)
	case s.state == Down && p.State == Init, s.state == Init && p.State >= Init:
		s.become(Up, DiagNone, now)
	case s.state == Up && p.State == Down:
		s.become(Down, DiagNeighbour, now)
	}
	return p.Poll
}

// expire forgets a side that has been silent for the detection time.
func (s *Session) expire(now time.Time) {
	s.heard, s.remote, s.poll = time.Time{}, unheard, pollNone
	if s.state == Init || s.state == Up {
		s.become(Down, DiagSilence, now)
	}
	s.settle()
}

func (s *Session) become(to State, why Diag, now time.Time) {
	s.state, s.diag, s.since = to, why, now
	s.setTimes()
}

// setTimes says the times of the present state, and asks the other side to confirm them (section 6.8.3).
func (s *Session) setTimes() {
	tx, rx := s.config.Interval, s.config.Interval
	if s.state != Up {
		tx = max(tx, slowest)
	}
	if tx == s.desiredTx && rx == s.requiredRx {
		return
	}
	s.desiredTx, s.requiredRx = tx, rx
	switch {
	case s.remote.discriminator == 0:
		// Nobody is there to confirm; the next packet that is heard finds them as they are.
	case s.poll == pollNone:
		s.poll = pollOn
	default:
		s.poll = pollAgain
	}
	s.settle()
}

// settle applies the times. While the other side has not confirmed them, a session that is up neither sends more slowly, nor
// loses patience earlier, than it said before: otherwise a mere change of times would look like death (section 6.8.3).
func (s *Session) settle() {
	if s.state != Up || s.poll == pollNone {
		s.usedTx, s.usedRx = s.desiredTx, s.requiredRx
		return
	}
	s.usedTx, s.usedRx = min(s.usedTx, s.desiredTx), max(s.usedRx, s.requiredRx)
}

func (s *Session) packet() Packet {
	return Packet{State: s.state, Diag: s.diag, Poll: s.poll != pollNone, Multiplier: s.config.Multiplier,
		Mine: s.config.Discriminator, Yours: s.remote.discriminator, DesiredTx: s.desiredTx, RequiredRx: s.requiredRx}
}

// differ says whether a packet tells something new.
func differ(a, b Packet) bool {
	a.Poll, a.Final, b.Poll, b.Final = false, false, false, false
	return a != b
}

// turn is when the next packet has its turn; zero if the other side wants none.
func (s *Session) turn() time.Time {
	// What is new is said before its turn (section 6.8.7), but not without measure: otherwise two sides that disagree over a
	// network that doubles packets would talk each other to death.
	if differ(s.packet(), s.sent) {
		return s.sentAt.Add(minInterval)
	}
	if s.remote.requiredRx == 0 {
		return time.Time{}
	}
	interval := max(s.usedTx, s.remote.requiredRx)
	// A quarter less at most; with a multiplier of 1, a tenth to a quarter.
	sure, random := time.Duration(0), interval/4
	if s.config.Multiplier == 1 {
		sure, random = interval/10, interval/4-interval/10
	}
	part, _ := bits.Mul64(uint64(random), s.chance)
	return s.sentAt.Add(interval - sure - time.Duration(part))
}

func (s *Session) due(now time.Time) bool {
	at := s.turn()
	return !at.IsZero() && !now.Before(at)
}

func (s *Session) next() time.Time {
	at := s.turn()
	if s.heard.IsZero() {
		return at
	}
	if silence := s.heard.Add(s.Detection()); at.IsZero() || silence.Before(at) {
		return silence
	}
	return at
}
