package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/tcx"
)

const (
	flows      = 1_000_000
	frameBytes = 74
	manyVIPs   = 1000
)

// measurement is one program on one kind of frames.
type measurement struct {
	name    string
	program *ebpf.Program
	frame   []byte
	wants   uint32 // what it must return; any if that is anything
	any     bool
	// above, if any, is taken off: the feed with a program that passes.
	above, floor *measurement
	ns           []float64
}

type bench struct {
	options
	closers  []io.Closer
	all      []*measurement
	verdicts []string
	set      time.Duration
}

func (b *bench) keep(c io.Closer) { b.closers = append(b.closers, c) }

func (b *bench) close() {
	for _, c := range slices.Backward(b.closers) {
		c.Close()
	}
}

func (b *bench) add(m *measurement) *measurement {
	b.all = append(b.all, m)
	return m
}

// flow is struct flow of bpf/feed.c.
type flow struct {
	Src, Dst     [4]byte
	Sport, Dport [2]byte
}

func (f flow) tuple() lb.Tuple {
	return lb.Tuple{Src: netip.AddrFrom4(f.Src), Dst: netip.AddrFrom4(f.Dst), SrcPort: binary.BigEndian.Uint16(f.Sport[:]),
		DstPort: binary.BigEndian.Uint16(f.Dport[:]), Protocol: lb.TCP}
}

func (f flow) frame(dst lb.MAC, flags byte) []byte {
	b := make([]byte, frameBytes)
	copy(b, dst[:])
	copy(b[6:], []byte{2, 0x42, 10, 0, 0, 1, 8, 0, 0x45, 0, 0, frameBytes - 14})
	b[22], b[23] = 64, lb.TCP
	copy(b[26:], f.Src[:])
	copy(b[30:], f.Dst[:])
	copy(b[34:], f.Sport[:])
	copy(b[36:], f.Dport[:])
	b[46], b[47] = 5<<4, flags
	return b
}

const (
	flagSYN = 0x02
	flagACK = 0x10
)

func vip(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }

func randomFlow(r *rand.Rand, vips int) flow {
	f := flow{Dst: vip(r.IntN(vips)).As4(), Dport: [2]byte{0, 80}}
	binary.BigEndian.PutUint32(f.Src[:], r.Uint32())
	binary.BigEndian.PutUint16(f.Sport[:], uint16(1024+r.IntN(64512)))
	return f
}

func (b *bench) generations(vips int, size uint32, allow []netip.Prefix) ([]*lb.Generation, error) {
	servers := make([]lb.Server, b.servers)
	for i := range servers {
		servers[i] = lb.Server{ID: fmt.Sprintf("s%05d", i), MAC: lb.MAC{2, 0x42, 10, 1, byte(i >> 8), byte(i)}, Weight: 1}
	}
	gs := make([]*lb.Generation, vips)
	for i := range gs {
		g, err := lb.Next(nil, lb.Service{VIP: vip(i), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, TableSize: size, Seed: 5, Allow: allow}, servers)
		if err != nil {
			return nil, err
		}
		gs[i] = g
	}
	return gs, nil
}

// farm is services, and a director for each way in.
type farm struct {
	name string
	own  lb.MAC
	hot  flow
	gs   []*lb.Generation
}

func (b *bench) farm(name string, vips int, size uint32, allow []netip.Prefix) (*farm, error) {
	gs, err := b.generations(vips, size, allow)
	if err != nil {
		return nil, err
	}
	f := &farm{name: name, gs: gs, hot: randomFlow(rand.New(rand.NewPCG(1, 1)), vips)}
	// The director has the address of the server that the hot flow goes to: what it has rewritten is for it again, and the next
	// run does the same.
	i := slices.IndexFunc(gs, func(g *lb.Generation) bool { return g.Service.VIP.As4() == f.hot.Dst })
	f.own = gs[i].Owner(gs[i].Service.Slot(f.hot.tuple())).MAC
	return f, nil
}

func (b *bench) load(f *farm, mode tcx.Mode) (*ebpf.Program, error) {
	d, err := tcx.Load(tcx.Options{Mode: mode, MAC: f.own, Services: len(f.gs)})
	if err != nil {
		return nil, err
	}
	b.keep(d)
	began := time.Now()
	if err := d.Set(f.gs...); err != nil {
		return nil, err
	}
	if len(f.gs) == manyVIPs {
		b.set = time.Since(began)
	}
	return d.Program(), nil
}

// way is one of the two ways in.
type way struct {
	name     string
	mode     tcx.Mode
	forward  uint32 // what forwarding returns
	pass     uint32
	like     ebpf.ProgramSpec // what programs that call each other have in common
	passName string
}

var ways = []way{
	{"xdp", tcx.DirectorXDP, 3, 2, ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, Flags: xdpFrags}, "pass_xdp"},
	{"tcx", tcx.DirectorTCX, 7, 0xffffffff, ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress}, "pass_tcx"},
}

const xdpFrags = 1 << 5 // BPF_F_XDP_HAS_FRAGS

func (b *bench) oneVIP() error {
	plain, err := b.farm("", 1, lb.DefaultTableSize, nil)
	if err != nil {
		return err
	}
	var prefixes []netip.Prefix
	for i := range 16 {
		prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i * 16)}), 4))
	}
	allow, err := b.farm("_allow16", 1, lb.DefaultTableSize, prefixes)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(2, 2))
	uniform, zipf := make([]flow, flows), make([]flow, flows)
	for i := range uniform {
		uniform[i] = randomFlow(r, 1)
	}
	z := rand.NewZipf(r, 1.1, 1, flows-1)
	for i := range zipf {
		zipf[i] = uniform[z.Uint64()]
	}
	for _, w := range ways {
		program, err := b.load(plain, w.mode)
		if err != nil {
			return err
		}
		b.add(&measurement{name: w.name + "_ns_hit_hot", program: program, frame: plain.hot.frame(plain.own, flagACK), wants: w.forward})
		b.add(&measurement{name: w.name + "_ns_syn_hot", program: program, frame: plain.hot.frame(plain.own, flagSYN), wants: w.forward})
		for name, sequence := range map[string][]flow{"_ns_hit_zipf": zipf, "_ns_hit_uniform": uniform} {
			if err := b.fed(w, w.name+name, program, plain, sequence); err != nil {
				return err
			}
		}
		if program, err = b.load(allow, w.mode); err != nil {
			return err
		}
		b.add(&measurement{name: w.name + "_ns_hit_hot_allow16", program: program, frame: allow.hot.frame(allow.own, flagACK), wants: w.forward})
	}
	return nil
}

func (b *bench) manyVIPs() error {
	f, err := b.farm("_1000_vips", manyVIPs, 16381, nil)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(3, 3))
	uniform := make([]flow, flows)
	for i := range uniform {
		uniform[i] = randomFlow(r, manyVIPs)
	}
	for _, w := range ways {
		program, err := b.load(f, w.mode)
		if err != nil {
			return err
		}
		b.add(&measurement{name: w.name + "_ns_hit_hot_1000_vips", program: program, frame: f.hot.frame(f.own, flagACK), wants: w.forward})
		if err := b.fed(w, w.name+"_ns_hit_uniform_1000_vips", program, f, uniform); err != nil {
			return err
		}
	}
	return nil
}

// fed measures a program behind the feed, and the feed with a program that passes.
func (b *bench) fed(w way, name string, program *ebpf.Program, f *farm, sequence []flow) error {
	frame := sequence[0].frame(f.own, flagACK)
	feed, _, err := b.feed(w, program, f.own, sequence)
	if err != nil {
		return err
	}
	nothing, pass, err := b.feed(w, nil, f.own, sequence)
	if err != nil {
		return err
	}
	b.add(&measurement{name: name, program: feed, frame: frame, wants: w.forward,
		above: b.add(&measurement{program: nothing, frame: frame, wants: w.pass}),
		floor: b.add(&measurement{program: pass, frame: frame, wants: w.pass})})
	return nil
}

// feed loads one that goes on in a program, or in its own that passes.
func (b *bench) feed(w way, program *ebpf.Program, own lb.MAC, sequence []flow) (feed, pass *ebpf.Program, err error) {
	spec, err := loadFeed()
	if err != nil {
		return nil, nil, err
	}
	feedName := "feed_" + w.passName[len("pass_"):]
	for name, p := range spec.Programs {
		if name != feedName && name != w.passName {
			delete(spec.Programs, name)
			continue
		}
		p.Flags, p.AttachType = w.like.Flags, w.like.AttachType
	}
	if err := spec.Variables["dst"].Set(own); err != nil {
		return nil, nil, err
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range c.Programs {
		b.keep(p)
	}
	for _, m := range c.Maps {
		b.keep(m)
	}
	keys := make([]uint32, len(sequence))
	for i := range keys {
		keys[i] = uint32(i)
	}
	if _, err := c.Maps["flows"].BatchUpdate(keys, sequence, nil); err != nil {
		return nil, nil, fmt.Errorf("flows: %w", err)
	}
	feed, pass = c.Programs[feedName], c.Programs[w.passName]
	if program == nil {
		program = pass
	}
	return feed, pass, c.Maps["measured"].Put(uint32(0), program)
}
