package ipvs

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/network"
)

func forwarding(t testing.TB, s lb.Service, servers ...lb.Server) lb.Forwarding {
	t.Helper()
	s.TableSize = 251
	f := lb.Forwarding{Addresses: map[string]netip.Addr{}}
	for i := range servers {
		n := servers[i].ID[1] - '0'
		servers[i].MAC = lb.MAC{2, 0x42, 10, 3, 0, n}
		f.Addresses[servers[i].ID] = netip.AddrFrom4([4]byte{10, 3, 0, n})
		if s.VIP.Is6() {
			f.Addresses[servers[i].ID] = netip.AddrFrom16([16]byte{0: 0xfd, 15: n})
		}
	}
	var err error
	if f.Generation, err = lb.Next(nil, s, servers); err != nil {
		t.Fatal(err)
	}
	return f
}

func web(vip string, protocol uint8, first, last uint16) lb.Service {
	return lb.Service{VIP: netip.MustParseAddr(vip), Protocol: protocol, Ports: lb.Ports{First: first, Last: last}}
}

// script is what ipvsadm would have to be told.
func script(have, want []service) string {
	changes, deletions := diff(have, want)
	var b strings.Builder
	for _, o := range append(changes, deletions...) {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

func TestWantedAsCommands(t *testing.T) {
	s1, s2, s3 := lb.Server{ID: "s1", Weight: 3}, lb.Server{ID: "s2", Weight: 2, State: lb.Draining}, lb.Server{ID: "s3", Weight: 1, State: lb.Suspect}
	bySource := web("fd99::1", lb.TCP, 443, 443)
	bySource.Scheduler = lb.SourceHash
	counted := forwarding(t, web("10.99.0.2", lb.UDP, 53, 53), s1)
	counted.MaxConnections = 100
	turns := forwarding(t, web("10.99.0.2", lb.TCP, 53, 53), s1, s2)
	turns.Method = "wlc"
	for _, c := range []struct {
		name string
		f    lb.Forwarding
		want string
	}{
		{"a range of ports", forwarding(t, web("10.99.0.1", lb.TCP, 80, 81), s1, s2, s3), `ipvsadm -A -t 10.99.0.1:80 -s mh -b mh-port
ipvsadm -a -t 10.99.0.1:80 -r 10.3.0.2:80 -g -w 0 -x 0
ipvsadm -a -t 10.99.0.1:80 -r 10.3.0.3:80 -g -w 0 -x 0
ipvsadm -a -t 10.99.0.1:80 -r 10.3.0.1:80 -g -w 3 -x 0
ipvsadm -A -t 10.99.0.1:81 -s mh -b mh-port
ipvsadm -a -t 10.99.0.1:81 -r 10.3.0.2:81 -g -w 0 -x 0
ipvsadm -a -t 10.99.0.1:81 -r 10.3.0.3:81 -g -w 0 -x 0
ipvsadm -a -t 10.99.0.1:81 -r 10.3.0.1:81 -g -w 3 -x 0
`},
		{"sh", forwarding(t, bySource, s1), "ipvsadm -A -t [fd99::1]:443 -s mh\nipvsadm -a -t [fd99::1]:443 -r [fd00::1]:443 -g -w 3 -x 0\n"},
		{"datagrams", forwarding(t, web("10.99.0.1", lb.UDP, 53, 53), s1), "ipvsadm -A -u 10.99.0.1:53 -s mh -b mh-port --ops\nipvsadm -a -u 10.99.0.1:53 -r 10.3.0.1:53 -g -w 3 -x 0\n"},
		{"datagrams that are counted", counted, "ipvsadm -A -u 10.99.0.2:53 -s mh -b mh-port\nipvsadm -a -u 10.99.0.2:53 -r 10.3.0.1:53 -g -w 3 -x 100\n"},
		{"another method", turns, "ipvsadm -A -t 10.99.0.2:53 -s wlc\nipvsadm -a -t 10.99.0.2:53 -r 10.3.0.2:53 -g -w 0 -x 0\nipvsadm -a -t 10.99.0.2:53 -r 10.3.0.1:53 -g -w 3 -x 0\n"},
		{"all leave or are suspect", forwarding(t, web("10.99.0.1", lb.TCP, 80, 80), s2, s3), "ipvsadm -A -t 10.99.0.1:80 -s mh -b mh-port\nipvsadm -a -t 10.99.0.1:80 -r 10.3.0.3:80 -g -w 0 -x 0\nipvsadm -a -t 10.99.0.1:80 -r 10.3.0.2:80 -g -w 2 -x 0\n"},
		{"all are suspect", forwarding(t, web("10.99.0.1", lb.TCP, 80, 80), s3), "ipvsadm -A -t 10.99.0.1:80 -s mh -b mh-port\nipvsadm -a -t 10.99.0.1:80 -r 10.3.0.3:80 -g -w 1 -x 0\n"},
	} {
		want, _, err := wanted([]lb.Forwarding{c.f}, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := script(nil, want); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	want, _, err := wanted(nil, map[uint32]netip.Addr{7: netip.MustParseAddr("10.3.0.1"), 8: netip.MustParseAddr("fd00::1")})
	if got := script(nil, want); err != nil || got != "ipvsadm -A -f 7 -s rr\nipvsadm -a -f 7 -r 10.3.0.1:0 -g -w 1 -x 0\nipvsadm -A -f 8 -6 -s rr\nipvsadm -a -f 8 -6 -r [fd00::1]:0 -g -w 1 -x 0\n" {
		t.Errorf("marks: %v\n%s", err, got)
	}
}

// A change is only what differs, and one that comes between others has those behind it added again at once.
func TestChangesAsCommands(t *testing.T) {
	of := func(ids ...string) []service {
		var servers []lb.Server
		for _, id := range ids {
			s := lb.Server{ID: id[:2], Weight: 1}
			if strings.HasSuffix(id, "-") {
				s.State = lb.Draining
			}
			servers = append(servers, s)
		}
		want, _, err := wanted([]lb.Forwarding{forwarding(t, web("10.99.0.1", lb.TCP, 80, 80), servers...)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return want
	}
	const service = " -t 10.99.0.1:80 -r 10.3.0."
	for _, c := range []struct {
		name       string
		have, want []string
		script     string
	}{
		{"nothing", []string{"s1", "s3"}, []string{"s1", "s3"}, ""},
		{"behind all", []string{"s1", "s3"}, []string{"s1", "s3", "s4"}, "ipvsadm -a" + service + "4:80 -g -w 1 -x 0\n"},
		{"between", []string{"s1", "s3"}, []string{"s1", "s2", "s3"}, "ipvsadm -a" + service + "2:80 -g -w 1 -x 0\nipvsadm -d" + service + "3:80\nipvsadm -a" + service + "3:80 -g -w 1 -x 0\n"},
		{"one goes", []string{"s1", "s2", "s3"}, []string{"s1", "s3"}, "ipvsadm -d" + service + "2:80\n"},
		{"one drains", []string{"s1", "s2"}, []string{"s1-", "s2"}, "ipvsadm -d" + service + "1:80\nipvsadm -a" + service + "1:80 -g -w 0 -x 0\n"},
		{"one is back", []string{"s1-", "s2"}, []string{"s1", "s2"}, "ipvsadm -d" + service + "1:80\nipvsadm -a" + service + "1:80 -g -w 1 -x 0\nipvsadm -d" + service + "2:80\nipvsadm -a" + service + "2:80 -g -w 1 -x 0\n"},
	} {
		if got := script(of(c.have...), of(c.want...)); got != c.script {
			t.Errorf("%s:\n%swant\n%s", c.name, got, c.script)
		}
	}
	if got := script(of("s1"), nil); got != "ipvsadm -D -t 10.99.0.1:80\n" {
		t.Errorf("the service goes:\n%s", got)
	}
}

// Of a real server the address of one family is enough: IPv6 goes by the hardware address then, and so do checks.
func TestAddressesOfTheOtherFamily(t *testing.T) {
	six := forwarding(t, web("fd99::1", lb.TCP, 80, 80), lb.Server{ID: "s1", Weight: 1})
	six.Addresses["s1"] = netip.MustParseAddr("10.3.0.1")
	want, peers, err := wanted([]lb.Forwarding{six}, map[uint32]netip.Addr{7: six.Addresses["s1"]})
	if err != nil {
		t.Fatal(err)
	}
	const in = "fd50:4144:4953::242:a03:1"
	if got := script(nil, want); got != "ipvsadm -A -f 7 -s rr\nipvsadm -a -f 7 -r 10.3.0.1:0 -g -w 1 -x 0\n"+
		"ipvsadm -A -f 7 -6 -s rr\nipvsadm -a -f 7 -6 -r ["+in+"]:0 -g -w 1 -x 0\n"+
		"ipvsadm -A -t [fd99::1]:80 -s mh -b mh-port\nipvsadm -a -t [fd99::1]:80 -r ["+in+"]:80 -g -w 1 -x 0\n" {
		t.Errorf("%s", got)
	}
	if len(peers) != 1 || peers[netip.MustParseAddr(in)] != (network.MAC{2, 0x42, 10, 3, 0, 1}) {
		t.Errorf("peers %v", peers)
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	s1, s2 := lb.Server{ID: "s1", Weight: 1}, lb.Server{ID: "s2", Weight: 1}
	one := func(change func(*lb.Forwarding)) []lb.Forwarding {
		f := forwarding(t, web("10.99.0.1", lb.TCP, 80, 80), s1, s2)
		change(&f)
		return []lb.Forwarding{f}
	}
	for _, c := range []struct {
		want string
		f    []lb.Forwarding
	}{
		{`method "random": give rr, wrr, wlc or none`, one(func(f *lb.Forwarding) { f.Method = "random" })},
		{"without a generation", one(func(f *lb.Forwarding) { f.Generation = nil })},
		{`address "invalid IP" of real server s2`, one(func(f *lb.Forwarding) { delete(f.Addresses, "s2") })},
		{`address "fd00::1" of real server s2`, one(func(f *lb.Forwarding) { f.Addresses["s2"] = netip.MustParseAddr("fd00::1") })},
		{"address 10.3.0.1 is that of real servers s1 and s2", one(func(f *lb.Forwarding) { f.Addresses["s2"] = f.Addresses["s1"] })},
		{"ports 1000-1064 are 65, of which IPVS needs a service each: give at most 64, or choose the dataplane tcx", []lb.Forwarding{forwarding(t, web("10.99.0.1", lb.TCP, 1000, 1064), s1)}},
		{"overlap in ports", []lb.Forwarding{forwarding(t, web("10.99.0.1", lb.TCP, 80, 90), s1), forwarding(t, web("10.99.0.1", lb.TCP, 85, 85), s1)}},
	} {
		if _, _, err := wanted(c.f, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	for mark, a := range map[uint32]netip.Addr{0: netip.MustParseAddr("10.3.0.1"), 1: {}} {
		if _, _, err := wanted(nil, map[uint32]netip.Addr{mark: a}); err == nil {
			t.Errorf("mark %d to %q is taken", mark, a)
		}
	}
	if _, _, err := wanted([]lb.Forwarding{forwarding(t, web("10.99.0.1", lb.TCP, 1000, 1063), s1)}, nil); err != nil {
		t.Errorf("64 ports: %v", err)
	}
}
