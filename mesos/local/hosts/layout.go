package hosts

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Names of the interfaces. A host sees ManagementLink and DataLink; the two bridges are in the middle.
const (
	ManagementBridge = "mgmt0"
	SwitchBridge     = "switch0"
	ManagementLink   = "eth0"
	DataLink         = "eth1"
)

// MaxHosts is how many hosts the management network has room for.
const MaxHosts = 200

// ManagementPrefix is the address of the middle on the management network.
func ManagementPrefix() netip.Prefix { return netip.MustParsePrefix("172.31.0.1/24") }

// ClientGateway and ClientPrefix are the two ends of the link to the client namespace.
func ClientGateway() netip.Prefix { return netip.MustParsePrefix("172.31.1.1/24") }

// ClientPrefix is the address of the client namespace.
func ClientPrefix() netip.Prefix { return netip.MustParsePrefix("172.31.1.2/24") }

// ClientGateway6 and ClientPrefix6 are the same for IPv6. Hosts have none outside of their instances.
func ClientGateway6() netip.Prefix { return netip.MustParsePrefix("fd31:0:0:1::1/64") }

// ClientPrefix6 is the IPv6 address of the client namespace.
func ClientPrefix6() netip.Prefix { return netip.MustParsePrefix("fd31:0:0:1::2/64") }

// Spec is one embedded host.
type Spec struct {
	// Index counts from 1.
	Index int
	// Name is the host name.
	Name string
}

// Host returns the host with the given index, host-INDEX.
func Host(index int) (Spec, error) {
	if index < 1 || index > MaxHosts {
		return Spec{}, fmt.Errorf("host %d: there can be hosts 1 to %d", index, MaxHosts)
	}
	return Spec{Index: index, Name: "host-" + strconv.Itoa(index)}, nil
}

// Named returns the host of that name; ok is false when it is not the name of a host.
func Named(name string) (spec Spec, ok bool) {
	index, err := strconv.Atoi(strings.TrimPrefix(name, "host-"))
	if err != nil {
		return Spec{}, false
	}
	spec, err = Host(index)
	return spec, err == nil && spec.Name == name
}

// Address is the host's address on the management network.
func (s Spec) Address() netip.Prefix {
	base := ManagementPrefix().Addr().As4()
	base[3] = byte(10 + s.Index)
	return netip.PrefixFrom(netip.AddrFrom4(base), ManagementPrefix().Bits())
}

// hardwareAddress of an interface, locally administered and the same after each start, so that nobody's neighbour
// table goes stale. kind tells the interfaces of one host apart.
func hardwareAddress(kind byte, index int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x50, 0x44, kind, byte(index >> 8), byte(index)}
}

const (
	macManagement byte = iota
	macData
	macBridge
	macClient
)

var attribute = regexp.MustCompile(`^[A-Za-z0-9_./-]+:[A-Za-z0-9_./,-]+$`)

// ExpandAttributes replaces {i} by the host's index in a template such as "rack:r{i};zone:z{i}", and refuses what is
// not a list of NAME:VALUE separated by semicolons.
func ExpandAttributes(template string, index int) (string, error) {
	expanded := strings.ReplaceAll(template, "{i}", strconv.Itoa(index))
	if expanded == "" {
		return "", nil
	}
	for _, pair := range strings.Split(expanded, ";") {
		if !attribute.MatchString(pair) {
			return "", fmt.Errorf("attribute %q: write NAME:VALUE, several separated by semicolons, for example rack:r{i};zone:z{i}", pair)
		}
	}
	return expanded, nil
}

// checkGateway refuses what would take the place of an address that the fabric itself needs.
func checkGateway(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p.Addr().IsLinkLocalUnicast() {
		return fmt.Errorf("gateway %v: not an address of a subnet with a prefix length", p)
	}
	if p.Addr().Is6() && !hasIPv6() {
		return fmt.Errorf("gateway %v: this machine's kernel has no IPv6", p)
	}
	for _, own := range []netip.Prefix{ManagementPrefix(), ClientGateway(), ClientGateway6()} {
		if p.Overlaps(own) {
			return fmt.Errorf("gateway %v: overlaps %v, which the embedded hosts use themselves; choose another CIDR for the pool", p, own.Masked())
		}
	}
	return nil
}

// gatewayChanges says which addresses to add and which to delete, in the order of want and of have.
func gatewayChanges(have, want []netip.Prefix) (add, del []netip.Prefix, err error) {
	wanted := map[netip.Prefix]bool{}
	var bad []error
	for _, p := range want {
		if err := checkGateway(p); err != nil {
			bad = append(bad, err)
			continue
		}
		wanted[p] = true
	}
	present := map[netip.Prefix]bool{}
	for _, p := range have {
		present[p] = true
		if !wanted[p] {
			del = append(del, p)
		}
	}
	for _, p := range want {
		if wanted[p] && !present[p] {
			present[p] = true
			add = append(add, p)
		}
	}
	return add, del, errors.Join(bad...)
}
