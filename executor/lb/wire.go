package lb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
)

// The first byte of what is sent: what it is, and the version of its layout.
const (
	wireGeneration = 0x11
	wireChange     = 0x21
)

// Encode writes a generation. Layout, version 1; uvarints as in encoding/binary, all else fixed:
//
//	byte 0x11; uvarint number
//	service: byte length of VIP (4, 16), VIP; byte protocol; uint16 first and last port, big-endian; byte scheduler;
//	         uvarint table size; uint64 seed, little-endian; uvarint number of prefixes, each: byte length, address, byte bits
//	servers: uvarint number, each: byte length of ID, ID; 6 bytes MAC; uvarint weight; byte state
//	chains:  uvarint number of different chains, in the order in which slots have them, each: byte length, uvarints
//	slots:   for each slot the uvarint number of its chain
//
// A fresh service with 65537 slots and 100 servers has 66 kB.
func (g *Generation) Encode() []byte {
	b := binary.AppendUvarint([]byte{wireGeneration}, g.Number)
	b = appendService(b, &g.Service)
	b = appendServers(b, g.Servers)
	known := map[[MaxChain]uint16]uint64{}
	numbers := make([]uint64, g.Service.TableSize)
	var chains []byte
	for slot := range g.Service.TableSize {
		chain := g.Chain(slot)
		var key [MaxChain]uint16
		for i := range key {
			key[i] = nobody
		}
		copy(key[:], chain)
		number, ok := known[key]
		if !ok {
			number = uint64(len(known))
			known[key] = number
			chains = append(chains, byte(len(chain)))
			for _, e := range chain {
				chains = binary.AppendUvarint(chains, uint64(e))
			}
		}
		numbers[slot] = number
	}
	b = append(binary.AppendUvarint(b, uint64(len(known))), chains...)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// Decode reads what Encode wrote, and refuses what no director or relay could use.
func Decode(b []byte) (*Generation, error) {
	r := reader{b: b}
	r.kind(wireGeneration)
	g := &Generation{Number: r.uvarint(math.MaxUint64)}
	r.service(&g.Service)
	g.Servers = r.servers()
	for i := range g.Servers {
		if g.Servers[i].State == Dead {
			r.fail("server %q is dead, generations list the living only", g.Servers[i].ID)
		}
	}
	size := g.Service.TableSize
	if r.err == nil && int(size) > len(r.b) { // a byte a slot at least; before room is made for them
		r.fail("%d bytes for a table of %d slots", len(r.b), size)
	}
	chains := make([][]uint16, r.uvarint(uint64(size)))
	for i := range chains {
		chains[i] = r.chain(len(g.Servers))
	}
	if len(chains) == 0 {
		r.fail("no chains")
	}
	if r.err != nil {
		return nil, r.err
	}
	numbers, total := make([]uint32, size), 0
	for slot := range numbers {
		n := r.uvarint(uint64(len(chains)) - 1)
		numbers[slot] = uint32(n)
		total += len(chains[n])
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	g.ends, g.entries = make([]uint32, size), make([]uint16, 0, total)
	for slot, n := range numbers {
		g.entries = append(g.entries, chains[n]...)
		g.ends[slot] = uint32(len(g.entries))
	}
	return g, nil
}

// Digest is equal for equal generations.
func (g *Generation) Digest() uint64 {
	h := fnv.New64a()
	h.Write(g.Encode())
	return h.Sum64()
}

// Change is all that a host needs that has the generation before: some kilobytes instead of a table.
type Change struct {
	Service Service
	Servers []Server
	// From and To are numbers of generations, Digest is that of To.
	From, To, Digest uint64
}

// ChangeTo is the change from prev to g, which Next made of it.
func (g *Generation) ChangeTo(prev *Generation) Change {
	return Change{Service: g.Service, Servers: g.Servers, From: prev.Number, To: g.Number, Digest: g.Digest()}
}

// ErrWhole says that a change does not lead from the generation that is here to the one it names: ask for the whole.
var ErrWhole = errors.New("the change does not fit: ask for the whole generation")

// Apply is the generation that c leads to. ErrWhole if g is not the one it begins with, or another program made it.
func (g *Generation) Apply(c Change) (*Generation, error) {
	if g.Number != c.From {
		return nil, fmt.Errorf("service %s has generation %d, the change begins with %d: %w", g.Service, g.Number, c.From, ErrWhole)
	}
	next, err := Next(g, c.Service, c.Servers)
	if err != nil {
		return nil, err
	}
	if next.Number != c.To || next.Digest() != c.Digest {
		return nil, fmt.Errorf("service %s: generation %d is another here: %w", g.Service, c.To, ErrWhole)
	}
	return next, nil
}

// Encode writes a change: byte 0x21; uvarints from, to; uint64 digest, little-endian; service and servers as in a generation.
func (c Change) Encode() []byte {
	b := binary.AppendUvarint(binary.AppendUvarint([]byte{wireChange}, c.From), c.To)
	b = binary.LittleEndian.AppendUint64(b, c.Digest)
	return appendServers(appendService(b, &c.Service), c.Servers)
}

// DecodeChange reads what Change.Encode wrote.
func DecodeChange(b []byte) (Change, error) {
	r := reader{b: b}
	r.kind(wireChange)
	c := Change{From: r.uvarint(math.MaxUint64), To: r.uvarint(math.MaxUint64), Digest: r.uint64()}
	r.service(&c.Service)
	c.Servers = r.servers()
	return c, r.end()
}

func appendService(b []byte, s *Service) []byte {
	b = append(appendAddr(b, s.VIP), s.Protocol)
	b = binary.BigEndian.AppendUint16(b, s.Ports.First)
	b = binary.BigEndian.AppendUint16(b, s.Ports.Last)
	b = binary.AppendUvarint(append(b, byte(s.Scheduler)), uint64(s.TableSize))
	b = binary.LittleEndian.AppendUint64(b, s.Seed)
	b = binary.AppendUvarint(b, uint64(len(s.Allow)))
	for _, p := range s.Allow {
		b = append(appendAddr(b, p.Addr()), byte(p.Bits()))
	}
	return b
}

func appendAddr(b []byte, a netip.Addr) []byte {
	return append(append(b, byte(a.BitLen()/8)), a.AsSlice()...)
}

func appendServers(b []byte, servers []Server) []byte {
	b = binary.AppendUvarint(b, uint64(len(servers)))
	for _, s := range servers {
		b = append(append(b, byte(len(s.ID))), s.ID...)
		b = append(binary.AppendUvarint(append(b, s.MAC[:]...), uint64(s.Weight)), byte(s.State))
	}
	return b
}

// reader reads from b until something does not fit; from then on it gives zeros and keeps the error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("load balancer table: "+format, args...)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("ends %d bytes early", n-len(r.b))
		return make([]byte, n)
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *reader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.fail("a number is missing or above %d", most)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) kind(want byte) {
	if got := r.byte(); got != want {
		r.fail("begins with %#02x, this program reads %#02x: bring sender and reader to one version", got, want)
	}
}

func (r *reader) addr() netip.Addr {
	n := r.byte()
	if n != 4 && n != 16 {
		r.fail("an address of %d bytes", n)
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(r.take(int(n)))
	return a
}

func (r *reader) service(s *Service) {
	s.VIP, s.Protocol = r.addr(), r.byte()
	s.Ports = Ports{r.uint16(), r.uint16()}
	s.Scheduler = Scheduler(r.byte())
	s.TableSize, s.Seed = uint32(r.uvarint(MaxTableSize)), r.uint64()
	for range r.uvarint(MaxAllow) {
		a := r.addr()
		s.Allow = append(s.Allow, netip.PrefixFrom(a, int(r.byte())))
	}
	if r.err != nil {
		return
	}
	if err := s.validate(); err != nil {
		r.fail("%w", err)
	}
}

func (r *reader) servers() []Server {
	n := r.uvarint(MaxServers)
	if n > uint64(len(r.b)) {
		r.fail("%d bytes for %d servers", len(r.b), n)
		n = 0
	}
	servers := make([]Server, 0, n)
	for range n {
		servers = append(servers, Server{ID: string(r.take(int(r.byte()))), MAC: MAC(r.take(6)), Weight: uint32(r.uvarint(MaxWeight)), State: State(r.byte())})
	}
	if r.err == nil {
		if err := validateServers(servers); err != nil {
			r.fail("%w", err)
		}
	}
	return servers
}

func (r *reader) chain(servers int) []uint16 {
	n := int(r.byte())
	if n > MaxChain {
		r.fail("a chain of %d servers, at most %d", n, MaxChain)
		return nil
	}
	chain := make([]uint16, 0, n)
	for range n {
		e := r.uvarint(MaxServers)
		if int(e) >= servers {
			r.fail("a chain names server %d of %d", e, servers)
		}
		for _, other := range chain {
			if uint64(other) == e {
				r.fail("a chain names server %d twice", e)
			}
		}
		chain = append(chain, uint16(e))
	}
	return chain
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}
