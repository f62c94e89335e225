package tcx

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"padis.io/padis/executor/lb"
)

// The layout of struct state of bpf/state.h, and its bounds.
const (
	maxCells    = 4096
	maxListens  = maxCells / 2
	buckets     = 1024
	maxServers  = 16384
	cellBytes   = 64
	serverBytes = 8
	listBytes   = 32
	nobody      = 0xffff

	cellsAt    = 64
	displaceAt = cellsAt + maxCells*cellBytes
	serversAt  = displaceAt + buckets*4
	stateBytes = serversAt + maxServers*serverBytes
)

const (
	flagBySource = 1 << iota
	flagAllow
	flagRanges
)

// key is what a service is looked up by: struct key.
type key struct {
	addr  [2]uint64
	ports uint32
}

func keyOf(vip netip.Addr, protocol uint8, port uint16) key {
	var k key
	family := uint32(4)
	if vip.Is4() {
		a := vip.As4()
		k.addr[0] = uint64(binary.LittleEndian.Uint32(a[:]))
	} else {
		a := vip.As16()
		k.addr[0], k.addr[1], family = binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:]), 6
	}
	k.ports = uint32(port>>8|port<<8) | uint32(protocol)<<16 | family<<24
	return k
}

// hash is that of find of bpf/state.h.
func (k key) hash(seed uint64) uint64 {
	absorb := func(h, w uint64) uint64 { h = (h ^ w) * 0xff51afd7ed558ccd; return h ^ h>>32 }
	h := seed
	if k.ports>>24 == 4 {
		h = absorb(h, k.addr[0]|uint64(k.ports)<<32)
	} else {
		h = absorb(absorb(absorb(h, k.addr[0]), k.addr[1]), uint64(k.ports))
	}
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>32
}

// cell is struct service.
type cell struct {
	key
	flags, size, counter uint32
	seed                 uint64
	slots, chains, allow uint32
	allowed              uint16
	mark                 uint8
}

func (c *cell) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], c.addr[0])
	le.PutUint64(b[8:], c.addr[1])
	le.PutUint32(b[16:], c.ports)
	le.PutUint32(b[20:], c.flags)
	le.PutUint64(b[24:], c.seed)
	le.PutUint32(b[32:], c.size)
	le.PutUint32(b[36:], c.counter)
	le.PutUint32(b[40:], c.slots)
	le.PutUint32(b[44:], c.chains)
	le.PutUint32(b[52:], c.allow)
	le.PutUint16(b[56:], c.allowed)
	b[58] = c.mark
}

// perfect is a perfect hash: each key has a cell of its own.
type perfect struct {
	seed     uint64
	displace [buckets]uint32
	cells    []uint32 // of the keys, in their order
}

// findPerfect displaces each bucket of keys, the fullest first, so that none of its keys meets another. With at most half of the
// cells in use the first seed nearly always does.
func findPerfect(keys []key) (*perfect, error) {
	for seed := range uint64(1000) {
		if p, ok := tryPerfect(keys, seed); ok {
			return p, nil
		}
	}
	return nil, errors.New("no perfect hash of the listeners was found; is one there twice?")
}

func tryPerfect(keys []key, seed uint64) (*perfect, bool) {
	p := &perfect{seed: seed, cells: make([]uint32, len(keys))}
	hashes := make([]uint64, len(keys))
	members := make([][]int, buckets)
	for i, k := range keys {
		hashes[i] = k.hash(seed)
		b := hashes[i] % buckets
		members[b] = append(members[b], i)
	}
	order := make([]int, buckets)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(members[b]) - len(members[a]) })
	var used [maxCells]bool
	for _, b := range order {
		if !p.settle(uint32(b), members[b], hashes, &used) {
			return nil, false
		}
	}
	return p, true
}

// settle finds a displacement with which all members of a bucket have free cells.
func (p *perfect) settle(bucket uint32, members []int, hashes []uint64, used *[maxCells]bool) bool {
next:
	for d := range uint32(maxCells) {
		for n, i := range members {
			c := (uint32(hashes[i]>>32) ^ d) % maxCells
			if used[c] {
				for _, j := range members[:n] {
					used[p.cells[j]] = false
				}
				continue next
			}
			used[c], p.cells[i] = true, c
		}
		p.displace[bucket] = d
		return true
	}
	return false
}

// encodeState writes a struct state. cells[i] is at p.cells[i].
func encodeState(p *perfect, cells []cell, servers map[lb.MAC]uint16) []byte {
	b := make([]byte, stateBytes)
	binary.LittleEndian.PutUint64(b, p.seed)
	for i := range cells {
		cells[i].put(b[cellsAt+int(p.cells[i])*cellBytes:])
	}
	for i, d := range p.displace {
		binary.LittleEndian.PutUint32(b[displaceAt+i*4:], d)
	}
	for mac, i := range servers {
		copy(b[serversAt+int(i)*serverBytes:], mac[:])
	}
	return b
}

// encodeAllow writes the allowed clients as ascending, disjoint intervals, and says how many they are.
func encodeAllow(prefixes []netip.Prefix) ([]byte, int) {
	// Prefixes hold each other or are apart: those that are held begin behind, and end before.
	sorted := slices.SortedFunc(slices.Values(prefixes), func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var b []byte
	var last netip.Prefix
	n := 0
	for _, p := range sorted {
		if last.IsValid() && last.Overlaps(p) {
			continue
		}
		last = p
		n++
		if p.Addr().Is4() {
			a := p.Addr().As4()
			first := binary.BigEndian.Uint32(a[:])
			b = binary.LittleEndian.AppendUint32(b, first)
			b = binary.LittleEndian.AppendUint32(b, first|uint32(uint64(1)<<(32-p.Bits())-1))
			continue
		}
		a := p.Addr().As16()
		high, low := binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
		high2, low2 := high, ^uint64(0)
		if p.Bits() <= 64 {
			high2 |= ^uint64(0) >> p.Bits()
		} else {
			low2 = low | ^uint64(0)>>(p.Bits()-64)
		}
		for _, w := range []uint64{high, low, high2, low2} {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	return b, n
}
