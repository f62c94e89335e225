package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// MAC is an Ethernet hardware address.
type MAC [6]byte

// String prints it as 02:42:0a:2c:00:05.
func (m MAC) String() string {
	s := hex.EncodeToString(m[:])
	return strings.Join([]string{s[0:2], s[2:4], s[4:6], s[6:8], s[8:10], s[10:12]}, ":")
}

// AddressMAC is the hardware address of whoever has the address. An interface with both families goes by its IPv4 address.
func AddressMAC(a netip.Addr) MAC { return padisv1.AddressMAC(a) }

// ours tells whether AddressMAC can have made it.
func (m MAC) ours() bool { return m[0] == 0x02 && m[1] == 0x42 || m[0] == 0x06 }

// hostMAC is that of a device which each host has: another one on each.
func hostMAC(kind byte, host, name string) MAC {
	h := sha256.Sum256([]byte(host + "\x00" + name))
	return MAC{0x02, kind, h[0], h[1], h[2], h[3]}
}

const (
	bridgeKind byte = 0x50
	tunnelKind byte = 0x51
)

// ValidName tells whether Linux accepts s as the name of an interface (dev_valid_name: 1 to 15 bytes, not "." or "..",
// no slash, colon or white space).
func ValidName(s string) bool {
	return s != "" && len(s) <= nameLength && s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '/' || r == ':' || r == 0x7f || r > 0x7e
	})
}

const (
	endPrefix   = "pd"
	ownerLength = 5
	nameLength  = 15 // IFNAMSIZ - 1
)

func digest(s string, length int) string { return padisv1.Digest(s, length) }

// BridgeName is the bridge of a Network that names none.
func BridgeName(network string) string { return padisv1.BridgeName(network) }

// TunnelName is the tunnel device of a vxlan Network: "pv-" and twelve characters of a digest of its name.
func TunnelName(network string) string { return "pv-" + digest(network, 12) }

// VLANName is the sub-interface of a tag: "eth1.100", or "pl-" and a digest of that if it is too long for Linux.
func VLANName(parent string, tag int) string {
	s := fmt.Sprintf("%s.%d", parent, tag)
	if len(s) > nameLength {
		return "pl-" + digest(s, 12)
	}
	return s
}

// OwnerTag is the part of a host end's name that tells its executor.
func OwnerTag(owner string) string { return digest(owner, ownerLength) }

// HostEnd names the host end of one interface of one task: "pd", five characters for the executor and eight for the
// task and the interface. Task ids are never used twice, so the name is unique to this attachment, and an interface
// that the kernel is still removing is never in the way of the next one.
func HostEnd(owner, task string, index int) string {
	return endPrefix + OwnerTag(owner) + digest(fmt.Sprintf("%s/%d", task, index), nameLength-len(endPrefix)-ownerLength)
}

// ParseHostEnd tells whether a name is one that HostEnd makes, and the tag of its owner.
func ParseHostEnd(name string) (ownerTag string, ok bool) {
	if len(name) != nameLength || !strings.HasPrefix(name, endPrefix) {
		return "", false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '2' || r > '7') {
			return "", false
		}
	}
	return name[len(endPrefix) : len(endPrefix)+ownerLength], true
}
