// Package network decides how an instance is plugged in: wanted attachments and what is observed on the host give an
// ordered list of operations, each printing as the `ip` command that a network engineer would type. Pure.
//
// The host has one bridge per Network, whose uplink is the Network's parent interface. An instance has one veth pair
// per attachment: the host end (named by HostEnd) is a port of the bridge, the other end is eth0, eth1 ... in the
// instance's own network namespace. The hardware address is derived from the IP address (02:42 and its four bytes), so
// that an address which moves to another host keeps it and no neighbour has a stale cache.
package network

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// DefaultMTU is used where the Network names none.
const DefaultMTU = 1500

// MAC is an Ethernet hardware address.
type MAC [6]byte

// String prints it as 02:42:0a:2c:00:05.
func (m MAC) String() string {
	s := hex.EncodeToString(m[:])
	return strings.Join([]string{s[0:2], s[2:4], s[4:6], s[6:8], s[8:10], s[10:12]}, ":")
}

// Bridge is the switch of one Network on the host.
type Bridge struct {
	Name string
	// Parent is the uplink; empty if the bridge has none.
	Parent string
	MTU    int
	// MAC is given to the bridge when it is created, so that it does not change with its ports.
	MAC MAC
}

// Interface is one interface of an instance.
type Interface struct {
	// Host is the name of the end that is a port of the bridge, Inside that of the end the instance sees.
	Host, Inside string
	Bridge       string
	MTU          int
	MAC          MAC
	// Address with the length of its subnet, for example 10.44.0.5/16.
	Address netip.Prefix
	// Gateway of the default route; the zero value if there is none.
	Gateway netip.Addr
	// Probe demands that the address is found silent before it is configured.
	Probe bool
}

// Wanted is the network of one instance.
type Wanted struct {
	Bridges    []Bridge
	Interfaces []Interface
}

// Answer is who answered for an address that should be silent.
type Answer struct {
	Address netip.Addr
	MAC     MAC
}

// String says it to people, with what to do.
func (a Answer) String() string {
	return fmt.Sprintf("%s is answered by %s; find out who has the address (arping, the switch's table) and end it, or take the address out of the pool", a.Address, a.MAC)
}

// Want says what the attachments of a task ask for. owner names the executor, so that host ends of different executors
// can be told apart; host names the machine, so that its bridges get hardware addresses of their own. An error says
// which attachment cannot be, and why.
func Want(owner, task, host string, attachments []*padisv1.Attachment) (Wanted, error) {
	var w Wanted
	bridges := map[string]int{}
	seen := map[netip.Addr]bool{}
	for i, a := range attachments {
		n := a.GetNetwork()
		if n == nil {
			return Wanted{}, fmt.Errorf("attachment %d has no network", i)
		}
		if d := n.GetDriver(); d != "" && d != "bridge" {
			return Wanted{}, fmt.Errorf("network %s has driver %q, which this executor does not know; use bridge", n.GetName(), d)
		}
		if !ValidName(n.GetBridge()) {
			return Wanted{}, fmt.Errorf("network %s: %q is not a possible name of a bridge (1 to 15 characters, no slash, no space)", n.GetName(), n.GetBridge())
		}
		if n.GetParent() != "" && !ValidName(n.GetParent()) {
			return Wanted{}, fmt.Errorf("network %s: %q is not a possible name of a parent interface", n.GetName(), n.GetParent())
		}
		if n.GetParent() == n.GetBridge() {
			return Wanted{}, fmt.Errorf("network %s: %q cannot be both the bridge and its parent", n.GetName(), n.GetBridge())
		}
		mtu := int(n.GetMtu())
		switch {
		case mtu == 0:
			mtu = DefaultMTU
		case mtu < 576 || mtu > 65535:
			return Wanted{}, fmt.Errorf("network %s: MTU %d is not between 576 and 65535", n.GetName(), mtu)
		}
		b := Bridge{Name: n.GetBridge(), Parent: n.GetParent(), MTU: mtu, MAC: bridgeMAC(host, n.GetBridge())}
		if at, ok := bridges[b.Name]; !ok {
			bridges[b.Name] = len(w.Bridges)
			w.Bridges = append(w.Bridges, b)
		} else if w.Bridges[at] != b {
			return Wanted{}, fmt.Errorf("two networks use bridge %s with different parents or MTUs; give each network a bridge of its own", b.Name)
		}
		itf, err := wantInterface(a, b)
		if err != nil {
			return Wanted{}, fmt.Errorf("network %s: %w", n.GetName(), err)
		}
		if seen[itf.Address.Addr()] {
			return Wanted{}, fmt.Errorf("network %s: address %s is given to two interfaces of one instance", n.GetName(), itf.Address.Addr())
		}
		seen[itf.Address.Addr()] = true
		itf.Host, itf.Inside = HostEnd(owner, task, i), fmt.Sprintf("eth%d", i)
		if i > 0 {
			itf.Gateway = netip.Addr{}
		}
		w.Interfaces = append(w.Interfaces, itf)
	}
	return w, nil
}

func wantInterface(a *padisv1.Attachment, b Bridge) (Interface, error) {
	addr, err := netip.ParseAddr(a.GetAddress())
	if err != nil || !addr.Is4() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return Interface{}, fmt.Errorf("%q is not an IPv4 address that an instance can have", a.GetAddress())
	}
	length := int(a.GetPrefixLength())
	if length < 1 || length > 32 {
		return Interface{}, fmt.Errorf("prefix length %d of %s is not between 1 and 32", length, addr)
	}
	itf := Interface{Bridge: b.Name, MTU: b.MTU, MAC: AddressMAC(addr), Address: netip.PrefixFrom(addr, length), Probe: a.GetProbe()}
	if g := a.GetGateway(); g != "" {
		itf.Gateway, err = netip.ParseAddr(g)
		if err != nil || !itf.Gateway.Is4() || !itf.Address.Contains(itf.Gateway) || itf.Gateway == addr {
			return Interface{}, fmt.Errorf("gateway %q cannot be reached from %s", g, itf.Address)
		}
	}
	return itf, nil
}

// AddressMAC is the hardware address of whoever has the IPv4 address: 02:42 and its bytes.
func AddressMAC(a netip.Addr) MAC {
	v := a.As4()
	return MAC{0x02, 0x42, v[0], v[1], v[2], v[3]}
}

func bridgeMAC(host, bridge string) MAC {
	h := sha256.Sum256([]byte(host + "\x00" + bridge))
	return MAC{0x02, 0x50, h[0], h[1], h[2], h[3]}
}

// ValidName tells whether Linux accepts s as the name of an interface (dev_valid_name: 1 to 15 bytes, not "." or "..",
// no slash, colon or white space).
func ValidName(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '/' || r == ':' || r == 0x7f || r > 0x7e
	})
}

const (
	endPrefix   = "pd"
	ownerLength = 5
	endLength   = 15 // IFNAMSIZ - 1
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func digest(s string, length int) string {
	h := sha256.Sum256([]byte(s))
	return letters.EncodeToString(h[:])[:length]
}

// OwnerTag is the part of a host end's name that tells its executor.
func OwnerTag(owner string) string { return digest(owner, ownerLength) }

// HostEnd names the host end of one interface of one task: "pd", five characters for the executor and eight for the
// task and the interface. Task ids are never used twice, so the name is unique to this attachment, and an interface
// that the kernel is still removing is never in the way of the next one.
func HostEnd(owner, task string, index int) string {
	return endPrefix + OwnerTag(owner) + digest(fmt.Sprintf("%s/%d", task, index), endLength-len(endPrefix)-ownerLength)
}

// ParseHostEnd tells whether a name is one that HostEnd makes, and the tag of its owner.
func ParseHostEnd(name string) (ownerTag string, ok bool) {
	if len(name) != endLength || !strings.HasPrefix(name, endPrefix) {
		return "", false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '2' || r > '7') {
			return "", false
		}
	}
	return name[len(endPrefix) : len(endPrefix)+ownerLength], true
}
