package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"

	"padis.io/padis/executor/lb"
)

const (
	directors = 8
	// killed is the director that dies when half of the changes are done.
	killed = 2
	// drain is how many changes a draining server lives on.
	drain  = 3
	nobody = -1

	syn, ack = 0x02, 0x10
)

type config struct {
	flows, changes, servers, slots int
	seed                           uint64
}

type result struct {
	moved, packets int
	// relayed is the sum of hops from server to server, hops the most that one packet made, the director's included.
	relayed, hops int
	// repeated counts the packets that were lost because hosts were late.
	repeated int
	// routed counts, by router, the flows that have another director after one of 8 died.
	routed map[string]int
	chain  float64
}

// add sums up what parts have counted.
func (r *result) add(o result) {
	r.moved, r.packets, r.relayed, r.repeated = r.moved+o.moved, r.packets+o.packets, r.relayed+o.relayed, r.repeated+o.repeated
	r.hops = max(r.hops, o.hops)
}

// version is a generation of the services of both families, as one host has it.
type version struct{ four, six *lb.Generation }

func (v version) tables() (*lb.Tables, error) { return lb.NewTables(v.four, v.six) }

// farm is the state of all hosts. Servers are numbered from 0 in the order in which they came; the number is in their MAC.
type farm struct {
	servers []lb.Server // Dead ones, too, so that numbers stay
	left    []int       // changes until a draining server is dead
	flows   []lb.Tuple
	holder  []int // by flow: the server that has its socket
	alive   []int // directors
	slots   int

	before, now *lb.Tables
	// late tells who still has the tables before; directors only when no host is late.
	lateHost, lateDirector func(int) bool
}

func nobodyIsLate(int) bool { return false }

func serverMAC(n int) lb.MAC { return lb.MAC{0x02, 0x42, 10, 0, byte(n >> 8), byte(n)} }

func directorMAC(n int) lb.MAC { return lb.MAC{0x02, 0x42, 10, 1, 0, byte(n)} }

func newServer(n int) lb.Server {
	return lb.Server{ID: fmt.Sprintf("shop/web-%d", n), MAC: serverMAC(n), Weight: 1}
}

// flow makes the n-th flow: three of four IPv4; few networks have most of the clients.
func flow(r *rand.Rand, n int) lb.Tuple {
	net := byte(r.ExpFloat64() * 20)
	t := lb.Tuple{SrcPort: uint16(1024 + r.IntN(64512)), DstPort: 443, Protocol: lb.TCP}
	if n%4 != 0 {
		t.Src, t.Dst = netip.AddrFrom4([4]byte{100, net, byte(r.Uint32()), byte(r.Uint32())}), vip4
		return t
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, net}
	binary.BigEndian.PutUint64(a[8:], r.Uint64())
	t.Src, t.Dst = netip.AddrFrom16(a), vip6
	return t
}

var vip4, vip6 = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:ffff::7")

// frame writes a TCP segment without payload of the flow, to the director.
func frame(b []byte, t lb.Tuple, director int, flags byte) []byte {
	to := directorMAC(director)
	b = append(append(b[:0], to[:]...), 0x02, 0, 0, 0, 0, 1)
	if t.Src.Is4() {
		src, dst := t.Src.As4(), t.Dst.As4()
		b = append(b, 0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, lb.TCP, 0, 0)
		b = append(append(b, src[:]...), dst[:]...)
	} else {
		src, dst := t.Src.As16(), t.Dst.As16()
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, lb.TCP, 64)
		b = append(append(b, src[:]...), dst[:]...)
	}
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, t.SrcPort), t.DstPort)
	return append(b, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
}

// send carries a packet of flow n from a director on. It returns the server that takes it, or nobody, whether it does so as the
// holder of its socket, and the number of hops.
func (f *farm) send(room []byte, n, director int, flags byte) (server int, v lb.Verdict, hops int) {
	b := frame(room, f.flows[n], director, flags)
	v = lb.Decide(b, directorMAC(director), f.table(director, f.lateDirector))
	server = nobody
	for ; v.Action == lb.Forward; hops++ {
		copy(b, v.DstMAC[:])
		copy(b[6:], v.SrcMAC[:])
		server = int(v.DstMAC[4])<<8 | int(v.DstMAC[5])
		if f.servers[server].State == lb.Dead {
			return nobody, v, hops + 1
		}
		v = lb.Relay(b, v.DstMAC, f.table(server, f.lateHost), func(p lb.Packet) bool { return f.holder[n] == server && p.Tuple == f.flows[n] })
	}
	if v.Action == lb.Drop {
		return nobody, v, hops
	}
	return server, v, hops
}

func (f *farm) table(host int, late func(int) bool) *lb.Tables {
	if late(host) {
		return f.before
	}
	return f.now
}

// check sends a packet of every step-th flow from first on whose server lives, through the director that the router chooses. A flow has moved if
// anybody but its holder answers; a packet that is lost while hosts are late is repeated by the client.
func (f *farm) check(first, step, router int, settled bool) result {
	parts := make([]result, runtime.GOMAXPROCS(0))
	var wait sync.WaitGroup
	for part := range parts {
		wait.Go(func() {
			r, room := &parts[part], make([]byte, 0, 128)
			for n := first + part*step; n < len(f.flows); n += step * len(parts) {
				if f.servers[f.holder[n]].State == lb.Dead {
					continue // its socket is gone
				}
				server, v, hops := f.send(room, n, routers[router].choose(mix(uint64(n)), f.alive), ack)
				r.packets, r.relayed, r.hops = r.packets+1, r.relayed+max(hops-1, 0), max(r.hops, hops)
				switch {
				case server == f.holder[n] && v.Reason == lb.Held:
				case server == nobody && !settled:
					r.repeated++
				default:
					r.moved++
				}
			}
		})
	}
	wait.Wait()
	var sum result
	for _, p := range parts {
		sum.add(p)
	}
	return sum
}
