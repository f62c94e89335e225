package lb

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// The constants of the hash. They are part of what all directors and real servers agree on: who changes one moves every
// connection. The multipliers are those of MurmurHash3's finalizer.
const (
	hashStart  = 0x9e3779b97f4a7c15
	hashAbsorb = 0xff51afd7ed558ccd
	hashFinish = 0xc4ceb9fe1a85ec53
)

// Tuple is what identifies a flow: from the client to the VIP. Protocol is IP's number of it. For an ICMP error it is that of
// the packet inside, turned round.
type Tuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Protocol         uint8
}

// Hash is the hash of a flow. C programs compute the same (testdata/hash.json):
//
//	h = seed ^ 0x9e3779b97f4a7c15
//	for each 64-bit word w:  h = (h ^ w) * 0xff51afd7ed558ccd;  h ^= h >> 32
//	h *= 0xc4ceb9fe1a85ec53;  h ^= h >> 32
//
// all modulo 2^64. The words are bytes of the packet, read little-endian: of IPv4 one word, source and destination as they
// stand in the header; of IPv6 four words, likewise; then for both one word whose bytes are the source port and the
// destination port as they stand in the TCP or UDP header, the protocol, and three zeros.
//
// Three multiplications for IPv4. It is not keyed against somebody who knows the seed.
func Hash(seed uint64, t Tuple) uint64 {
	h := seed ^ hashStart
	if t.Src.Is4() {
		src, dst := t.Src.As4(), t.Dst.As4()
		h = absorb(h, uint64(binary.LittleEndian.Uint32(src[:]))|uint64(binary.LittleEndian.Uint32(dst[:]))<<32)
	} else {
		src, dst := t.Src.As16(), t.Dst.As16()
		h = absorb(h, binary.LittleEndian.Uint64(src[:8]))
		h = absorb(h, binary.LittleEndian.Uint64(src[8:]))
		h = absorb(h, binary.LittleEndian.Uint64(dst[:8]))
		h = absorb(h, binary.LittleEndian.Uint64(dst[8:]))
	}
	ports := uint64(bits.ReverseBytes16(t.SrcPort)) | uint64(bits.ReverseBytes16(t.DstPort))<<16
	h = absorb(h, ports|uint64(t.Protocol)<<32)
	h *= hashFinish
	return h ^ h>>32
}

func absorb(h, w uint64) uint64 {
	h = (h ^ w) * hashAbsorb
	return h ^ h>>32
}

// BySource leaves of a flow what the scheduler sh hashes: the source address; all else is zero.
func BySource(t Tuple) Tuple {
	zero := netip.IPv6Unspecified()
	if t.Src.Is4() {
		zero = netip.IPv4Unspecified()
	}
	return Tuple{Src: t.Src, Dst: zero}
}

// Slot is the slot of a hash in a table of the given size (1 to 2^31): the upper half of the hash, as a fraction of the
// table. It is a multiplication and a shift where a remainder would be a division, which costs 20 to 40 cycles, and uneven
// by at most size/2^32.
func Slot(hash uint64, size uint32) uint32 { return uint32((hash >> 32) * uint64(size) >> 32) }
