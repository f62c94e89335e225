package lbchurn

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxMessage = 8 << 10
	// One that waits longer is given up.
	hopeless = 30 * time.Second
)

// Counts of connections.
type Counts struct {
	// Resets: they ended although their real server is alive. Stalls: no progress for more than a second, though it is. Wrong:
	// what came back was not what was sent.
	Resets, Stalls, Wrong int64
	// Messages that were answered; connections that were made anew after their real server had left; and those of them that took
	// more than a second, or several attempts.
	Messages, Renewed, Late int64
	// Longest time that a message took.
	Slowest time.Duration
}

// clients are long-lived connections from behind the router.
type clients struct {
	f        *Farm
	ns       int
	interval time.Duration
	stall    time.Duration
	dials    chan *client
	quit     chan struct{}
	group    sync.WaitGroup
	open     atomic.Int64

	mu     sync.Mutex
	counts Counts
}

type client struct {
	c    *clients
	conn chan *net.TCPConn
	vip  netip.Addr
}

// connect makes the connections and lets each send a message in every interval.
func (f *Farm) connect(l Load) (*clients, error) {
	n := l.Connections
	c := &clients{f: f, interval: l.Interval, stall: l.Stall, dials: make(chan *client), quit: make(chan struct{})}
	var err error
	if c.ns, err = namespace("behind"); err != nil {
		return nil, err
	}
	for range 32 { // threads that stay there
		c.group.Go(func() {
			_ = in(c.ns, func() error {
				for {
					select {
					case <-c.quit:
						return nil
					case x := <-c.dials:
						x.conn <- c.dial(x.vip)
					}
				}
			})
		})
	}
	for i := range n {
		x := &client{c: c, conn: make(chan *net.TCPConn), vip: []netip.Addr{VIP4, VIP6}[i%2]}
		c.group.Go(x.run)
	}
	for end := time.Now().Add(time.Minute); c.open.Load() < int64(n); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.close()
			return nil, fmt.Errorf("only %d of %d connections could be made within a minute", c.open.Load(), n)
		}
	}
	return c, nil
}

func (c *clients) close() {
	close(c.quit)
	c.group.Wait()
	unix.Close(c.ns)
}

func (c *clients) ends() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}

// dial tries until there is a connection; nil at the end.
func (c *clients) dial(vip netip.Addr) *net.TCPConn {
	began, tries := time.Now(), 0
	for !c.ends() {
		tries++
		d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}
		raw, err := d.Dial("tcp", netip.AddrPortFrom(vip, port).String())
		if err != nil {
			c.f.o.Log("a client cannot connect to %s: %v", vip, err)
			continue
		}
		if tries > 1 || time.Since(began) > c.stall {
			c.f.o.Log("a connection to %s took %v and %d attempts", vip, time.Since(began), tries)
			c.count(func(n *Counts) { n.Late++ })
		}
		return raw.(*net.TCPConn)
	}
	return nil
}

func (c *clients) count(f func(*Counts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.counts)
}

// run has one connection after the other.
func (x *client) run() {
	for first := true; ; first = false {
		var conn *net.TCPConn
		select {
		case <-x.c.quit:
			return
		case x.c.dials <- x:
			if conn = <-x.conn; conn == nil {
				return
			}
		}
		if !first {
			x.c.count(func(n *Counts) { n.Renewed++ })
		}
		x.c.open.Add(1)
		server, err := x.talk(conn)
		conn.Close()
		x.c.open.Add(-1)
		if x.c.ends() {
			return
		}
		x.judge(err, server, conn)
	}
}

// judge counts the end of a connection, unless its real server has left.
func (x *client) judge(err error, server string, conn *net.TCPConn) {
	f := x.c.f
	f.mu.Lock()
	s := f.servers[server]
	f.mu.Unlock()
	if server != "" && (s == nil || s.Left()) {
		return
	}
	f.o.Log("connection %s to %s of %q, which is alive, ends: %v; %s", conn.LocalAddr(), x.vip, server, err, f.flow(conn))
	x.c.count(func(n *Counts) {
		if errors.Is(err, errWrong) {
			n.Wrong++
		} else {
			n.Resets++
		}
	})
}

var errWrong = errors.New("what came back is not what was sent")

// talk sends messages until the connection ends.
func (x *client) talk(conn *net.TCPConn) (server string, err error) {
	_ = conn.SetDeadline(time.Now().Add(hopeless))
	r := bufio.NewReaderSize(conn, 2048)
	name := make([]byte, 32)
	if _, err := io.ReadFull(r, name); err != nil {
		return "", err
	}
	server = strings.TrimSpace(string(name))
	chance := rand.New(rand.NewPCG(rand.Uint64(), 1))
	timer := time.NewTimer(time.Duration(chance.Int64N(int64(x.c.interval))))
	defer timer.Stop()
	message, answer := make([]byte, 12+maxMessage), make([]byte, 12+maxMessage)
	for seq := uint64(0); ; seq++ {
		select {
		case <-x.c.quit:
			return server, nil
		case <-timer.C:
		}
		size := 16 + chance.IntN(240)
		if seq%16 == 15 { // several packets
			size = maxMessage - chance.IntN(2048)
		}
		m := message[:12+size]
		binary.BigEndian.PutUint32(m, uint32(size))
		binary.BigEndian.PutUint64(m[4:], seq)
		for i := 12; i < len(m); i += 8 {
			var w [8]byte
			binary.BigEndian.PutUint64(w[:], chance.Uint64())
			copy(m[i:], w[:])
		}
		began := time.Now()
		_ = conn.SetDeadline(began.Add(hopeless))
		_, err = conn.Write(m)
		if err == nil {
			_, err = io.ReadFull(r, answer[:len(m)])
		}
		took := time.Since(began)
		if err == nil && !bytes.Equal(m, answer[:len(m)]) {
			err = errWrong
		}
		x.note(took, err, server, conn)
		if err != nil {
			return server, err
		}
		timer.Reset(x.c.interval - time.Duration(chance.Int64N(int64(x.c.interval/4))))
	}
}

// note counts a message's time. A real server that left meanwhile is no stall.
func (x *client) note(took time.Duration, err error, server string, conn *net.TCPConn) {
	f := x.c.f
	slow := false
	if took > x.c.stall && !x.c.ends() {
		f.mu.Lock()
		s := f.servers[server]
		f.mu.Unlock()
		if slow = s != nil && !s.Left(); slow {
			f.o.Log("connection %s to %s of %s, which is alive, had no progress for %v (%v); %s", conn.LocalAddr(), x.vip, server, took, err, f.flow(conn))
		}
	}
	x.c.count(func(n *Counts) {
		if err == nil {
			n.Messages++
			n.Slowest = max(n.Slowest, took)
		}
		if slow {
			n.Stalls++
		}
	})
}

// flow is what the newest table says of a connection.
func (f *Farm) flow(conn *net.TCPConn) string {
	t := tuple(conn)
	f.tables.Lock()
	defer f.tables.Unlock()
	s := service(6)
	s.VIP = t.Dst
	slot := s.Slot(t)
	var chain []string
	for _, e := range f.tcp.Chain(slot) {
		chain = append(chain, fmt.Sprintf("%s(%s)", f.tcp.Servers[e].ID, f.tcp.Servers[e].State))
	}
	return fmt.Sprintf("slot %d of number %d: %s", slot, f.tcp.Number, strings.Join(chain, " "))
}
