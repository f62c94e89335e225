package tcx

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"padis.io/padis/executor/lb"
)

// frames makes frames: of flows to the services, whole, in fragments, with options and extension headers, ICMP errors about
// them, and of all that damaged.
type frames struct {
	r        *rand.Rand
	own      lb.MAC
	services []*lb.Service
	// flows, if any, are drawn from half of the time.
	flows []lb.Tuple
	// senders are source addresses of frames.
	senders []lb.MAC
	// wholeIP leaves out frames that are shorter than the header of IP: the kernel runs no tcx program on them.
	wholeIP bool
}

var (
	clients4 = netip.MustParsePrefix("192.0.2.0/24")
	clients6 = netip.MustParsePrefix("2001:db8:c::/112")
)

func (f *frames) chance(oneIn int) bool { return f.r.IntN(oneIn) == 0 }

func pick[T any](f *frames, of ...T) T { return of[f.r.IntN(len(of))] }

func (f *frames) address(six bool) netip.Addr {
	if six {
		a := clients6.Addr().As16()
		a[15], a[14] = byte(f.r.Uint32()), byte(f.r.IntN(2))
		return netip.AddrFrom16(a)
	}
	a := clients4.Addr().As4()
	a[3] = byte(f.r.Uint32())
	return netip.AddrFrom4(a)
}

func (f *frames) flow() lb.Tuple {
	if len(f.flows) > 0 && f.chance(2) {
		return pick(f, f.flows...)
	}
	s := pick(f, f.services...)
	t := lb.Tuple{Src: f.address(s.VIP.Is6()), Dst: s.VIP, SrcPort: uint16(f.r.Uint32()), Protocol: s.Protocol}
	t.DstPort = s.Ports.First + uint16(f.r.IntN(int(s.Ports.Last-s.Ports.First)+1))
	if f.chance(10) {
		t.DstPort = pick(f, 0, s.Ports.First-1, s.Ports.Last+1, uint16(f.r.Uint32()))
	}
	if f.chance(30) {
		t.Protocol = uint8(f.r.Uint32())
	}
	if f.chance(30) {
		t.Dst = f.address(s.VIP.Is6())
	}
	return t
}

// next is the next frame, of 14 bytes at least: on fewer the kernel runs no program.
func (f *frames) next() []byte {
	t := f.flow()
	packet := f.packet(t, f.transport(t))
	if f.chance(8) {
		packet = f.icmpError(t)
	}
	b := make([]byte, 0, 14+len(packet))
	dst := f.own
	if f.chance(50) {
		dst = lb.MAC{byte(f.r.Uint32()), dst[1], dst[2], dst[3], dst[4], dst[5]}
	}
	src := lb.MAC{2, 0x42, 10, 0, 0, 99}
	if len(f.senders) > 0 {
		src = pick(f, f.senders...)
	}
	b = append(append(b, dst[:]...), src[:]...)
	kind := uint16(0x0800)
	if t.Dst.Is6() {
		kind = 0x86dd
	}
	if f.chance(50) {
		kind = pick(f, uint16(0x0800), 0x86dd, 0x8100, 0x0806, uint16(f.r.Uint32()))
	}
	b = append(binary.BigEndian.AppendUint16(b, kind), packet...)
	if b = f.damage(b); f.wholeIP && len(b) < 54 && (b[12] == 0x86 || len(b) < 34) {
		return f.next()
	}
	return b
}

func (f *frames) damage(b []byte) []byte {
	switch f.r.IntN(12) {
	case 0: // padding
		b = append(b, make([]byte, f.r.IntN(60))...)
	case 1: // cut
		b = b[:14+f.r.IntN(len(b)-13)]
	case 2: // a few bytes of the headers are others
		for range 1 + f.r.IntN(3) {
			b[12+f.r.IntN(min(len(b)-12, 100))] = byte(f.r.Uint32())
		}
	case 3: // a bit is
		b[12+f.r.IntN(min(len(b)-12, 100))] ^= 1 << f.r.IntN(8)
	}
	return b
}

func (f *frames) transport(t lb.Tuple) []byte {
	b := make([]byte, 20, 60)
	if t.Protocol == lb.UDP {
		b = b[:8]
	}
	binary.BigEndian.PutUint16(b, t.SrcPort)
	binary.BigEndian.PutUint16(b[2:], t.DstPort)
	if t.Protocol != lb.UDP {
		binary.BigEndian.PutUint32(b[8:], f.r.Uint32())
		b[12], b[13] = 5<<4, pick(f, byte(0x02), 0x10, 0x18, 0x12, 0x04, 0x11, byte(f.r.Uint32()))
	}
	return append(b, make([]byte, f.r.IntN(40))...)
}

func (f *frames) packet(t lb.Tuple, payload []byte) []byte {
	if t.Dst.Is6() {
		return f.ip6(t.Src, t.Dst, t.Protocol, payload)
	}
	return f.ip4(t.Src, t.Dst, t.Protocol, payload)
}

func (f *frames) ip4(src, dst netip.Addr, protocol uint8, payload []byte) []byte {
	options := 0
	if f.chance(5) {
		options = f.r.IntN(11)
	}
	b := make([]byte, 20+options*4)
	b[0], b[8], b[9] = 4<<4|byte(5+options), 64, protocol
	binary.BigEndian.PutUint16(b[4:], uint16(f.r.IntN(40)))
	switch f.r.IntN(12) {
	case 0:
		binary.BigEndian.PutUint16(b[6:], 0x2000) // the first
	case 1:
		binary.BigEndian.PutUint16(b[6:], uint16(1+f.r.IntN(0x3fff)))
	case 2:
		binary.BigEndian.PutUint16(b[6:], 0x4000) // do not fragment
	}
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	return append(b, payload...)
}

func (f *frames) ip6(src, dst netip.Addr, protocol uint8, payload []byte) []byte {
	headers := 0
	if f.chance(3) {
		headers = f.r.IntN(11)
	}
	next := protocol
	var chain []byte
	for range headers {
		kind := pick(f, byte(0), 60, 43, 44)
		if kind == 44 && !f.chance(3) {
			kind = 60
		}
		var h []byte
		if kind == 44 {
			h = make([]byte, 8)
			h[7] = byte(f.r.IntN(40))
			binary.BigEndian.PutUint16(h[2:], pick(f, 0, 1, uint16(f.r.Uint32()), 6, 8))
		} else {
			length := pick(f, 0, 0, 1, f.r.IntN(4))
			if f.chance(300) {
				length = 100
			}
			h = make([]byte, 8+length*8)
			h[1] = byte(length)
			if f.chance(5) {
				h[3] = byte(f.r.IntN(2))
			}
		}
		h[0] = next
		next = kind
		chain = append(h, chain...)
	}
	b := make([]byte, 40)
	b[0], b[6], b[7] = 6<<4, next, 64
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	binary.BigEndian.PutUint16(b[4:], uint16(len(chain)+len(payload)))
	return slices.Concat(b, chain, payload)
}

// icmpError is what a router sends to the VIP about a packet that a real server sent to the client.
func (f *frames) icmpError(t lb.Tuple) []byte {
	back := lb.Tuple{Src: t.Dst, Dst: t.Src, SrcPort: t.DstPort, DstPort: t.SrcPort, Protocol: t.Protocol}
	if f.chance(20) {
		back.Src = f.address(t.Dst.Is6())
	}
	inner := f.packet(back, f.transport(back))
	if f.chance(4) {
		inner = inner[:f.r.IntN(len(inner)+1)]
	}
	router := f.address(t.Dst.Is6())
	if t.Dst.Is6() {
		m := []byte{pick(f, byte(1), 2, 3, 4, 128, 135, byte(f.r.Uint32())), 0, 0, 0, 0, 0, 5, 0}
		return f.ip6(router, t.Dst, 58, append(m, inner...))
	}
	m := []byte{pick(f, byte(3), 11, 12, 8, 0, 5, byte(f.r.Uint32())), 4, 0, 0, 0, 0, 5, 0}
	return f.ip4(router, t.Dst, 1, append(m, inner...))
}
