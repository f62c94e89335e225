package network

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// world is a host and one instance on it. It carries operations out as the kernel would, refusing what the kernel
// refuses and also most of what is needless, and keeps the commands as text.
type world struct {
	host, inside             []Link
	hostRoutes, insideRoutes []Route
	switches                 []Switch
	guarded                  map[string]GuardedPort
	hosted                   map[string][]string
	hostSet, insideSet       map[string]string
	// number of a switch's port, which a new device of the same name does not share, and that which its guard was made for.
	number, guardedNumber map[string]int
	devices               int
	// valid is the lifetime of addresses inside.
	valid map[string]string
	log   []string
	// check runs after each operation.
	check func(Op) error
}

func loopback() Link {
	return Link{Name: "lo", Kind: "device", Up: true, MTU: 65536, Addresses: prefixes("127.0.0.1/8", "::1/128")}
}

func newWorld(host ...Link) *world {
	return &world{host: append(slices.Clone(host), loopback()), inside: []Link{{Name: "lo", Kind: "device", Addresses: prefixes("127.0.0.1/8", "::1/128")}}, guarded: map[string]GuardedPort{}, hosted: map[string][]string{},
		hostSet: map[string]string{}, insideSet: map[string]string{}, number: map[string]int{}, guardedNumber: map[string]int{}, valid: map[string]string{}}
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func (w *world) observed() Observed {
	o := Observed{Host: clone(w.host), Inside: clone(w.inside), HostRoutes: slices.Clone(w.hostRoutes), InsideRoutes: slices.Clone(w.insideRoutes),
		Guarded: maps.Clone(w.guarded), Hosted: maps.Clone(w.hosted), HostSettings: maps.Clone(w.hostSet), InsideSettings: maps.Clone(w.insideSet)}
	for _, s := range w.switches {
		s.Ports = slices.Clone(s.Ports)
		o.Switches = append(o.Switches, s)
	}
	return o
}

func clone(in []Link) []Link {
	out := slices.Clone(in)
	for i := range out {
		out[i].Addresses = slices.Clone(out[i].Addresses)
		out[i].Forwards = slices.Clone(out[i].Forwards)
		out[i].Neighbours = slices.Clone(out[i].Neighbours)
	}
	return out
}

func (w *world) apply(ops []Op) error {
	for _, op := range ops {
		w.log = append(w.log, op.String())
		err := w.one(op)
		if err == nil && w.check != nil {
			err = w.check(op)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return nil
}

func (w *world) String() string { return strings.Join(w.log, "\n") + "\n" }

type refusal string

func (r refusal) Error() string { return string(r) }

const (
	exists      = refusal("File exists")
	missing     = refusal("No such file or directory")
	unreachable = refusal("Network is unreachable")
	noop        = refusal("this changes nothing")
)

func (w *world) side(inside bool) ([]Link, *[]Route, map[string]string) {
	if inside {
		return w.inside, &w.insideRoutes, w.insideSet
	}
	return w.host, &w.hostRoutes, w.hostSet
}

func need(links []Link, name string) (*Link, error) {
	if l := find(links, name); l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("Cannot find device %q", name)
}

// born is a new device with the settings that the kernel gives.
func (w *world) born(l Link, inside bool) {
	_, _, set := w.side(inside)
	for k, v := range map[string]string{"ipv4/conf/%/arp_notify": "0", "ipv4/conf/%/proxy_arp": "0", "ipv4/neigh/%/proxy_delay": "80", "ipv4/conf/%/rp_filter": "0",
		"ipv6/conf/%/accept_ra": "1", "ipv6/conf/%/autoconf": "1", "ipv6/conf/%/accept_dad": "1", "ipv6/conf/%/ndisc_notify": "0", "ipv6/conf/%/disable_ipv6": "0"} {
		set[strings.ReplaceAll(k, "%", l.Name)] = v
	}
	if inside {
		w.inside = append(w.inside, l)
		return
	}
	w.devices++
	w.host = append(w.host, l)
}

func (w *world) dead(name string, inside bool) {
	links, routes, set := w.side(inside)
	links = slices.DeleteFunc(links, func(l Link) bool { return l.Name == name })
	*routes = slices.DeleteFunc(*routes, func(r Route) bool { return r.Link == name })
	maps.DeleteFunc(set, func(k, _ string) bool { return settingOf(k, name) })
	if inside {
		w.inside = links
	} else {
		w.host = links
		delete(w.number, name)
	}
}

func (w *world) one(op Op) error {
	switch op := op.(type) {
	case AddBridge, AddVLAN, AddVXLAN, AddVeth, AddRelay, AddMACVLAN, DelLink, SetUp, SetDown, SetMaster, SetPort:
		return w.link(op)
	case WholeChecksums:
		if find(w.inside, op.Link) == nil {
			return fmt.Errorf("%s: no such link", op)
		}
		return nil
	case AddAddress, DelAddress, AddRoute, DelRoute, MoveAddresses:
		return w.address(op)
	case AddForward, DelForward, AddNeighbour, DelNeighbour:
		return w.entry(op)
	case AddSwitch, AddSwitchPort, DelSwitchPort, Guard, Unguard, KeepApart:
		return w.filter(op)
	case Set:
		_, _, set := w.side(op.Inside)
		if p := strings.Split(op.Setting.Key, "/"); len(p) == 4 && p[2] != "all" {
			if _, ok := set[op.Setting.Key]; !ok {
				return missing
			}
			if l, _, _ := w.side(op.Inside); strings.HasSuffix(op.Setting.Key, "disable_ipv6") && op.Setting.Value == "1" {
				l := find(l, p[2])
				l.Addresses = slices.DeleteFunc(l.Addresses, func(a netip.Prefix) bool { return a.Addr().Is6() })
			}
		}
		set[op.Setting.Key] = op.Setting.Value
		return nil
	case SetRate:
		links, _, _ := w.side(op.Inside)
		l, err := need(links, op.Link)
		if err == nil && l.Rate == op.Rate {
			err = noop
		}
		if err == nil {
			l.Rate = op.Rate
		}
		return err
	}
	return fmt.Errorf("unknown operation %T", op)
}

func (w *world) link(op Op) error {
	switch op := op.(type) {
	case AddBridge:
		if find(w.host, op.Name) != nil {
			return exists
		}
		w.born(Link{Name: op.Name, Kind: "bridge", Up: true, MAC: op.MAC, MTU: op.MTU}, false)
	case AddRelay:
		b, err := need(w.host, op.Bridge)
		switch {
		case err != nil:
			return err
		case find(w.host, op.Port) != nil || find(w.host, op.Out) != nil:
			return exists
		case b.MTU != op.MTU:
			return refusal("the bridge would be narrowed")
		}
		w.born(Link{Name: op.Port, Kind: "veth", MAC: op.MAC, MTU: op.MTU, Master: op.Bridge}, false)
		w.born(Link{Name: op.Out, Kind: "veth", MTU: op.MTU}, false)
	case AddVLAN:
		p, err := need(w.host, op.Parent)
		switch {
		case err != nil:
			return err
		case find(w.host, op.Name) != nil:
			return exists
		case !p.Up:
			return refusal("Network is down")
		case p.MTU < op.MTU:
			return refusal("Numerical result out of range")
		}
		w.born(Link{Name: op.Name, Kind: "vlan", Up: true, MAC: p.MAC, MTU: op.MTU, Under: op.Parent, VLAN: op.Tag}, false)
	case AddVXLAN:
		if op.Parent != "" {
			p, err := need(w.host, op.Parent)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(p.Addresses, func(a netip.Prefix) bool { return a.Addr() == op.Local }) {
				return refusal("the tunnel ends nowhere")
			}
		}
		if find(w.host, op.Name) != nil {
			return exists
		}
		w.born(Link{Name: op.Name, Kind: "vxlan", Up: true, MAC: op.MAC, MTU: op.MTU, Under: op.Parent, VNI: op.VNI, Port: op.Port, Local: op.Local}, false)
	case AddVeth:
		i := op.Interface
		if find(w.host, i.Host) != nil || find(w.inside, i.Inside) != nil {
			return exists
		}
		master := ""
		if i.Bridge != "" && i.Driver != DriverOVS {
			if b := find(w.host, i.Bridge); b == nil || b.Kind != "bridge" {
				return missing
			}
			master = i.Bridge
		}
		w.born(Link{Name: i.Host, Kind: "veth", Up: true, MTU: i.MTU, Master: master}, false)
		// Master of the inner end stands for the peer in this model.
		w.born(Link{Name: i.Inside, Kind: "veth", MAC: i.MAC, MTU: i.MTU, Master: i.Host}, true)
	case AddMACVLAN:
		i := op.Interface
		p, err := need(w.host, i.Parent)
		if err != nil {
			return err
		}
		if find(w.host, i.Host) != nil || find(w.inside, i.Inside) != nil {
			return exists
		}
		if p.Master != "" {
			return refusal("Device or resource busy")
		}
		w.born(Link{Name: i.Inside, Kind: "macvlan", MAC: i.MAC, MTU: i.MTU}, true)
	case DelLink:
		links, _, _ := w.side(op.Inside)
		if _, err := need(links, op.Link); err != nil {
			return err
		}
		if !op.Inside {
			for _, p := range slices.Clone(w.inside) {
				if p.Kind == "veth" && p.Master == op.Link {
					w.dead(p.Name, true)
				}
			}
		}
		w.dead(op.Link, op.Inside)
		if _, relay := parseRelay(op.Link); relay {
			w.dead(relayOutPrefix+op.Link[2:], false)
			w.dead(relayPortPrefix+op.Link[2:], false)
		}
	case SetUp:
		links, _, _ := w.side(op.Inside)
		l, err := need(links, op.Link)
		if err == nil && l.Up {
			err = noop
		}
		if err != nil {
			return err
		}
		l.Up = true
	case SetDown:
		links, routes, _ := w.side(op.Inside)
		l, err := need(links, op.Link)
		if err == nil && !l.Up {
			err = noop
		}
		if err != nil {
			return err
		}
		l.Up = false
		l.Addresses = slices.DeleteFunc(l.Addresses, func(a netip.Prefix) bool { return a.Addr().Is6() })
		*routes = slices.DeleteFunc(*routes, func(r Route) bool { return r.Link == op.Link })
	case SetMaster:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		if b, err := need(w.host, op.Bridge); err != nil || b.Kind != "bridge" || l.Kind == "bridge" {
			return refusal("Operation not supported")
		}
		if l.Master == op.Bridge {
			return noop
		}
		l.Master = op.Bridge
	case SetPort:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		if l.Master == "" {
			return refusal("Operation not supported")
		}
		if l.PortFlags == op.Flags {
			return noop
		}
		l.PortFlags = op.Flags
	}
	return nil
}

func (w *world) address(op Op) error {
	switch op := op.(type) {
	case AddAddress:
		links, _, set := w.side(op.Inside)
		l, err := need(links, op.Link)
		if err != nil {
			return err
		}
		if op.Address.Addr().Is6() && set["ipv6/conf/"+op.Link+"/disable_ipv6"] == "1" {
			return refusal("Permission denied")
		}
		if op.Link == "lo" && op.Address.Addr().Is4() && (set["ipv4/conf/all/arp_ignore"] != "1" || set["ipv4/conf/all/arp_announce"] != "2") {
			return refusal("everybody would hear of this address")
		}
		if !slices.Contains(l.Addresses, op.Address) {
			l.Addresses = append(l.Addresses, op.Address)
		}
		if op.Inside {
			w.valid[op.Link+" "+op.Address.String()] = op.Valid.String()
		}
	case DelAddress:
		links, routes, _ := w.side(op.Inside)
		l, err := need(links, op.Link)
		if err != nil {
			return err
		}
		at := slices.Index(l.Addresses, op.Address)
		if at < 0 {
			return refusal("Cannot assign requested address")
		}
		first := !slices.ContainsFunc(l.Addresses[:at], func(a netip.Prefix) bool { return a.Masked() == op.Address.Masked() })
		l.Addresses = slices.DeleteFunc(l.Addresses, func(a netip.Prefix) bool {
			return a == op.Address || first && a.Addr().Is4() && a.Masked() == op.Address.Masked()
		})
		*routes = slices.DeleteFunc(*routes, func(r Route) bool {
			return r.Link == op.Link && r.Gateway.IsValid() && !r.Onlink && op.Address.Contains(r.Gateway) && !reaches(*l, r.Gateway)
		})
	case AddRoute:
		links, routes, _ := w.side(op.Inside)
		l, err := need(links, op.Route.Link)
		if err != nil {
			return err
		}
		if !l.Up || op.Route.Gateway.IsValid() && !op.Route.Onlink && !reaches(*l, op.Route.Gateway) {
			return unreachable
		}
		*routes = slices.DeleteFunc(*routes, func(r Route) bool { return r.Destination == op.Route.Destination })
		*routes = append(*routes, op.Route)
	case DelRoute:
		_, routes, _ := w.side(op.Inside)
		if !slices.Contains(*routes, op.Route) {
			return refusal("No such process")
		}
		*routes = slices.DeleteFunc(*routes, func(r Route) bool { return r == op.Route })
	case MoveAddresses:
		p, err := need(w.host, op.Parent)
		if err != nil {
			return err
		}
		b, err := need(w.host, op.Bridge)
		if err != nil {
			return err
		}
		p.Master = b.Name
		for _, a := range op.Addresses {
			p.Addresses = slices.DeleteFunc(p.Addresses, func(h netip.Prefix) bool { return h == a })
			b.Addresses = append(b.Addresses, a)
		}
		w.hostRoutes = slices.DeleteFunc(w.hostRoutes, func(r Route) bool { return r.Link == p.Name })
		for _, r := range op.Routes {
			r.Link = b.Name
			if err := w.one(AddRoute{Route: r}); err != nil {
				return err
			}
		}
	}
	return nil
}

func reaches(l Link, a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (w *world) entry(op Op) error {
	switch op := op.(type) {
	case AddForward:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(l.Forwards, func(f Forward) bool { return f == op.Forward || f.MAC == op.Forward.MAC && f.MAC != MAC{} }) {
			return exists
		}
		l.Forwards = append(l.Forwards, op.Forward)
	case DelForward:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		if !slices.Contains(l.Forwards, op.Forward) {
			return missing
		}
		l.Forwards = slices.DeleteFunc(l.Forwards, func(f Forward) bool { return f == op.Forward })
	case AddNeighbour:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		l.Neighbours = slices.DeleteFunc(l.Neighbours, func(n Neighbour) bool { return n.Address == op.Neighbour.Address })
		l.Neighbours = append(l.Neighbours, op.Neighbour)
	case DelNeighbour:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		if !slices.Contains(l.Neighbours, op.Neighbour) {
			return missing
		}
		l.Neighbours = slices.DeleteFunc(l.Neighbours, func(n Neighbour) bool { return n == op.Neighbour })
	}
	return nil
}

func (w *world) filter(op Op) error {
	switchOf := func(name string) *Switch {
		for i := range w.switches {
			if w.switches[i].Name == name {
				return &w.switches[i]
			}
		}
		return nil
	}
	switch op := op.(type) {
	case AddSwitch:
		if switchOf(op.Name) != nil || find(w.host, op.Name) != nil {
			return exists
		}
		w.switches = append(w.switches, Switch{Name: op.Name, Datapath: op.Datapath})
		w.host = append(w.host, Link{Name: op.Name, Kind: "openvswitch"})
	case AddSwitchPort:
		s := switchOf(op.Switch)
		if _, err := need(w.host, op.Port.Name); err != nil {
			return err
		}
		if s == nil {
			return missing
		}
		if have := s.port(op.Port.Name); have != nil {
			if *have == op.Port {
				return noop
			}
			*have = op.Port
			return nil
		}
		s.Ports = append(s.Ports, op.Port)
		w.devices++
		w.number[op.Port.Name] = w.devices
	case DelSwitchPort:
		s := switchOf(op.Switch)
		if s.port(op.Port) == nil {
			return missing
		}
		s.Ports = slices.DeleteFunc(s.Ports, func(p SwitchPort) bool { return p.Name == op.Port })
		delete(w.number, op.Port)
	case Guard:
		if op.Port.Driver == DriverOVS && w.number[op.Port.Link] == 0 {
			return refusal("no such port")
		}
		if w.guardedNumber[op.Port.Link] == w.number[op.Port.Link] && reflect.DeepEqual(w.guarded[op.Port.Link], op.Port) {
			return noop
		}
		w.guarded[op.Port.Link] = op.Port
		w.guardedNumber[op.Port.Link] = w.number[op.Port.Link]
	case Unguard:
		if _, ok := w.guarded[op.Link]; !ok {
			return missing
		}
		delete(w.guarded, op.Link)
		delete(w.guardedNumber, op.Link)
	case KeepApart:
		w.hosted[op.Bridge] = op.Peers
	}
	return nil
}

// connected tells whether what the interface sends can reach anybody.
func (w *world) connected(i Interface) bool {
	h, in := find(w.host, i.Host), find(w.inside, i.Inside)
	if h == nil || in == nil || !h.Up || !in.Up {
		return false
	}
	switch i.Driver {
	case DriverRouted:
		return true
	case DriverOVS:
		return findSwitch(w.observed(), i.Bridge).port(i.Host) != nil
	default:
		return h.Master != ""
	}
}

// guards tells whether nothing else can come from the interface.
func (w *world) guards(i Interface, wanted Wanted) bool {
	g, ok := w.guarded[i.Host]
	return ok && w.guardedNumber[i.Host] == w.number[i.Host] && g.equal(wanted.guard(i))
}
