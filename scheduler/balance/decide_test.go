package balance

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestWeights(t *testing.T) {
	plain := []*padisv1.Backend{{Weight: 100}, {Weight: 300}, {Weight: 0}, {Weight: 1 << 20}}
	canary := []*padisv1.Backend{{Weight: 100}, {Percent: 5}, {Percent: 20}, {Weight: 300}}
	for _, c := range []struct {
		name     string
		backends []*padisv1.Backend
		serving  []int // the backend of each server
		want     string
	}{
		{"as declared", plain, []int{0, 1, 2, 3}, "100 300 0 65535"},
		{"nobody", plain, nil, ""},
		{"a percentage of a backend that has nobody is nobody's", canary, []int{0, 0, 3}, "100 100 300"},
		{"5 %, shared by two, beside 95 %", canary, []int{0, 1, 1}, "65535 1725 1725"},
		{"5 and 20 %, and 75 by weight", canary, []int{0, 3, 1, 2}, "21845 65535 5825 23301"},
		{"only percentages", canary, []int{1, 2, 2}, "32768 65535 65535"},
		{"all of it", []*padisv1.Backend{{Weight: 100}, {Percent: 100}}, []int{0, 1}, "0 65535"},
		{"so little that it is one part", []*padisv1.Backend{{Weight: 65535}, {Weight: 1}, {Percent: 1}}, []int{0, 1, 2}, "65535 1 662"},
	} {
		serving := map[string]int{}
		for i, b := range c.serving {
			serving[fmt.Sprintf("s%d", i)] = b
		}
		got := weigh(c.backends, serving)
		var words []string
		for _, id := range slices.Sorted(maps.Keys(got)) {
			words = append(words, fmt.Sprint(got[id]))
		}
		if strings.Join(words, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, words, c.want)
		}
	}
}

func sample() Snapshot {
	s := Snapshot{Network: "lan", Now: time.UnixMilli(1_700_000_000_000), VIPs: []string{"192.0.2.1"}, Wanted: &padisv1.WantedBalancer{
		Uid: "lb", Namespace: "shop", Name: "front", TableSize: 4093, Seed: 7, Scheduler: "maglev",
		Listeners: []*padisv1.Listener{{Name: "http", Protocol: "tcp", FirstPort: 80, LastPort: 80, SourceRanges: []string{"10.0.0.0/8", "2001:db8::/32"}}},
		Backends:  []*padisv1.Backend{{App: "web", Weight: 100}},
		Announcement: &padisv1.Announcement{Asn: 64512, Peers: []*padisv1.AnnouncementPeer{
			{Name: "tor1", Router: &padisv1.BgpPeer{Address: "10.0.0.1", Agents: []*padisv1.AgentSelector{{Attribute: "rack", Value: "1"}}}}, {Name: "tor2", Router: &padisv1.BgpPeer{Address: "10.0.0.2"}}}},
	}}
	for i := range 3 {
		s.Candidates = append(s.Candidates, Candidate{ID: fmt.Sprintf("web-%d.1", i), Instance: fmt.Sprintf("web-%d", i), Agent: "a1", Host: "host-a1", Phase: padisv1.Phase_RUNNING, Ready: true,
			Address: fmt.Sprintf("10.0.0.%d", 10+i), VIPs: []string{"192.0.2.1"}})
	}
	return s
}

// accept goes on with what was decided, and all have it.
func (s *Snapshot) accept(d Decision) {
	s.Record, s.Tables = d.Record, d.Tables
	s.Hosts = []Host{{Agent: "a1", Acked: d.Record.GetNumber()}}
	for i := range s.Directors {
		s.Directors[i].State = proto.CloneOf(s.Directors[i].State)
		s.Directors[i].State.Number = d.Record.GetNumber()
	}
}

func state(d Decision, instance string) string {
	for _, s := range d.Servers {
		if s.Instance == instance && s.InTable {
			return strings.TrimSpace(s.State.String() + " " + s.Why)
		} else if s.Instance == instance {
			return "waiting " + s.Why
		}
	}
	return "not listed"
}

// How each candidate stands, for each thing that may be with it, in the table and not.
func TestStates(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(s *Snapshot, c *Candidate)
		in, out string
	}{
		{"well", func(*Snapshot, *Candidate) {}, "serving", "serving"},
		{"not ready", func(_ *Snapshot, c *Candidate) { c.Ready, c.Reason = false, padisv1.ReasonHealthCheckFailed }, "suspect HealthCheckFailed", "waiting HealthCheckFailed"},
		{"told to stop", func(_ *Snapshot, c *Candidate) { c.Phase = padisv1.Phase_STOPPING }, "draining Draining", "waiting Draining"},
		{"agent away", func(_ *Snapshot, c *Candidate) {
			c.Phase, c.Reason = padisv1.Phase_UNREACHABLE, padisv1.ReasonAgentUnreachable
		}, "suspect AgentUnreachable", "waiting AgentUnreachable"},
		{"its executor is replaced", func(_ *Snapshot, c *Candidate) { c.Phase, c.Reason = padisv1.Phase_ADOPTING, padisv1.ReasonAdopting }, "serving", "waiting Adopting"},
		{"it ended", func(_ *Snapshot, c *Candidate) {
			c.ID, c.Phase, c.Reason = "", padisv1.Phase_BACKOFF, padisv1.ReasonBackOff
		}, "waiting BackOff", "waiting BackOff"},
		{"started anew", func(_ *Snapshot, c *Candidate) { c.ID = "web-0.2" }, "serving", "serving"},
		{"without an address", func(_ *Snapshot, c *Candidate) { c.Address = "" }, "waiting BackendUnreachable", "waiting BackendUnreachable"},
		{"without its VIP", func(_ *Snapshot, c *Candidate) { c.VIPs = nil }, "suspect Joining", "waiting Joining"},
		{"selected by nobody", func(_ *Snapshot, c *Candidate) { c.Backend = -1 }, "not listed", "not listed"},
		{"selected by nobody, and drained", func(s *Snapshot, c *Candidate) {
			s.Wanted = proto.CloneOf(s.Wanted)
			c.Backend, s.Wanted.DrainMs = -1, 1000
		}, "draining Draining", "not listed"},
		{"not reached by all directors", func(s *Snapshot, _ *Candidate) { s.Directors = failing(s, 1, 1) }, "suspect CheckFailed", "serving"},
		{"not reached by two of three", func(s *Snapshot, _ *Candidate) { s.Directors = failing(s, 2, 3) }, "suspect CheckFailed", "serving"},
		{"not reached by one of two", func(s *Snapshot, _ *Candidate) { s.Directors = failing(s, 1, 2) }, "serving", "serving"},
	} {
		for _, in := range []bool{true, false} {
			s := sample()
			first := s
			if !in {
				first.Candidates = first.Candidates[1:]
			}
			d := Decide(first)
			s.accept(d)
			s.Candidates = slices.Clone(s.Candidates)
			c.change(&s, &s.Candidates[0])
			got, want := state(Decide(s), "web-0"), c.out
			if in {
				want = c.in
			}
			if got != want {
				t.Errorf("%s, in the table %v: %s, want %s", c.name, in, got, want)
			}
		}
	}
}

func failing(s *Snapshot, n, of int) (out []Director) {
	for i := range of {
		st := &padisv1.DirectorState{Number: s.Record.GetNumber()}
		if i < n {
			st.Failures = []*padisv1.ServerFailure{{Server: "web-0.1", Message: "connection refused"}}
		}
		out = append(out, Director{Task: fmt.Sprint(i), Agent: "a2", State: st})
	}
	return out
}

// Hosts first, directors next, then the next number; a host that says nothing is given up, and a director, too.
func TestOrder(t *testing.T) {
	s := sample()
	s.Candidates[2].Agent = "a2"
	s.Directors = []Director{{Task: "d", Agent: "a9", State: &padisv1.DirectorState{}}}
	d := Decide(s)
	if d.Record.GetNumber() != 1 || !slices.Equal(d.Relays, []string{"a1", "a2"}) || d.Directors != nil || !slices.Equal(d.Loopback, []string{"192.0.2.1"}) {
		t.Fatalf("%+v", d)
	}
	s.Record, s.Tables = d.Record, d.Tables
	s.Hosts = []Host{{Agent: "a1", Acked: 1, Due: s.Now}, {Agent: "a2", Due: s.Now.Add(Patience)}}
	s.Candidates[0].Ready = false // It waits for the next number.
	if d = Decide(s); d.Record != s.Record || !slices.Equal(d.Relays, []string{"a2"}) || d.Directors != nil || !d.Next.Equal(s.Now.Add(Patience)) {
		t.Fatalf("%+v", d)
	}
	s.Now = s.Now.Add(Patience)
	if d = Decide(s); d.Record.GetNumber() != 2 || state(d, "web-2") != "suspect HostSilent" || d.Directors != nil {
		t.Fatalf("%s %+v", state(d, "web-2"), d)
	}
	s.Record, s.Tables = d.Record, d.Tables
	s.Hosts[0].Acked = 2
	if d = Decide(s); d.Record != s.Record || !slices.Equal(d.Relays, []string{"a2"}) || !slices.Equal(d.Directors, []string{"a9"}) {
		t.Fatalf("%+v", d)
	}
	s.Directors[0].State, s.Directors[0].Due = &padisv1.DirectorState{Number: 1}, s.Now.Add(Patience)
	s.Candidates[1].Ready = false
	if d = Decide(s); d.Record != s.Record || !d.Next.Equal(s.Now.Add(Patience)) {
		t.Fatalf("the next number did not wait for the director: %+v", d)
	}
	s.Now = s.Now.Add(Patience)
	if d = Decide(s); d.Record.GetNumber() != 3 {
		t.Fatalf("the director holds it up: %+v", d)
	}
}

// What cannot be decided is said, and everything stays as it was.
func TestProblems(t *testing.T) {
	s := sample()
	s.accept(Decide(s))
	other := s
	other.Wanted = proto.CloneOf(s.Wanted)
	other.Wanted.TableSize = 53
	other.Candidates = s.Candidates[:2]
	if d := Decide(other); d.Record != s.Record || !strings.Contains(d.Problem, "must stay 4093") {
		t.Errorf("%q", d.Problem)
	}
	big := sample()
	big.Wanted.TableSize = 655373
	big.Wanted.Listeners = append(big.Wanted.Listeners, &padisv1.Listener{Name: "dns", Protocol: "udp", FirstPort: 53, LastPort: 53})
	for i := range 200 {
		c := big.Candidates[0]
		c.ID, c.Instance, c.Address = fmt.Sprintf("more-%d", i), fmt.Sprintf("more-%d", i), fmt.Sprintf("10.1.0.%d", i)
		big.Candidates = append(big.Candidates, c)
	}
	if d := Decide(big); d.Record.GetNumber() != 0 || !strings.Contains(d.Problem, "LoadBalancer shop/front") || !strings.Contains(d.Problem, "tableSize smaller than 655373") {
		t.Errorf("%d: %q", d.Record.GetNumber(), d.Problem)
	}
}

// Each host gets the routers that are its own, and everybody the same table.
func TestMessages(t *testing.T) {
	s := sample()
	s.VIPs = []string{"192.0.2.1", "2001:db8::1"}
	d := Decide(s)
	relay := Relay(s.Wanted, d.Record)
	direct := Direct(s.Wanted, d.Record, []string{"task"}, func(sel []*padisv1.AgentSelector) bool { return len(sel) == 0 })
	byLoad := s
	byLoad.Wanted = proto.CloneOf(s.Wanted)
	byLoad.Wanted.Scheduler = "wlc"
	if r := Relay(byLoad.Wanted, Decide(byLoad).Record); len(relay.GetTcp()) == 0 || len(r.GetTcp())+len(r.GetServices()) > 0 || r.GetNumber() == 0 {
		t.Errorf("hosts are told %v", r)
	}
	if relay.GetDirector() != nil || len(direct.GetDirector().GetAnnouncement().GetPeers()) != 1 || direct.GetDirector().GetTasks()[0] != "task" || direct.GetDirector().GetMinServers() != 1 {
		t.Errorf("%v", direct.GetDirector())
	}
	for i, want := range []string{"10.0.0.0/8", "2001:db8::/32"} {
		if got := direct.GetServices()[i].GetSourceRanges(); !slices.Equal(got, []string{want}) {
			t.Errorf("source ranges %v", got)
		}
	}
	if len(s.Wanted.GetAnnouncement().GetPeers()) != 2 || d.Record.GetOrder().GetTasks() != nil {
		t.Error("the snapshot was changed")
	}
}

func TestTrace(t *testing.T) {
	s := sample()
	d := Decide(s)
	at := netip.MustParseAddrPort
	p, err := Trace(d.Record, d.Tables, at("10.9.9.9:1234"), at("192.0.2.1:80"), "tcp")
	g, _ := d.Tables.TCP.For(lb.Service{VIP: netip.MustParseAddr("192.0.2.1"), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}})
	slot := g.Service.Slot(lb.Tuple{Src: netip.MustParseAddr("10.9.9.9"), SrcPort: 1234, Dst: netip.MustParseAddr("192.0.2.1"), DstPort: 80, Protocol: lb.TCP})
	if err != nil || p.Refusal != "" || p.Slot != slot || p.Size != 4093 || len(p.Chain) != 1 || p.Chain[0] != g.Owner(slot).ID {
		t.Errorf("%+v, %v", p, err)
	}
	for _, c := range []struct{ client, vip, protocol, want string }{
		{"192.0.2.77:1", "192.0.2.1:80", "tcp", "sourceRanges"}, {"10.9.9.9:1", "192.0.2.1:81", "tcp", "nothing listens"},
		{"10.9.9.9:1", "192.0.2.1:80", "udp", "nothing listens"}, {"10.9.9.9:1", "[2001:db8::1]:80", "tcp", "one family"}, {"10.9.9.9:1", "192.0.2.1:80", "sctp", "tcp or udp"},
	} {
		p, err := Trace(d.Record, d.Tables, at(c.client), at(c.vip), c.protocol)
		if got := p.Refusal + fmt.Sprint(err); !strings.Contains(got, c.want) {
			t.Errorf("%v: %s", c, got)
		}
	}
	s.Candidates = nil
	d = Decide(s)
	if p, err := Trace(d.Record, d.Tables, at("10.9.9.9:1"), at("192.0.2.1:80"), "tcp"); err != nil || !strings.Contains(p.Refusal, "no real server") {
		t.Errorf("%+v, %v", p, err)
	}
}

// A change of one of 50 real servers with the default table, and a look when nothing has changed.
func BenchmarkDecide(b *testing.B) {
	s := sample()
	s.Candidates = s.Candidates[:1]
	for i := range 49 {
		c := s.Candidates[0]
		c.ID, c.Instance, c.Address = fmt.Sprintf("more-%d", i), fmt.Sprintf("more-%d", i), fmt.Sprintf("10.1.0.%d", i)
		s.Candidates = append(s.Candidates, c)
	}
	d := Decide(s)
	s.accept(d)
	b.Run("nothing", func(b *testing.B) {
		for b.Loop() {
			Decide(s)
		}
	})
	s.Candidates[7].Phase = padisv1.Phase_STOPPING
	b.Run("change", func(b *testing.B) {
		for b.Loop() {
			d = Decide(s)
		}
	})
	b.ReportMetric(float64(proto.Size(d.Record)), "record_bytes")
}
