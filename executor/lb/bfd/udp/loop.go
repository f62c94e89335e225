package udp

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb/bfd"
)

const (
	// After which a socket that could not be had is tried again.
	again = time.Second
	// How long a peer that goes is told so. It hears the first packet, or the next, which comes within a second.
	leave = 2500 * time.Millisecond
	// Packets of one socket before the timers have their turn.
	burst = 64
)

// loop is only touched by its goroutine.
type loop struct {
	s     *Sessions
	log   *zap.Logger
	epoll int
	wake  int
	timer int

	sessions map[netip.Addr]*session
	leaving  []*session
	ears     map[netip.Addr]*ear
	changed  bool

	in  incoming
	got bfd.Packet
	out [bfd.Size]byte
}

// session is one peer.
type session struct {
	peer bfd.Peer
	core bfd.Session
	next time.Time
	// Of the socket that it sends by; -1 is none, until at.
	fd    int
	retry time.Time
	local netip.Addr
	// Why the kernel does not send, and why the last packet of the peer does not count; empty is nothing.
	blocked, refused string
	// A session that is leaving ends here.
	until time.Time
	told  Status
}

func newLoop(s *Sessions, log *zap.Logger) (*loop, error) {
	l := &loop{s: s, log: log, epoll: -1, wake: -1, timer: -1, sessions: map[netip.Addr]*session{}, ears: map[netip.Addr]*ear{}}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
			l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
		}
	}
	for _, fd := range []int{l.wake, l.timer} {
		if err == nil {
			err = l.watch(fd)
		}
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("epoll, eventfd and timerfd of the loop: %w", err)
	}
	l.in.prepare()
	return l, nil
}

func (l *loop) watch(fd int) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (l *loop) close() {
	for _, e := range l.ears {
		_ = unix.Close(e.fd)
	}
	for _, x := range l.sessions {
		x.hangUp()
	}
	for _, x := range l.leaving {
		x.hangUp()
	}
	for _, fd := range []int{l.timer, l.wake, l.epoll} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

func (l *loop) run() {
	// It is never unlocked: the thread, whose priority is raised, ends with the goroutine.
	runtime.LockOSThread()
	l.log.Info("bfd: the loop runs", zap.String("scheduling", raise()))
	defer close(l.s.ended)
	defer l.close()
	var events [16]unix.EpollEvent
	var waste [8]byte
	for {
		l.arm()
		n, err := unix.EpollWait(l.epoll, events[:], -1)
		if err != nil && err != unix.EINTR {
			l.log.Error("bfd: the loop ends: all sessions look dead to their routers", zap.Error(err))
			return
		}
		// Packets first: what the kernel holds is a sign of life, however late this thread comes.
		for _, e := range events[:max(n, 0)] {
			if fd := int(e.Fd); fd == l.wake || fd == l.timer {
				_, _ = unix.Read(fd, waste[:])
			} else {
				l.hear(fd)
			}
		}
		if r := l.s.inbox.Swap(nil); r != nil {
			if r.end {
				l.farewell()
				return
			}
			l.set(r.peers)
			l.publish()
			close(r.done)
		}
		l.tick(time.Now())
		if l.changed {
			l.publish()
		}
	}
}

// arm sets the timer to the next event of any session.
func (l *loop) arm() {
	var first time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	for _, x := range l.sessions {
		earlier(x.next)
		if x.fd < 0 {
			earlier(x.retry)
		}
	}
	for _, x := range l.leaving {
		earlier(x.next)
		earlier(x.until)
	}
	var spec unix.ItimerSpec
	if !first.IsZero() {
		// 0 would switch it off.
		spec.Value = unix.NsecToTimespec(max(1, int64(time.Until(first))))
	}
	_ = unix.TimerfdSettime(l.timer, 0, &spec, nil) // fails for wrong arguments only
}

func (l *loop) tick(now time.Time) {
	for _, x := range l.sessions {
		if x.fd < 0 && !now.Before(x.retry) {
			l.open(x, now)
		}
		if due(x.next, now) {
			l.step(x, bfd.Event{Now: now})
		}
	}
	kept := l.leaving[:0]
	for _, x := range l.leaving {
		if due(x.until, now) {
			x.hangUp()
			continue
		}
		if due(x.next, now) {
			l.step(x, bfd.Event{Now: now})
		}
		kept = append(kept, x)
	}
	clear(l.leaving[len(kept):])
	l.leaving = kept
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

func (l *loop) step(x *session, e bfd.Event) {
	e.Seed = rand.Uint64()
	var out bfd.Output
	x.core, out = x.core.Step(e)
	x.next = out.Next
	if out.Send && x.fd >= 0 {
		l.send(x, out.Packet)
	}
	if x.status() != x.told {
		l.changed = true
	}
}

func (l *loop) send(x *session, p bfd.Packet) {
	x.blocked = ""
	switch err := write(x.fd, p.Append(l.out[:0])); err {
	case nil:
	case unix.ECONNREFUSED:
		x.blocked = whyRefused
	case unix.EAGAIN, unix.ENOBUFS, unix.EPERM, unix.EHOSTUNREACH:
		// A full queue, a filter of this host, an unanswered ARP: another packet may pass.
		x.blocked = "the kernel does not send to it: " + err.Error()
	default:
		// The address or the route of the socket has gone.
		x.blocked = "the kernel does not send to it: " + err.Error()
		x.hangUp()
		x.retry = time.Now().Add(again)
	}
}

const whyRefused = "the router refuses UDP port 3784: switch BFD on there, for this host"

// hear takes in what a socket holds.
func (l *loop) hear(fd int) {
	var local netip.Addr
	for a, e := range l.ears {
		if e.fd == fd {
			local = a
		}
	}
	for range burst {
		from, ttl, payload, err := l.in.read(fd)
		if err != nil {
			return // nothing more; or an error of the socket, which reading has cleared
		}
		x, ok := l.sessions[from]
		if !ok || x.local != local {
			continue
		}
		if ttl != bfd.TTL {
			l.refuse(x, whyFar)
			continue
		}
		if l.got, err = bfd.Parse(payload); err != nil {
			l.refuse(x, err.Error())
			continue
		}
		x.refused = ""
		l.step(x, bfd.Event{Now: time.Now(), Packet: &l.got})
	}
}

const whyFar = "packets in its name come from beyond the link (their TTL is not 255), and are refused"

// refuse notes why packets do not count. It is said of sessions that are not up only: anybody on the link can send rubbish.
func (l *loop) refuse(x *session, why string) {
	if x.core.State() != bfd.Up && x.refused != why {
		x.refused, l.changed = why, true
	}
}

func (l *loop) set(peers []bfd.Peer) {
	now := time.Now()
	wanted := make(map[netip.Addr]bfd.Peer, len(peers))
	for _, p := range peers {
		wanted[p.Address] = p
	}
	for a, x := range l.sessions {
		if p, ok := wanted[a]; !ok || p.Local != x.peer.Local {
			l.part(x, now)
		}
	}
	for _, p := range peers {
		c := bfd.Config{Interval: p.Interval, Multiplier: p.Multiplier}
		x, ok := l.sessions[p.Address]
		if ok && x.peer != p {
			x.peer = p
			l.step(x, bfd.Event{Now: now, Config: &c})
		}
		if ok {
			continue
		}
		c.Discriminator = l.discriminator()
		x = &session{peer: p, core: bfd.New(c, now), next: now, fd: -1}
		l.sessions[p.Address] = x
		l.open(x, now)
		l.step(x, bfd.Event{Now: now})
	}
	l.shutEars()
}

// part lets a session go; the peer is told for a while.
func (l *loop) part(x *session, now time.Time) {
	delete(l.sessions, x.peer.Address)
	x.until = now.Add(leave)
	l.leaving = append(l.leaving, x)
	l.step(x, bfd.Event{Now: now, Config: &bfd.Config{Interval: x.peer.Interval, Multiplier: x.peer.Multiplier, Down: true}})
}

func (l *loop) farewell() {
	now := time.Now()
	for _, x := range l.sessions {
		l.part(x, now)
	}
}

func (l *loop) discriminator() uint32 {
	for {
		d := rand.Uint32()
		free := d != 0
		for _, x := range l.sessions {
			free = free && x.core.Discriminator() != d
		}
		if free {
			return d
		}
	}
}

// open makes the sockets of a session, as far as it can.
func (l *loop) open(x *session, now time.Time) {
	fd, local, err := dial(x.peer)
	if err == nil {
		if err = l.listen(local); err != nil {
			_ = unix.Close(fd)
		}
	}
	l.changed = true
	if err != nil {
		x.blocked, x.retry = err.Error(), now.Add(again)
		return
	}
	x.fd, x.local, x.blocked = fd, local, ""
	l.shutEars()
}

func (x *session) hangUp() {
	if x.fd >= 0 {
		_ = unix.Close(x.fd)
		x.fd, x.local = -1, netip.Addr{}
	}
}

func (x *session) status() Status {
	st := Status{Peer: x.peer.Address, Local: x.local, State: x.core.State(), Since: x.core.Since(), Detection: x.core.Detection()}
	if st.State != bfd.Up {
		st.Message = cmp.Or(x.blocked, x.refused, x.core.Why())
	}
	return st
}

// publish shows what is now, and wakes who waits for changes.
func (l *loop) publish() {
	l.changed = false
	all := make(map[netip.Addr]Status, len(l.sessions))
	for a, x := range l.sessions {
		x.told = x.status()
		all[a] = x.told
	}
	l.s.views.Store(&all)
	select {
	case l.s.changed <- struct{}{}:
	default:
	}
}
