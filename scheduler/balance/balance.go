// Package balance decides what becomes of one LoadBalancer: its real servers, its tables, and who may be told when; all that is
// known of it in, the record to keep and the next messages out. Pure.
//
// One number at a time goes through: hosts of real servers have it first, directors get it when these have, and the next is
// decided when all have this one or are given up. docs/design/0010 and 0013 say why.
package balance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Patience is how long a host or a director may take to acknowledge what it was told; then the others do not wait for it.
const Patience = 2 * time.Second

// MaxSize bounds a Balance: it travels in one message of Mesos, and is kept in one record.
const MaxSize = 1<<20 - 1<<12

// Snapshot is all that is known of one LoadBalancer at one time. Nothing of it is changed.
type Snapshot struct {
	Now    time.Time
	Wanted *padisv1.WantedBalancer
	// VIPs are the leased addresses of Wanted's vips, in their order; empty where there is none.
	VIPs []string
	// Network is that of the directors; empty if there are none yet.
	Network string
	// Record is what was decided last, nil before the first time, and Tables are its tables: Read makes them.
	Record *padisv1.BalanceRecord
	Tables Tables
	// Candidates are the instances that backends select, and those of Record's that are still there, in any order.
	Candidates []Candidate
	// Hosts are those of Record's servers; one that is missing has acknowledged nothing and is not late.
	Hosts []Host
	// Directors are those that may be running.
	Directors []Director
}

// Tables of a record; nil where no listener has the protocol.
type Tables struct{ TCP, UDP *lb.Generation }

// Candidate is an instance that may be a real server.
type Candidate struct {
	// ID is its container, of a plain process its task; empty if nothing runs.
	ID string
	// Instance is APP-SLOT.
	Namespace, Instance, Agent, Host string
	// Backend is the index of the one that selects it, -1 if none does any more.
	Backend int
	Phase   padisv1.Phase
	Ready   bool
	// Reason and Message are those of the instance.
	Reason, Message string
	// Address in the network of the directors; empty if it has none there.
	Address string
	// VIPs that are certainly on its loopback, sorted. The others should have been there at VIPsDue; zero is that it is not late.
	VIPs    []string
	VIPsDue time.Time
}

// Host has real servers.
type Host struct {
	Agent string
	// Acked is the number that it has.
	Acked int64
	// Due is when it counts as silent if it has not acknowledged the newest by then; zero if it is not late.
	Due time.Time
}

// Director is an instance of the directors that runs, or may run.
type Director struct {
	Task, Instance, Agent, Host, Address string
	Phase                                padisv1.Phase
	Ready                                bool
	// State is what it says of itself; nil if nothing was heard.
	State *padisv1.DirectorState
	// Due is as of Host.
	Due time.Time
}

func (d *Director) acked() int64 { return d.State.GetNumber() }

// Decision is what shall be done.
type Decision struct {
	// Record and Tables are those of the snapshot if nothing changes. A new Record must be durable before anything is sent.
	Record *padisv1.BalanceRecord
	Tables Tables
	// Relays are the agents that lack the record's number for their real servers, Directors those whose directors may have it
	// and lack it; both sorted.
	Relays, Directors []string
	// Loopback are the VIPs that instances which backends select shall have, sorted.
	Loopback []string
	// Servers say how each candidate stands, sorted by instance.
	Servers []Server
	// Problem says why a change cannot be decided; empty if all is well.
	Problem string
	// Over: the LoadBalancer is deleted, and no director has anything of it.
	Over bool
	// Next is when something will be late or over; zero if nothing will.
	Next time.Time
}

// Server is a candidate and how it stands.
type Server struct {
	Candidate
	// InTable: it is one of the real servers, and State is that of the table. Otherwise it waits.
	InTable bool
	State   lb.State
	// Why it does not serve, or will not soon; empty if it does.
	Why, Say string
	// Declared is its weight as the backend says.
	Declared int32
}

// Read decodes the tables of a record.
func Read(rec *padisv1.BalanceRecord) (Tables, error) {
	var t Tables
	var errs [2]error
	if b := rec.GetTcp(); len(b) > 0 {
		t.TCP, errs[0] = lb.Decode(b)
	}
	if b := rec.GetUdp(); len(b) > 0 {
		t.UDP, errs[1] = lb.Decode(b)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return Tables{}, fmt.Errorf("balance %s number %d: %w", rec.GetUid(), rec.GetNumber(), err)
	}
	return t, nil
}

// servers of the tables, sorted by ID; those of both protocols are the same.
func (t Tables) servers() []lb.Server {
	switch {
	case t.TCP != nil:
		return t.TCP.Servers
	case t.UDP != nil:
		return t.UDP.Servers
	}
	return nil
}

func (t Tables) server(id string) (lb.Server, bool) {
	all := t.servers()
	i, ok := slices.BinarySearchFunc(all, id, func(s lb.Server, id string) int { return cmp.Compare(s.ID, id) })
	if !ok {
		return lb.Server{}, false
	}
	return all[i], true
}

// Serves tells whether a real server is in the tables and serves.
func (t Tables) Serves(id string) bool {
	s, ok := t.server(id)
	return ok && s.State == lb.Serving
}

// Served are the VIPs that a record serves, sorted.
func Served(rec *padisv1.BalanceRecord) []string { return vipsOf(rec.GetServices()) }

// Decide says what shall be done now. Equal snapshots give equal decisions.
func Decide(s Snapshot) Decision {
	w := newWork(s)
	w.prune()
	if w.settled() {
		w.advance()
		w.prune()
	}
	return w.decision()
}

// work is one decision on its way.
type work struct {
	Snapshot
	rec     *padisv1.BalanceRecord
	tables  Tables
	hosts   map[string]Host
	alive   map[string]*Candidate // by ID
	judged  map[string]judgement  // by instance
	next    time.Time
	problem string
	// compared are lists of VIPs, and what the second lacks of the first.
	compared map[compared][]string
}

func newWork(s Snapshot) *work {
	w := &work{Snapshot: s, rec: s.Record, tables: s.Tables, hosts: map[string]Host{}, alive: map[string]*Candidate{}, judged: map[string]judgement{}, compared: map[compared][]string{}}
	if w.rec == nil {
		w.rec = &padisv1.BalanceRecord{Uid: s.Wanted.GetUid()}
	}
	w.Candidates = slices.Clone(s.Candidates)
	slices.SortFunc(w.Candidates, func(a, b Candidate) int { return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.ID, b.ID)) })
	for _, h := range s.Hosts {
		w.hosts[h.Agent] = h
	}
	for i := range w.Candidates {
		if c := &w.Candidates[i]; c.ID != "" {
			w.alive[c.ID] = c
		}
	}
	return w
}

// later notes a time in the future at which the decision may be another.
func (w *work) later(t time.Time) {
	if t.After(w.Now) && (w.next.IsZero() || t.Before(w.next)) {
		w.next = t
	}
}

// change gives a copy of the record to write to.
func (w *work) change() *padisv1.BalanceRecord {
	n := &padisv1.BalanceRecord{}
	proto.Merge(n, w.rec)
	return n
}

// prune forgets what only directors with an earlier number may still use.
func (w *work) prune() {
	if slices.ContainsFunc(w.Directors, func(d Director) bool { return d.acked() < w.rec.GetNumber() }) {
		return
	}
	if vips := vipsOf(w.rec.GetServices()); len(w.rec.GetFormer()) > 0 || !slices.Equal(vips, w.rec.GetVips()) {
		n := w.change()
		n.Vips, n.Former = vips, nil
		w.rec = n
	}
}

func (w *work) decision() Decision {
	d := Decision{Record: w.rec, Tables: w.tables, Problem: w.problem, Relays: w.relays(), Next: w.next}
	if w.Record != nil && proto.Equal(w.rec, w.Record) {
		d.Record = w.Record
	}
	if w.clear() {
		d.Directors = w.lacking()
	}
	d.Loopback = slices.Clone(w.rec.GetVips())
	if !w.Wanted.GetForgotten() {
		for _, v := range w.VIPs {
			if v != "" {
				d.Loopback = append(d.Loopback, v)
			}
		}
	}
	slices.Sort(d.Loopback)
	d.Loopback = slices.Compact(d.Loopback)
	d.Servers = w.shown()
	d.Over = w.Wanted.GetForgotten() && len(w.rec.GetServices())+len(w.rec.GetVips())+len(w.rec.GetFormer()) == 0 &&
		!slices.ContainsFunc(w.Directors, func(d Director) bool { return d.acked() < w.rec.GetNumber() })
	return d
}
