package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"padis.io/padis/executor/lb"
)

// table is IPVS as linux/net/netfilter/ipvs/ip_vs_ctl.c has it, as far as mh looks at it.
type table map[key]*listed

type listed struct {
	service
	// last is the last weight of a real server that was not 0, or that with which it was added: by this mh gives slots.
	last map[netip.AddrPort]uint32
}

func (t table) apply(ops []op) error {
	for _, o := range ops {
		s := t[o.service.key]
		if (s == nil) != (o.verb == addService) {
			return fmt.Errorf("%s: there is %v", o, s)
		}
		i := -1
		if s != nil {
			i = slices.IndexFunc(s.dests, o.dest.is)
			if o.verb >= addDest && (i < 0) != (o.verb == addDest) {
				return fmt.Errorf("%s: there are %v", o, s.dests)
			}
		}
		switch o.verb {
		case addService:
			t[o.service.key] = &listed{o.service, map[netip.AddrPort]uint32{}}
		case editService:
			s.scheduler, s.flags = o.service.scheduler, o.service.flags
		case deleteService:
			delete(t, o.service.key)
		case addDest:
			s.dests = slices.Insert(s.dests, 0, o.dest)
			s.last[o.dest.at] = o.dest.weight
		case editDest:
			s.dests[i] = o.dest
			if o.dest.weight != 0 {
				s.last[o.dest.at] = o.dest.weight
			}
		case deleteDest:
			s.dests = slices.Delete(s.dests, i, i+1)
			delete(s.last, o.dest.at)
		}
	}
	return nil
}

func (t table) read() []service {
	var out []service
	for _, s := range t {
		one := s.service
		one.dests = slices.Clone(s.dests)
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b service) int { return a.key.compare(b.key) })
	return out
}

// places is what the tables of mh follow from: who has slots, in the order of the list, by which weight.
func (t table) places() string {
	var out []string
	for _, s := range t.read() {
		line := s.service()
		for _, d := range s.dests {
			if w := t[s.key].last[d.at]; w > 0 || s.scheduler != "mh" {
				line += fmt.Sprintf(" %s=%d", d.at, w)
			}
		}
		out = append(out, line)
	}
	return fmt.Sprint(out)
}

func (s service) service() string {
	s.dests = nil
	return s.String()
}

// Whatever was before, the tables are in the end those of a director that begins today; there is nothing left to do; and no
// deletion of a real server that stays is left without its addition at once.
func TestTablesDoNotDependOnHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := table{}
		var last []service
		for step := range rapid.IntRange(1, 8).Draw(t, "steps") {
			var forwardings []lb.Forwarding
			for _, vip := range []string{"10.99.0.1", "fd99::1"} {
				if rapid.IntRange(0, 5).Draw(t, "without") == 0 {
					continue
				}
				var servers []lb.Server
				f := lb.Forwarding{Addresses: map[string]netip.Addr{}, Method: rapid.SampledFrom([]string{"", "", "", "", "wlc"}).Draw(t, "method"),
					MaxConnections: rapid.SampledFrom([]uint32{0, 0, 7}).Draw(t, "most")}
				for n := range byte(7) {
					if rapid.Bool().Draw(t, "there") {
						id := fmt.Sprint("s", n)
						servers = append(servers, lb.Server{ID: id, MAC: lb.MAC{2, 5: n}, Weight: rapid.Uint32Range(0, 3).Draw(t, "weight"), State: lb.State(rapid.IntRange(0, 2).Draw(t, "state"))})
						// The order of addresses is not that of names.
						f.Addresses[id] = netip.AddrFrom4([4]byte{10, 3, 0, n * 5 % 7})
						if vip[0] == 'f' {
							f.Addresses[id] = netip.AddrFrom16([16]byte{0: 0xfd, 15: n * 5 % 7})
						}
					}
				}
				s := lb.Service{VIP: netip.MustParseAddr(vip), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80 + uint16(rapid.IntRange(0, 1).Draw(t, "ports"))}, TableSize: 13}
				var err error
				if f.Generation, err = lb.Next(nil, s, servers); err != nil {
					t.Fatal(err)
				}
				forwardings = append(forwardings, f)
			}
			want, _, err := wanted(forwardings, nil)
			if err != nil {
				t.Fatal(err)
			}
			changes, deletions := diff(have.read(), want)
			checkGaps(t, changes, want)
			if err := have.apply(append(changes, deletions...)); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			if a, d := diff(have.read(), want); len(a)+len(d) > 0 {
				t.Fatalf("step %d: still to do %v %v", step, a, d)
			}
			last = want
		}
		fresh := table{}
		changes, _ := diff(nil, last)
		if err := fresh.apply(changes); err != nil {
			t.Fatal(err)
		}
		for k, s := range have { // other methods have no tables
			if s.scheduler != "mh" {
				delete(have, k)
				delete(fresh, k)
			}
		}
		if have.places() != fresh.places() {
			t.Fatalf("tables of a director with history:\n%s\nof a new one:\n%s", have.places(), fresh.places())
		}
	})
}

func checkGaps(t *rapid.T, ops []op, want []service) {
	for i, o := range ops {
		if o.verb != deleteDest {
			continue
		}
		stays := slices.ContainsFunc(want, func(s service) bool { return s.key == o.service.key && slices.ContainsFunc(s.dests, o.dest.is) })
		if stays && (i+1 == len(ops) || ops[i+1].verb != addDest || !ops[i+1].dest.is(o.dest)) {
			t.Fatalf("%s is not followed by its addition", o)
		}
	}
}
