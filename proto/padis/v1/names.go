package padisv1

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"
)

// BridgeName is the bridge, on each host, of a Network that names none: "pb-" and twelve characters of a digest of its name.
// Executors make it; the scheduler finds the host's addresses on it, where it took them over from its parent.
func BridgeName(network string) string { return "pb-" + Digest(network, 12) }

// Digest gives the first characters, at most 52, of the SHA-256 of s in lower-case letters and the digits 2 to 7: what names of
// interfaces are made of.
func Digest(s string, length int) string {
	h := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(h[:]))[:length]
}

// AddressMAC is the hardware address of whoever has the address: 02:42 and the four bytes of an IPv4 address, 06 and the first
// five bytes of SHA-256 over the sixteen of an IPv6 address. Executors give it to interfaces; tables name real servers by it.
func AddressMAC(a netip.Addr) [6]byte {
	if a = a.Unmap(); a.Is4() {
		v := a.As4()
		return [6]byte{0x02, 0x42, v[0], v[1], v[2], v[3]}
	}
	v := a.As16()
	h := sha256.Sum256(v[:])
	return [6]byte{0x06, h[0], h[1], h[2], h[3], h[4]}
}
