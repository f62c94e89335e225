package balance

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// farm is a LoadBalancer as it really is, with a scheduler that hears of it and forgets all but its record.
type farm struct {
	t         *rapid.T
	now       time.Time
	wanted    *padisv1.WantedBalancer
	vips      []string
	instances []*inst
	hosts     map[string]*host
	directors map[string]*director
	started   int
	rec       *padisv1.BalanceRecord
	tables    Tables
	last      Decision
	// said are the records by number, as directors have them.
	said map[int64]*padisv1.BalanceRecord
	read map[int64]Tables
}

type inst struct {
	name, id, agent string
	attempt         int
	phase           padisv1.Phase
	ready           bool
	backend         int
	loopback        []string // as it is
	told            []string // by the scheduler
	known           []string // what the scheduler is sure of
	due             time.Time
}

type host struct {
	number, pending int64
	silent          bool
	since           time.Time
}

type director struct {
	agent           string
	number, pending int64
	silent          bool
	since           time.Time
	failures        map[string]bool
}

func newFarm(t *rapid.T) *farm {
	f := &farm{t: t, now: time.UnixMilli(1_700_000_000_000), hosts: map[string]*host{}, directors: map[string]*director{}, said: map[int64]*padisv1.BalanceRecord{}, read: map[int64]Tables{}}
	f.wanted = &padisv1.WantedBalancer{
		Uid: "lb", Namespace: "shop", Name: "front", TableSize: 53, Seed: 7, DrainMs: 5000, Scheduler: "maglev",
		Listeners: []*padisv1.Listener{{Name: "http", Protocol: "tcp", FirstPort: 80, LastPort: 80}},
		Backends:  []*padisv1.Backend{{App: "web", Weight: 100}, {App: "canary", Percent: 10}},
	}
	for i := range 8 {
		f.instances = append(f.instances, &inst{name: fmt.Sprintf("web-%d", i), agent: fmt.Sprintf("h%d", i%5), backend: i / 6})
	}
	for i := range 5 {
		f.hosts[fmt.Sprintf("h%d", i)] = &host{}
	}
	f.vips = []string{"192.0.2.1"}
	return f
}

func (f *farm) snapshot() Snapshot {
	s := Snapshot{Network: "lan", Now: f.now, Wanted: f.wanted, VIPs: slices.Clone(f.vips), Record: f.rec, Tables: f.tables}
	for i, x := range f.instances {
		c := Candidate{ID: x.id, Namespace: "shop", Instance: x.name, Agent: x.agent, Host: "host-" + x.agent, Backend: max(-1, x.backend), Phase: x.phase, Ready: x.ready,
			Reason: "R", Message: "m", VIPs: x.known, VIPsDue: x.due}
		if x.id != "" {
			c.Address = fmt.Sprintf("10.0.0.%d", 10+i)
		}
		s.Candidates = append(s.Candidates, c)
	}
	for _, id := range slices.Sorted(maps.Keys(f.hosts)) {
		h := f.hosts[id]
		x := Host{Agent: id, Acked: h.number}
		if !h.since.IsZero() {
			x.Due = h.since.Add(Patience)
		}
		s.Hosts = append(s.Hosts, x)
	}
	for _, id := range slices.Sorted(maps.Keys(f.directors)) {
		d := f.directors[id]
		x := Director{Task: id, Agent: d.agent, Phase: padisv1.Phase_RUNNING, State: &padisv1.DirectorState{TaskId: id, Number: d.number}}
		for _, server := range slices.Sorted(maps.Keys(d.failures)) {
			x.State.Failures = append(x.State.Failures, &padisv1.ServerFailure{Server: server, Message: "refused"})
		}
		if !d.since.IsZero() {
			x.Due = d.since.Add(Patience)
		}
		s.Directors = append(s.Directors, x)
	}
	return s
}

// step decides, keeps the record and sends what shall be sent.
func (f *farm) step() {
	s := f.snapshot()
	d := Decide(s)
	f.check(s, d)
	f.last = d
	if d.Problem != "" {
		f.t.Fatalf("problem: %s", d.Problem)
	}
	if f.rec.GetNumber() != d.Record.GetNumber() {
		if f.rec != nil && d.Record.GetNumber() != f.rec.GetNumber()+1 {
			f.t.Fatalf("number %d after %d", d.Record.GetNumber(), f.rec.GetNumber())
		}
		f.read[d.Record.GetNumber()] = d.Tables
	}
	f.said[d.Record.GetNumber()] = d.Record
	f.rec, f.tables = d.Record, d.Tables
	n := d.Record.GetNumber()
	for _, id := range d.Relays {
		h := f.hosts[id]
		if h.pending = n; h.since.IsZero() {
			h.since = f.now
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.directors)) {
		if x := f.directors[id]; slices.Contains(d.Directors, x.agent) && x.number < n {
			if x.pending = n; x.since.IsZero() {
				x.since = f.now
			}
		}
	}
	for _, x := range f.instances {
		want := f.loopback(x)
		if !slices.Equal(want, x.told) {
			x.told, x.due = want, f.now.Add(10*time.Second)
			// Until it says that it has them, only what is in both is certain.
			x.known = slices.DeleteFunc(slices.Clone(x.known), func(v string) bool { return !slices.Contains(want, v) })
		}
	}
}

// loopback is what the scheduler wants on an instance's loopback.
func (f *farm) loopback(x *inst) []string {
	named := func(s *padisv1.RealServer) bool { return s.GetId() == x.id }
	switch {
	case x.id == "":
		return nil
	case x.backend >= 0:
		return f.last.Loopback
	case slices.ContainsFunc(f.rec.GetServers(), named) || slices.ContainsFunc(f.rec.GetFormer(), named):
		return f.rec.GetVips()
	}
	return nil
}

func same(a, b Decision) bool {
	return proto.Equal(a.Record, b.Record) && slices.Equal(a.Relays, b.Relays) && slices.Equal(a.Directors, b.Directors) && slices.Equal(a.Loopback, b.Loopback) &&
		fmt.Sprint(a.Servers) == fmt.Sprint(b.Servers) && a.Over == b.Over && a.Next.Equal(b.Next) && a.Problem == b.Problem
}

// check is what holds for every decision.
func (f *farm) check(s Snapshot, d Decision) {
	if again := Decide(s); !same(d, again) {
		f.t.Fatalf("another decision from the same snapshot")
	}
	if s.Record != nil {
		r := s
		r.Record = proto.CloneOf(s.Record)
		var err error
		if r.Tables, err = Read(r.Record); err != nil {
			f.t.Fatal(err)
		}
		slices.Reverse(r.Candidates)
		if again := Decide(r); !same(d, again) {
			f.t.Fatalf("another decision from the record: %v instead of %v", again, d)
		}
	}
	r := s
	r.Record, r.Tables = d.Record, d.Tables
	if again := Decide(r); again.Record != d.Record {
		f.t.Fatalf("decided %d, then at once %d", d.Record.GetNumber(), again.Record.GetNumber())
	}
	if !slices.IsSorted(d.Record.GetVips()) || len(without(vipsOf(d.Record.GetServices()), d.Record.GetVips())) > 0 {
		f.t.Fatalf("vips %v of services %v", d.Record.GetVips(), d.Record.GetServices())
	}
	if !d.Next.IsZero() && !d.Next.After(s.Now) {
		f.t.Fatal("it is due again at once")
	}
}

func (f *farm) instance(id string) *inst {
	for _, x := range f.instances {
		if x.id == id && id != "" {
			return x
		}
	}
	return nil
}

// invariant looks at what really is: what directors have in force against hosts and loopbacks.
func (f *farm) invariant() {
	for name, d := range f.directors {
		rec := f.said[d.number]
		if d.number == 0 {
			continue
		}
		vips := vipsOf(rec.GetServices())
		for _, s := range f.read[d.number].servers() {
			x := f.instance(s.ID)
			if x == nil || s.State == lb.Suspect {
				continue
			}
			if h := f.hosts[x.agent]; h.number < d.number {
				f.t.Fatalf("director %s has %d, host %s of %s server %s only %d", name, d.number, x.agent, s.State, s.ID, h.number)
			}
			if s.State == lb.Serving && len(without(vips, x.loopback)) > 0 {
				f.t.Fatalf("director %s has %d with server %s, whose loopback has %v and not all of %v", name, d.number, s.ID, x.loopback, vips)
			}
		}
	}
}

func (f *farm) act() {
	x := f.instances[rapid.IntRange(0, len(f.instances)-1).Draw(f.t, "instance")]
	h := f.hosts[fmt.Sprintf("h%d", rapid.IntRange(0, 4).Draw(f.t, "host"))]
	ids := slices.Sorted(maps.Keys(f.directors))
	var d *director
	if len(ids) > 0 {
		d = f.directors[rapid.SampledFrom(ids).Draw(f.t, "director")]
	}
	switch rapid.SampledFrom([]string{"start", "ready", "ready", "unready", "stop", "end", "lose", "find", "adopt", "select", "loopback", "loopback", "relay", "relay", "relay", "silent",
		"direct", "direct", "join", "leave", "mute", "fail", "vip", "listener", "time", "time", "restart"}).Draw(f.t, "act") {
	case "start":
		if x.id == "" {
			x.attempt++
			x.id, x.phase = fmt.Sprintf("%s.%d", x.name, x.attempt), padisv1.Phase_RUNNING
			x.told, x.loopback, x.known, x.due = f.loopback(x), f.loopback(x), f.loopback(x), time.Time{}
		}
	case "ready", "unready":
		x.ready = x.phase == padisv1.Phase_RUNNING && !x.ready
	case "stop":
		if x.id != "" {
			x.phase = padisv1.Phase_STOPPING
		}
	case "end":
		x.id, x.phase, x.ready, x.loopback, x.told, x.known, x.due = "", padisv1.Phase_PENDING, false, nil, nil, nil, time.Time{}
	case "lose":
		if x.phase == padisv1.Phase_RUNNING {
			x.phase = padisv1.Phase_UNREACHABLE
		}
	case "adopt":
		if x.phase == padisv1.Phase_RUNNING {
			x.phase = padisv1.Phase_ADOPTING
		}
	case "find":
		if x.phase == padisv1.Phase_UNREACHABLE || x.phase == padisv1.Phase_ADOPTING {
			x.phase = padisv1.Phase_RUNNING
		}
	case "select":
		x.backend = -1 - x.backend
	case "loopback":
		if x.id != "" && x.phase == padisv1.Phase_RUNNING {
			x.loopback, x.known, x.due = x.told, x.told, time.Time{}
		}
	case "relay":
		h.take()
	case "silent":
		h.silent = !h.silent
	case "direct":
		if d != nil {
			d.take()
		}
	case "join":
		if len(ids) < 3 {
			f.started++
			f.directors[fmt.Sprintf("d%d", f.started)] = &director{agent: fmt.Sprintf("h%d", f.started%5), failures: map[string]bool{}}
		}
	case "leave":
		if d != nil {
			maps.DeleteFunc(f.directors, func(_ string, o *director) bool { return o == d })
		}
	case "mute":
		if d != nil {
			d.silent = !d.silent
		}
	case "fail":
		if d != nil && x.id != "" {
			d.failures[x.id] = !d.failures[x.id]
			maps.DeleteFunc(d.failures, func(_ string, is bool) bool { return !is })
		}
	case "vip":
		f.vips = rapid.SampledFrom([][]string{{"192.0.2.1"}, {"192.0.2.1", "2001:db8::1"}, {"192.0.2.2", "192.0.2.1"}, {"192.0.2.3"}, {""}}).Draw(f.t, "vips")
	case "listener":
		f.wanted = proto.CloneOf(f.wanted)
		f.wanted.Listeners = []*padisv1.Listener{{Name: "http", Protocol: "tcp", FirstPort: int32(rapid.IntRange(80, 82).Draw(f.t, "port")), SourceRanges: []string{"10.0.0.0/8"}}}
		if rapid.Bool().Draw(f.t, "udp") {
			f.wanted.Listeners = append(f.wanted.Listeners, &padisv1.Listener{Name: "dns", Protocol: "udp", FirstPort: 53, LastPort: 54})
		}
	case "time":
		f.now = f.now.Add(time.Duration(rapid.SampledFrom([]int{1, 100, 2000, 11000}).Draw(f.t, "ms")) * time.Millisecond)
	case "restart":
		for _, h := range f.hosts {
			h.since = time.Time{}
		}
		for _, d := range f.directors {
			d.since = time.Time{}
		}
		if f.rec != nil {
			f.rec = proto.CloneOf(f.rec)
			tables, err := Read(f.rec)
			if err != nil {
				f.t.Fatal(err)
			}
			f.tables = tables
		}
	}
}

func (h *host) take() {
	if !h.silent && h.pending > h.number {
		h.number, h.since = h.pending, time.Time{}
	}
}

func (d *director) take() {
	if !d.silent && d.pending > d.number {
		d.number, d.since = d.pending, time.Time{}
	}
}

// The order of the house over random histories; and if all answer, the newest is everywhere and says what is true.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFarm(t)
		f.step()
		for range rapid.IntRange(1, 120).Draw(t, "acts") {
			f.act()
			f.step()
			f.invariant()
		}
		f.calm()
		f.wanted = proto.CloneOf(f.wanted)
		f.wanted.Forgotten = true
		for range 40 {
			f.answer()
			f.step()
			f.invariant()
		}
		if !f.last.Over || len(f.last.Loopback) > 0 {
			t.Fatalf("forgotten, and there is still %v", f.rec)
		}
	})
}

// answer lets all do what they were told.
func (f *farm) answer() {
	for _, h := range f.hosts {
		h.silent = false
		h.take()
	}
	for _, d := range f.directors {
		d.silent = false
		d.take()
	}
	for _, x := range f.instances {
		if x.id != "" {
			x.loopback, x.known, x.due = x.told, x.told, time.Time{}
		}
	}
}

func (f *farm) calm() {
	for range 60 {
		f.answer()
		for _, x := range f.instances {
			if x.phase == padisv1.Phase_UNREACHABLE || x.phase == padisv1.Phase_ADOPTING {
				x.phase = padisv1.Phase_RUNNING
			}
		}
		for _, d := range f.directors {
			clear(d.failures)
		}
		f.now = f.now.Add(100 * time.Millisecond)
		f.step()
		f.invariant()
	}
	f.now = f.now.Add(time.Minute) // All drains are over.
	for range 20 {
		f.step()
		f.answer()
	}
	n := f.rec.GetNumber()
	for id, d := range f.directors {
		if d.number != n {
			f.t.Fatalf("director %s has %d, the newest is %d", id, d.number, n)
		}
	}
	for _, s := range f.rec.GetServers() {
		if f.hosts[s.GetAgentId()].number != n {
			f.t.Fatalf("host %s has %d, the newest is %d", s.GetAgentId(), f.hosts[s.GetAgentId()].number, n)
		}
	}
	if len(f.rec.GetFormer()) > 0 || !slices.Equal(f.rec.GetVips(), vipsOf(f.rec.GetServices())) {
		f.t.Fatalf("kept for nothing: %v, %v", f.rec.GetFormer(), f.rec.GetVips())
	}
	if got, want := vipsOf(f.rec.GetServices()), slices.Sorted(slices.Values(f.vips)); len(f.vips[0]) > 0 && !slices.Equal(got, want) {
		f.t.Fatalf("serves %v instead of %v", got, want)
	}
	if f.vips[0] == "" {
		return
	}
	for _, x := range f.instances {
		s, in := f.tables.server(x.id)
		should := x.phase == padisv1.Phase_RUNNING && x.ready && x.backend >= 0
		if (in && s.State == lb.Serving) != should {
			f.t.Fatalf("%s is %v, in the table %v as %s", x.name, x, in, s.State)
		}
		if in && x.backend < 0 {
			f.t.Fatalf("%s is in the table, and nobody selects it", x.name)
		}
	}
	for _, s := range f.tables.servers() {
		if f.instance(s.ID) == nil {
			f.t.Fatalf("%s is dead and in the table", s.ID)
		}
	}
}
