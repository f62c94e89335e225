package nft

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"

	"padis.io/padis/executor/lb"
)

// plan is what the kernel shall have, as values.
type plan struct {
	// Owners of slots by the names of tables.
	tables map[string][]lb.MAC
	// kinds are the ways in which flows are placed; each is two chains.
	kinds    []kind
	services []service
}

// kind is what services may have in common.
type kind struct {
	six, source bool
	seed        uint32
	size        uint32
	// Name of the table.
	table string
	// Text of allow.
	clients string
	allow   []netip.Prefix
}

type service struct {
	vip         netip.Addr
	protocol    uint8
	first, last uint16
	kind        int
}

func newPlan(generations []*lb.Generation) plan {
	p := plan{tables: map[string][]lb.MAC{}}
	type key struct {
		six, source bool
		seed        uint32
		table       string
		clients     string
	}
	kinds := map[key]int{}
	for _, g := range generations {
		s := &g.Service
		name, owners := table(g)
		p.tables[name] = owners
		allow := outermost(s.Allow)
		var clients []byte
		for _, a := range allow {
			clients = append(a.AppendTo(clients), ' ')
		}
		k := key{s.VIP.Is6(), s.Scheduler == lb.SourceHash, seed(s.Seed), name, string(clients)}
		i, ok := kinds[k]
		if !ok {
			i = len(p.kinds)
			kinds[k] = i
			p.kinds = append(p.kinds, kind{six: k.six, source: k.source, seed: k.seed, size: s.TableSize, table: name, clients: k.clients, allow: allow})
		}
		p.services = append(p.services, service{s.VIP, s.Protocol, s.Ports.First, s.Ports.Last, i})
	}
	slices.SortFunc(p.services, func(a, b service) int {
		return cmp.Or(a.vip.Compare(b.vip), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first))
	})
	return p
}

// equal needs not look into tables: their names say what is in them.
func (p plan) equal(q plan) bool {
	return slices.Equal(p.services, q.services) && slices.EqualFunc(p.kinds, q.kinds, func(a, b kind) bool {
		return a.six == b.six && a.source == b.source && a.seed == b.seed && a.size == b.size && a.table == b.table && a.clients == b.clients
	})
}

// seed is never 0, for which the kernel would take one of its own.
func seed(s uint64) uint32 { return max(1, uint32(s)^uint32(s>>32)) }

// table is a table by what is in it: services with the same owners share it. A slot without owner has a zero address.
func table(g *lb.Generation) (string, []lb.MAC) {
	owners := make([]lb.MAC, g.Service.TableSize)
	h := sha256.New()
	for slot := range owners {
		if s := g.Owner(uint32(slot)); s != nil {
			owners[slot] = s.MAC
		}
		h.Write(owners[slot][:])
	}
	return "t" + hex.EncodeToString(h.Sum(nil)[:12]), owners
}

// outermost leaves out prefixes that are within others: nf_tables takes no range twice.
func outermost(all []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range sorted {
		if n := len(out); n == 0 || !out[n-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// ends are the first and the last address of a prefix.
func ends(p netip.Prefix) (first, last []byte) {
	first = p.Addr().AsSlice()
	last = slices.Clone(first)
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	return first, last
}

// Keys of sets: each field fills up four bytes.

// serviceKey is address . protocol . port.
func serviceKey(s service, port uint16) []byte {
	b := append(s.vip.AsSlice(), s.protocol, 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

// clientKey is address . port.
func clientKey(address []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(slices.Clone(address), port), 0, 0)
}
