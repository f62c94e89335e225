package ovs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"padis.io/padis/executor/network"
)

// ownerMask are the bits of a cookie that tell the owner; the others tell the link.
const ownerMask = 0xffffff << 40

// cookie of the flows of a port.
func cookie(tag, link string) uint64 {
	o, l := sha256.Sum256([]byte(tag)), sha256.Sum256([]byte(link))
	return binary.BigEndian.Uint64(o[:])&ownerMask | binary.BigEndian.Uint64(l[:])&^ownerMask
}

// allow are the flows of a port: what is its own goes on as if there were no flows, the rest is dropped. Fragments of a
// message of neighbour discovery are for the receiver to refuse (RFC 6980).
func allow(cookie uint64, port int, p network.GuardedPort) []string {
	var out []string
	flow := func(priority int, action string, match ...string) {
		m := strings.Join(append([]string{fmt.Sprintf("cookie=%#x,table=0,priority=%d,in_port=%d", cookie, priority, port)}, match...), ",")
		out = append(out, m+",actions="+action)
	}
	own := fmt.Sprintf("dl_src=%s,vlan_tci=0x0000", p.MAC)
	pass := func(priority int, match ...string) { flow(priority, "NORMAL", append([]string{own}, match...)...) }

	flow(40300, "drop", "dl_dst=01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0")
	flow(40300, "drop", "udp,tp_src=67")
	flow(40300, "drop", "udp6,tp_src=547")
	flow(40300, "drop", "icmp6,icmp_type=134")
	flow(40300, "drop", "icmp6,icmp_type=137")

	claimed := append([]netip.Addr{linkLocal(p.MAC)}, p.Addresses...)
	for _, a := range claimed {
		if a.Is4() {
			pass(40100, "ip", "nw_src="+a.String())
			pass(40100, "arp", "arp_spa="+a.String(), "arp_sha="+p.MAC.String())
			// The probe of RFC 5227 has no sender's address.
			pass(40100, "arp", "arp_op=1", "arp_spa=0.0.0.0", "arp_sha="+p.MAC.String(), "arp_tpa="+a.String())
			continue
		}
		pass(40100, "ipv6", "ipv6_src="+a.String())
		pass(40200, "icmp6", "icmp_type=135", "icmp_code=0", "ipv6_src="+a.String())
		pass(40200, "icmp6", "icmp_type=135", "icmp_code=0", "ipv6_src=::", "nd_target="+a.String())
		for _, target := range claimed {
			if target.Is6() {
				pass(40200, "icmp6", "icmp_type=136", "icmp_code=0", "ipv6_src="+a.String(), "nd_target="+target.String())
			}
		}
	}
	for _, a := range p.Loopback {
		if a.Is4() {
			pass(40100, "ip", "nw_src="+a.String())
		} else {
			pass(40100, "ipv6", "ipv6_src="+a.String())
		}
	}
	// Reports of who listens come before there is an address (RFC 3590).
	for _, kind := range []int{131, 132, 143} {
		pass(40100, "icmp6", fmt.Sprintf("icmp_type=%d", kind), "ipv6_src=::")
	}
	flow(40150, "drop", "icmp6,icmp_type=135")
	flow(40150, "drop", "icmp6,icmp_type=136")
	flow(40000, "drop")
	return out
}

// linkLocal is the address that an interface gives itself of its hardware address (RFC 4291, appendix A).
func linkLocal(m network.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

func (s *Switches) guard(p network.GuardedPort) error {
	if err := check(p.Link); err != nil {
		return err
	}
	for _, a := range slices.Concat(p.Addresses, p.Loopback) {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("link %s: %s cannot be the address of an instance", p.Link, a)
		}
	}
	d, err := s.read()
	if err != nil {
		return err
	}
	b, port, ok := d.port(p.Link)
	if !ok || port.number < 1 {
		return fmt.Errorf("link %s is no working port of an Open vSwitch; add it first, and see its error (ovs-vsctl list Interface %s)", p.Link, p.Link)
	}
	c := cookie(s.tag, p.Link)
	// One bundle: the old flows go when the new ones are there.
	lines := []string{fmt.Sprintf("delete cookie=%#x/-1", c)}
	for _, f := range allow(c, port.number, p) {
		lines = append(lines, "add "+f)
	}
	_, err = s.ofctl(strings.Join(lines, "\n")+"\n", "add-flows", b.name, "-", "--bundle")
	return err
}

func (s *Switches) unguard(link string) error {
	if err := check(link); err != nil {
		return err
	}
	d, err := s.read()
	if err != nil {
		return err
	}
	c := cookie(s.tag, link)
	if b, _, ok := d.port(link); ok {
		return s.forget(b.name, c)
	}
	for _, b := range d.bridges {
		if err := s.forget(b.name, c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Switches) forget(bridge string, c uint64) error {
	if s.absent(bridge) {
		return nil
	}
	_, err := s.ofctl("", "del-flows", bridge, fmt.Sprintf("cookie=%#x/-1", c))
	return err
}

// A dumped flow.
type dumped struct {
	cookie uint64
	// match by field; what has no value, like the protocol, is there with an empty one.
	match map[string]string
}

// flows of this owner on a switch.
func (s *Switches) flows(bridge string) ([]dumped, error) {
	if s.absent(bridge) {
		return nil, nil
	}
	out, err := s.ofctl("", "dump-flows", bridge, "--no-stats", "--no-names", fmt.Sprintf("cookie=%#x/%#x", cookie(s.tag, "")&ownerMask, uint64(ownerMask)))
	if err != nil {
		return nil, err
	}
	return parseFlows(out), nil
}

// parseFlows reads lines like " cookie=0x1, priority=40100,ip,in_port=1,dl_src=...,nw_src=10.9.0.5 actions=NORMAL"; other
// lines are left out.
func parseFlows(out string) []dumped {
	var all []dumped
	for line := range strings.Lines(out) {
		match, _, ok := strings.Cut(line, " actions=")
		if !ok {
			continue
		}
		f := dumped{match: map[string]string{}}
		for _, field := range strings.FieldsFunc(match, func(r rune) bool { return r == ',' || r == ' ' }) {
			k, v, _ := strings.Cut(field, "=")
			f.match[k] = v
		}
		c, err := strconv.ParseUint(f.match["cookie"], 0, 64)
		if err != nil {
			continue
		}
		f.cookie = c
		all = append(all, f)
	}
	return all
}

// Guarded reads which of the links this owner guards; of all its instances' if links is nil. A port whose flows are not
// those of any guard, or are for another number, is not guarded.
func (s *Switches) Guarded(links []string) (map[string]network.GuardedPort, error) {
	d, err := s.read()
	if err != nil {
		return nil, err
	}
	out := map[string]network.GuardedPort{}
	for _, b := range d.bridges {
		asked := slices.DeleteFunc(slices.Clone(b.ports), func(p switchPort) bool {
			return links == nil && p.owner != s.tag || links != nil && !slices.Contains(links, p.name)
		})
		if len(asked) == 0 {
			continue
		}
		flows, err := s.flows(b.name)
		if err != nil {
			return nil, err
		}
		by := map[uint64][]dumped{}
		for _, f := range flows {
			by[f.cookie] = append(by[f.cookie], f)
		}
		for _, p := range asked {
			c := cookie(s.tag, p.name)
			if g, ok := guarded(p, c, by[c]); ok {
				out[p.name] = g
			}
		}
	}
	return out, nil
}

// guarded reads back what the flows of a port allow.
func guarded(port switchPort, c uint64, flows []dumped) (network.GuardedPort, bool) {
	g := network.GuardedPort{Link: port.name, Driver: network.DriverOVS}
	var sources []netip.Addr
	for _, f := range flows {
		if f.match["in_port"] != strconv.Itoa(port.number) {
			return g, false
		}
		if mac, ok := parseMAC(f.match["dl_src"]); ok {
			g.MAC = mac
		}
		if _, nd := f.match["nd_target"]; nd || f.match["arp_spa"] != "" {
			continue
		}
		for _, k := range []string{"nw_src", "ipv6_src"} {
			if a, err := netip.ParseAddr(f.match[k]); err == nil && !a.IsUnspecified() {
				sources = append(sources, a)
			}
		}
	}
	claimed := map[netip.Addr]bool{}
	for _, f := range flows {
		for _, k := range []string{"arp_spa", "nd_target"} {
			if a, err := netip.ParseAddr(f.match[k]); err == nil {
				claimed[a] = true
			}
		}
	}
	slices.SortFunc(sources, netip.Addr.Compare)
	for _, a := range slices.Compact(sources) {
		switch {
		case a == linkLocal(g.MAC):
		case claimed[a]:
			g.Addresses = append(g.Addresses, a)
		default:
			g.Loopback = append(g.Loopback, a)
		}
	}
	return g, len(flows) > 0 && len(flows) == len(allow(c, port.number, g))
}

// parseMAC reads 02:42:0a:09:00:05.
func parseMAC(s string) (network.MAC, bool) {
	var m network.MAC
	parts := strings.Split(s, ":")
	if len(parts) != len(m) {
		return m, false
	}
	for i, p := range parts {
		b, err := strconv.ParseUint(p, 16, 8)
		if err != nil {
			return m, false
		}
		m[i] = byte(b)
	}
	return m, true
}
