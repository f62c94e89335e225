package lbchurn

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"padis.io/padis/executor/lb"
)

// Load says what a churn is.
type Load struct {
	Seconds, Connections int
	// Changes a minute.
	Changes int
	// Between two messages of a connection.
	Interval time.Duration
	// How long a real server that drains is left alone before it ends.
	Drain time.Duration
	// A connection that waits longer for an answer stalls; 0 is a second.
	Stall time.Duration
}

// Report of a churn.
type Report struct {
	Counts
	Seconds     float64
	Connections int
	// Changes by their kinds.
	Changes map[string]int
	// Longest time from a change until everybody had it.
	SlowestChange time.Duration
	// How often a director did not answer within two seconds.
	Silent int
	// How late the lab's own clock was at most: what the machine did not run in time, it did not measure in time.
	Lateness time.Duration
}

// Total number of changes.
func (r Report) Total() (n int) {
	for _, k := range r.Changes {
		n += k
	}
	return n
}

// churn is a running one.
type churn struct {
	f     *Farm
	load  Load
	r     *rand.Rand
	group sync.WaitGroup
	quit  chan struct{}
	mu    sync.Mutex
	done  map[string]int
	// Directors that are not to be touched: they come or go.
	busy map[*Director]bool
	late atomic.Int64
}

// Churn keeps connections while directors and real servers come and go.
func (f *Farm) Churn(l Load) (Report, error) {
	l.Stall = cmp.Or(l.Stall, time.Second)
	c, err := f.connect(l)
	if err != nil {
		return Report{}, err
	}
	ch := &churn{f: f, load: l, r: rand.New(rand.NewPCG(f.o.Seed, 2)), quit: make(chan struct{}), done: map[string]int{}, busy: map[*Director]bool{}}
	ch.group.Go(ch.clock)
	began := time.Now()
	tick := time.NewTicker(time.Minute / time.Duration(l.Changes))
	defer tick.Stop()
	for deadline := began.Add(time.Duration(l.Seconds) * time.Second); time.Now().Before(deadline); {
		<-tick.C
		ch.one()
	}
	took := time.Since(began)
	c.close()
	close(ch.quit)
	ch.group.Wait()
	f.Settle()
	f.tables.Lock()
	defer f.tables.Unlock()
	return Report{Counts: c.counts, Seconds: took.Seconds(), Connections: l.Connections, Changes: ch.done, SlowestChange: f.slowest, Silent: f.silent, Lateness: time.Duration(ch.late.Load())}, nil
}

// clock watches the lab's own lateness.
func (ch *churn) clock() {
	const every = 10 * time.Millisecond
	for last := time.Now(); ; {
		if !ch.sleep(every) {
			return
		}
		now := time.Now()
		late := now.Sub(last) - every
		if late > time.Duration(ch.late.Load()) {
			ch.late.Store(int64(late))
			if late > ch.load.Stall/4 {
				ch.f.o.Log("the machine did not run the lab for %v", late)
			}
		}
		last = now
	}
}

// sleep is false if the churn ended.
func (ch *churn) sleep(d time.Duration) bool {
	select {
	case <-ch.quit:
		return false
	case <-time.After(d):
		return true
	}
}

// between is a random time.
func (ch *churn) between(a, b time.Duration) time.Duration {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return a + time.Duration(ch.r.Int64N(int64(b-a)))
}

func (ch *churn) note(kind, format string, args ...any) {
	ch.mu.Lock()
	ch.done[kind]++
	ch.mu.Unlock()
	ch.f.o.Log("change: "+format, args...)
}

// one makes one change. Whoever goes comes back later, which is another one.
func (ch *churn) one() {
	switch n := ch.between(0, 100); {
	case n < 25:
		ch.directors("director killed", (*Director).Kill)
	case n < 45:
		ch.directors("director drained", (*Director).Drain)
	case n < 75:
		ch.leave()
	case n < 90:
		ch.join()
	default:
		ch.doubt()
	}
}

// directors takes one away that announces, if five others do; it comes back after a while.
func (ch *churn) directors(kind string, end func(*Director)) {
	var able []*Director
	ch.mu.Lock()
	for _, d := range ch.f.Directors {
		if d.Announces() && !ch.busy[d] {
			able = append(able, d)
		}
	}
	if len(able) < min(6, len(ch.f.Directors)) {
		ch.mu.Unlock()
		ch.leave()
		return
	}
	d := able[ch.r.IntN(len(able))]
	ch.busy[d] = true
	ch.mu.Unlock()
	ch.note(kind, "%s: %s", kind, d.address)
	end(d)
	ch.group.Go(func() {
		d.AwaitEnd()
		if ch.sleep(ch.between(time.Second, 4*time.Second)) {
			ch.note("director added", "director added: %s", d.address)
			if err := d.Start(); err != nil {
				ch.f.t.Errorf("%v", err)
			}
		}
		ch.mu.Lock()
		delete(ch.busy, d)
		ch.mu.Unlock()
	})
}

// serving are the real servers that are, at random order.
func (ch *churn) serving() (out []*Server) {
	ch.f.mu.Lock()
	defer ch.f.mu.Unlock()
	for _, s := range ch.f.servers {
		if s.state == lb.Serving {
			out = append(out, s)
		}
	}
	return out
}

// leave drains a real server, unless too few would be left; then one joins.
func (ch *churn) leave() {
	all := ch.serving()
	if len(all) <= ch.f.o.Servers*4/5 {
		ch.join()
		return
	}
	s := all[ch.between(0, time.Duration(len(all)))]
	ch.note("real server drained", "real server drained: %s with %d connections", s.ID, s.Connections())
	ch.f.Change(s, lb.Draining, 1)
	ch.group.Go(func() {
		for end := time.Now().Add(ch.load.Drain); s.Connections() > 0 && time.Now().Before(end); {
			if !ch.sleep(100 * time.Millisecond) {
				return
			}
		}
		s.End()
	})
}

// join adds a real server; if there is no place, one leaves.
func (ch *churn) join() {
	s, err := ch.f.Serve()
	switch {
	case err == errFull:
		if len(ch.serving()) > ch.f.o.Servers*4/5 {
			ch.leave()
		}
	case err != nil:
		ch.f.t.Errorf("%v", err)
	default:
		ch.note("real server added", "real server added: %s", s.ID)
	}
}

// doubt makes a real server suspect for a while, or gives it another weight.
func (ch *churn) doubt() {
	all := ch.serving()
	s := all[ch.between(0, time.Duration(len(all)))]
	if ch.between(0, 2) == 0 {
		w := uint32(ch.between(1, 4))
		ch.note("weight", "weight: %s has %d", s.ID, w)
		ch.f.Change(s, lb.Serving, w)
		return
	}
	ch.note("suspect", "suspect: %s", s.ID)
	ch.f.Change(s, lb.Suspect, 1)
	ch.group.Go(func() {
		if !ch.sleep(ch.between(time.Second, 3*time.Second)) {
			return
		}
		ch.note("trusted", "trusted again: %s", s.ID)
		ch.f.Change(s, lb.Serving, 1)
	})
}

func tuple(conn net.Conn) lb.Tuple {
	from, to := conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	return lb.Tuple{Src: from.Addr().Unmap(), Dst: to.Addr().Unmap(), SrcPort: from.Port(), DstPort: to.Port(), Protocol: lb.TCP}
}

// Figures of a report.
func (r Report) Figures() (out []string) {
	f := func(name string, value float64, unit string) {
		out = append(out, fmt.Sprintf("figure: %s %.2f %s", name, value, unit))
	}
	f("churn_changes", float64(r.Total()), "changes")
	f("churn_messages", float64(r.Messages), "messages")
	f("churn_renewed", float64(r.Renewed), "connections")
	f("churn_connect_late", float64(r.Late), "connections")
	f("churn_message_slowest_ms", float64(r.Slowest.Milliseconds()), "ms")
	f("churn_change_slowest_ms", float64(r.SlowestChange.Milliseconds()), "ms")
	f("churn_lab_late_ms", float64(r.Lateness.Milliseconds()), "ms")
	f("churn_seconds", r.Seconds, "s")
	f("churn_connections", float64(r.Connections), "connections")
	f("churn_wrong", float64(r.Wrong), "connections")
	f("churn_resets", float64(r.Resets), "connections")
	f("churn_stalls", float64(r.Stalls), "connections")
	return out
}

// Add takes another run's counts into the report.
func (r *Report) Add(o Report) {
	r.Resets, r.Stalls, r.Wrong = r.Resets+o.Resets, r.Stalls+o.Stalls, r.Wrong+o.Wrong
	r.Messages, r.Renewed, r.Late = r.Messages+o.Messages, r.Renewed+o.Renewed, r.Late+o.Late
	r.Slowest, r.SlowestChange, r.Lateness = max(r.Slowest, o.Slowest), max(r.SlowestChange, o.SlowestChange), max(r.Lateness, o.Lateness)
	r.Seconds, r.Silent = r.Seconds+o.Seconds, r.Silent+o.Silent
	r.Connections = max(r.Connections, o.Connections)
	if r.Changes == nil {
		r.Changes = map[string]int{}
	}
	for k, n := range o.Changes {
		r.Changes[k] += n
	}
}
