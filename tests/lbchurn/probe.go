package lbchurn

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Probe is a stream of datagrams from behind the router to VIP4, over many flows. It knows of each when it was sent and whether
// a real server has got it.
type Probe struct {
	f     *Farm
	began time.Time
	every time.Duration
	// For each datagram: when it was sent (nanoseconds since began), and whether it came.
	mu    sync.Mutex
	sent  []int64
	came  []uint32
	stop  chan struct{}
	ended sync.WaitGroup
}

// NewProbe begins to send rate datagrams a second, round over the flows.
func (f *Farm) NewProbe(flows, rate int) (*Probe, error) {
	ns, err := namespace("behind")
	if err != nil {
		return nil, err
	}
	defer unix.Close(ns)
	p := &Probe{f: f, began: time.Now(), every: time.Second / time.Duration(rate), stop: make(chan struct{})}
	var sockets []*net.UDPConn
	err = in(ns, func() error {
		for range flows {
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(VIP4, port)))
			if err != nil {
				return err
			}
			sockets = append(sockets, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	f.probe.Store(p)
	p.ended.Go(func() { p.send(sockets) })
	return p, nil
}

// send keeps the rate over time: what a late thread missed is sent at once, and noted with the time at which it was sent.
func (p *Probe) send(sockets []*net.UDPConn) {
	defer func() {
		for _, c := range sockets {
			c.Close()
		}
	}()
	var b [8]byte
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		due := int(time.Since(p.began) / p.every)
		if due > n+100 { // the machine was elsewhere: no burst that queues could not hold
			p.mu.Lock()
			p.began = p.began.Add(time.Duration(due-n-1) * p.every)
			p.mu.Unlock()
			due = n + 1
		}
		for ; n < due; n++ {
			p.mu.Lock()
			p.sent, p.came = append(p.sent, time.Now().UnixNano()), append(p.came, 0)
			p.mu.Unlock()
			binary.BigEndian.PutUint64(b[:], uint64(n))
			_, _ = sockets[n%len(sockets)].Write(b[:]) // an error of one before, told by ICMP: the count tells
		}
	}
}

// Stop ends it, and waits for the last ones to come.
func (p *Probe) Stop() {
	close(p.stop)
	p.ended.Wait()
	p.Flush()
	p.f.probe.Store(nil)
}

// Flush waits until what was sent has come, or is lost.
func (p *Probe) Flush() {
	p.mu.Lock()
	last := len(p.sent) - 1
	p.mu.Unlock()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		here := last < 0 || p.came[last] > 0
		p.mu.Unlock()
		if here {
			return
		}
	}
}

// Lost are how many were lost of those sent between two times, and when the first and the last of them were sent.
func (p *Probe) Lost(from, to time.Time) (n int, first, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.sent) - 1; i >= 0 && p.sent[i] >= from.UnixNano(); i-- {
		if p.sent[i] > to.UnixNano() || p.came[i] > 0 {
			continue
		}
		if first = time.Unix(0, p.sent[i]); n == 0 {
			last = first
		}
		n++
	}
	return n, first, last
}

// Sent is how many were sent.
func (p *Probe) Sent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sent)
}

type probes struct{ atomic.Pointer[Probe] }

// count takes datagrams of probes at a real server.
func (f *Farm) count(c *net.UDPConn) {
	var b [64]byte
	for {
		n, _, err := c.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return
		}
		p := f.probe.Load()
		if p == nil || n != 8 {
			continue
		}
		i := binary.BigEndian.Uint64(b[:])
		p.mu.Lock()
		if i < uint64(len(p.came)) {
			p.came[i]++
		}
		p.mu.Unlock()
	}
}
