package network

import (
	"fmt"
	"net/netip"
	"slices"
)

// Link is an interface as observed.
type Link struct {
	Name string
	// Kind as rtnetlink names it: bridge, veth ...; "device" for hardware.
	Kind   string
	Up     bool
	MAC    MAC
	MTU    int
	Master string
	// Addresses without those of link-local scope.
	Addresses []netip.Prefix
	// Settings are the sysctls of Settings as observed; only for interfaces of an instance.
	Settings map[string]string
}

// Observed is what there is: on the host at least the links that are wanted by name, and all of the instance.
type Observed struct {
	Host   []Link
	Inside []Link
	// Default is the gateway of the instance's default route; zero if there is none.
	Default netip.Addr
}

// Settings returns the sysctls that each interface of an instance gets, by path below the interface's own directory
// and in this order: an ARP announcement when the interface comes up, and no address that was not leased (IPv6 would
// configure itself from the segment's router advertisements).
func Settings() [][2]string {
	return [][2]string{{"ipv4/arp_notify", "1"}, {"ipv6/disable_ipv6", "1"}}
}

// Op is one operation. String prints it as a command.
type Op interface {
	fmt.Stringer
	op()
}

// AddBridge makes a bridge without spanning tree, up at once.
type AddBridge struct{ Bridge Bridge }

// SetMaster makes a link of the host a port of a bridge.
type SetMaster struct{ Link, Bridge string }

// SetUp brings a link up; Inside tells on which side.
type SetUp struct {
	Link   string
	Inside bool
}

// SetDown silences a link of the host.
type SetDown struct{ Link string }

// DelLink removes a link of the host.
type DelLink struct{ Link string }

// AddVeth makes a pair: the host end up as a port of the bridge, the other end in place in the instance's namespace.
type AddVeth struct{ Interface Interface }

// Set writes a sysctl of an interface of the instance; Key as in Settings.
type Set struct{ Link, Key, Value string }

// AddAddress configures an address inside.
type AddAddress struct {
	Link    string
	Address netip.Prefix
}

// AddDefault sets the default route inside.
type AddDefault struct {
	Link    string
	Gateway netip.Addr
}

func (AddBridge) op()  {}
func (SetMaster) op()  {}
func (SetUp) op()      {}
func (SetDown) op()    {}
func (DelLink) op()    {}
func (AddVeth) op()    {}
func (Set) op()        {}
func (AddAddress) op() {}
func (AddDefault) op() {}

func (o AddBridge) String() string {
	return fmt.Sprintf("ip link add %s address %s mtu %d up type bridge forward_delay 0 stp_state 0", o.Bridge.Name, o.Bridge.MAC, o.Bridge.MTU)
}
func (o SetMaster) String() string { return fmt.Sprintf("ip link set %s master %s", o.Link, o.Bridge) }
func (o SetUp) String() string     { return fmt.Sprintf("ip %slink set %s up", side(o.Inside), o.Link) }
func (o SetDown) String() string   { return fmt.Sprintf("ip link set %s down", o.Link) }
func (o DelLink) String() string   { return fmt.Sprintf("ip link del %s", o.Link) }
func (o AddVeth) String() string {
	i := o.Interface
	return fmt.Sprintf("ip link add %s mtu %d master %s up type veth peer name %s netns INSTANCE address %s mtu %d", i.Host, i.MTU, i.Bridge, i.Inside, i.MAC, i.MTU)
}
func (o Set) String() string {
	return fmt.Sprintf("ip netns exec INSTANCE sysctl -w %s=%s", SettingPath(o.Link, o.Key), o.Value)
}
func (o AddAddress) String() string {
	return fmt.Sprintf("ip -n INSTANCE addr add %s dev %s", o.Address, o.Link)
}
func (o AddDefault) String() string {
	return fmt.Sprintf("ip -n INSTANCE route replace default via %s dev %s", o.Gateway, o.Link)
}

func side(inside bool) string {
	if inside {
		return "-n INSTANCE "
	}
	return ""
}

// SettingPath is the path of a setting below /proc/sys: "ipv4/arp_notify" of eth0 is net/ipv4/conf/eth0/arp_notify.
func SettingPath(link, key string) string {
	return "net/" + key[:4] + "/conf/" + link + "/" + key[5:]
}

// Plan orders the operations that make the wanted of the observed; none if it is there. An error is a refusal: it
// names what is in the way and what to do about it, and nothing must be applied.
func Plan(w Wanted, o Observed) ([]Op, error) {
	ops, err := PlanBridges(w.Bridges, o.Host)
	if err != nil {
		return nil, err
	}
	if lo := find(o.Inside, "lo"); lo == nil || !lo.Up {
		ops = append(ops, SetUp{"lo", true})
	}
	for _, i := range w.Interfaces {
		more, err := planInterface(i, o)
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	return ops, nil
}

func planInterface(i Interface, o Observed) ([]Op, error) {
	var ops []Op
	host, inside := find(o.Host, i.Host), find(o.Inside, i.Inside)
	if host != nil && host.Kind != "veth" {
		return nil, fmt.Errorf("interface %s exists and is a %s, not an end of an instance; remove it (ip link del %s)", i.Host, host.Kind, i.Host)
	}
	if inside != nil && host == nil {
		return nil, fmt.Errorf("the instance has an interface %s that is not ours; start it with a network namespace of its own", i.Inside)
	}
	// A pair that is not whole or not as wanted is made anew: its names are ours.
	if host != nil && (inside == nil || inside.MAC != i.MAC || inside.MTU != i.MTU || host.MTU != i.MTU) {
		ops = append(ops, DelLink{i.Host})
		host, inside = nil, nil
	}
	if host == nil {
		ops = append(ops, AddVeth{i})
		inside = &Link{Name: i.Inside}
	} else {
		if host.Master != i.Bridge {
			ops = append(ops, SetMaster{i.Host, i.Bridge})
		}
		if !host.Up {
			ops = append(ops, SetUp{i.Host, false})
		}
	}
	for _, s := range Settings() {
		if inside.Settings[s[0]] != s[1] {
			ops = append(ops, Set{i.Inside, s[0], s[1]})
		}
	}
	if !slices.Contains(inside.Addresses, i.Address) {
		ops = append(ops, AddAddress{i.Inside, i.Address})
	}
	if !inside.Up {
		ops = append(ops, SetUp{i.Inside, true})
	}
	if i.Gateway.IsValid() && (o.Default != i.Gateway || !inside.Up) {
		ops = append(ops, AddDefault{i.Inside, i.Gateway})
	}
	return ops, nil
}

// PlanBridges orders the operations that make the wanted bridges of the host's links. Bridges that exist are used as
// they are. A parent is taken only if that takes nothing from anybody.
func PlanBridges(bridges []Bridge, host []Link) ([]Op, error) {
	var ops []Op
	for _, b := range bridges {
		switch have := find(host, b.Name); {
		case have == nil:
			ops = append(ops, AddBridge{b})
		case have.Kind != "bridge":
			return nil, fmt.Errorf("%s exists and is a %s, not a bridge; choose another name in Network.spec.bridge", b.Name, have.Kind)
		case !have.Up:
			ops = append(ops, SetUp{b.Name, false})
		}
		if b.Parent == "" {
			continue
		}
		more, err := planParent(b, host)
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	return ops, nil
}

func planParent(b Bridge, host []Link) ([]Op, error) {
	var ops []Op
	p := find(host, b.Parent)
	switch {
	case p == nil:
		return nil, fmt.Errorf("this host has no interface %s to be the uplink of bridge %s; correct Network.spec.parent, or place the app on hosts that have it", b.Parent, b.Name)
	case p.MTU < b.MTU:
		return nil, fmt.Errorf("interface %s has MTU %d, but the network wants %d; raise the one or lower Network.spec.mtu", p.Name, p.MTU, b.MTU)
	case p.Master == b.Name:
	case p.Master != "":
		return nil, fmt.Errorf("interface %s is already a port of %s; use that bridge in Network.spec.bridge, or another parent", p.Name, p.Master)
	case len(p.Addresses) > 0:
		return nil, fmt.Errorf("interface %s carries the address %s, which the host would lose as a port of bridge %s; use an interface without addresses, or move the address to the bridge yourself", p.Name, p.Addresses[0], b.Name)
	default:
		ops = append(ops, SetMaster{p.Name, b.Name})
	}
	if !p.Up {
		ops = append(ops, SetUp{p.Name, false})
	}
	return ops, nil
}

// Silence orders the operations after which nobody answers for the addresses of the instance any more. Removal is left
// to the kernel, which does it when the instance's namespace ends: taking a link down is what costs little.
func Silence(w Wanted, host []Link) []Op {
	var ops []Op
	for _, i := range w.Interfaces {
		if l := find(host, i.Host); l != nil && l.Up {
			ops = append(ops, SetDown{i.Host})
		}
	}
	return ops
}

// Sweep orders the removal of host ends of self that are not in live. Those of other owners are never touched: their
// containers may go on while no executor is there. Names that HostEnd does not make are strangers'.
func Sweep(host []Link, self string, live map[string]bool) []Op {
	var ops []Op
	for _, l := range host {
		tag, ok := ParseHostEnd(l.Name)
		if !ok || l.Kind != "veth" || live[l.Name] {
			continue
		}
		if tag == OwnerTag(self) {
			ops = append(ops, DelLink{l.Name})
		}
	}
	return ops
}

func find(links []Link, name string) *Link {
	for i := range links {
		if links[i].Name == name {
			return &links[i]
		}
	}
	return nil
}
