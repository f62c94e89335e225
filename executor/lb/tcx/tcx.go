// Package tcx puts services in force in the kernel, by eBPF: a director's program rewrites the destination of frames to the real
// server that owns the slot of their flow, at tcx ingress or at XDP; a relay's program, on the host ends of real servers (tcx
// egress), sends on what its instance does not have. Their decisions are those of Decide and Relay of executor/lb, which the
// tests compare on random frames. Kernels from 6.6 have tcx, from 5.9 the XDP that is needed. Edge: talks to the kernel by bpf(2).
package tcx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"padis.io/padis/executor/lb"
)

// Mode says what a Dataplane is, and where its program hangs.
type Mode uint8

// DirectorTCX works on every interface. DirectorXDP asks the driver for XDP: least work per packet; a veth needs a program (or
// GRO) at its peer too, or it drops what is sent back. DirectorXDPGeneric is XDP without the driver, for tests. Relay is for
// hosts of real servers.
const (
	DirectorTCX Mode = iota
	DirectorXDP
	DirectorXDPGeneric
	Relay
)

func (m Mode) String() string {
	return [...]string{"tcx", "xdp", "xdp generic", "relay"}[m&3]
}

// Options are what cannot be changed after Load.
type Options struct {
	Mode Mode
	// MAC is the director's address: only frames to it are looked at. Relays have one per port.
	MAC lb.MAC
	// Out is the index of the interface that directors send by, 0 for the one that a frame came in by.
	Out int
	// Services is how many services can have counters, thus be in force, at one time; 0 means 1024. At most 2048. Each takes
	// 128 bytes per processor.
	Services int
	// Pin is a folder in a BPF file system in which the attachments are kept when the process ends, with what is in force: for
	// relays, whose flows should not notice that the executor is replaced. Attach of the next process takes them over in one
	// step, so Set comes before Attach. Empty: all ends with the process, or with Close.
	Pin string
}

// Dataplane is a loaded program with its tables. Its methods may be called at the same time.
type Dataplane struct {
	options  Options
	program  *ebpf.Program
	maps     map[string]*ebpf.Map
	closers  []io.Closer
	mu       sync.Mutex
	plan     *plan
	pages    []*ebpf.Memory
	state    *ebpf.Map
	attached map[int]attachment
}

// Load brings the program into the kernel. It passes every packet until Set has been called.
func Load(o Options) (*Dataplane, error) {
	if o.Services == 0 {
		o.Services = 1024
	}
	if o.Services < 0 || o.Services > maxListens {
		return nil, fmt.Errorf("services %d: give 1 to %d", o.Services, maxListens)
	}
	if o.Mode != Relay && (o.MAC == lb.MAC{} || o.MAC[0]&1 == 1) {
		return nil, fmt.Errorf("mac %s of a director: give the unicast address of its interface", o.MAC)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("limit of locked memory: %w; run as root", err)
	}
	d := &Dataplane{options: o, maps: map[string]*ebpf.Map{}, plan: newPlan(o.Mode == Relay, o.Services), attached: map[int]attachment{}}
	spec, name, err := d.spec()
	if err != nil {
		return nil, err
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load eBPF program %s: %w", name, err)
	}
	d.program = c.Programs[name]
	d.maps = c.Maps
	d.closers = append(d.closers, d.program)
	for _, m := range c.Maps {
		d.closers = append(d.closers, m)
	}
	if o.Mode.xdp() && o.Out != 0 {
		if err := d.maps[directorMapDevice].Put(uint32(0), uint32(o.Out)); err != nil {
			d.Close()
			return nil, fmt.Errorf("out %d: %w; give the index of an interface of this network namespace", o.Out, err)
		}
	}
	return d, nil
}

func (m Mode) xdp() bool { return m == DirectorXDP || m == DirectorXDPGeneric }

// spec is the object with the one program that the mode needs, and its constants set.
func (d *Dataplane) spec() (*ebpf.CollectionSpec, string, error) {
	load, name, other := loadDirector, directorProgDirectorTcx, directorProgDirectorXdp
	switch {
	case d.options.Mode == Relay:
		load, name = loadRelay, relayProgRelayTcx
	case d.options.Mode.xdp():
		name, other = other, name
	}
	spec, err := load()
	if err != nil {
		return nil, "", err
	}
	delete(spec.Programs, other)
	spec.Maps[directorMapCounters].MaxEntries = uint32(d.options.Services) + 1
	if states := spec.Maps[directorMapStates].InnerMap; states.ValueSize != stateBytes {
		return nil, "", fmt.Errorf("the object's state has %d bytes, the encoder's %d: run make generate and build again", states.ValueSize, stateBytes)
	}
	if d.options.Mode == Relay {
		return spec, name, nil
	}
	mac := d.options.MAC
	for variable, value := range map[string]any{
		directorVarOwn4:     binary.LittleEndian.Uint32(mac[:4]),
		directorVarOwn2:     binary.LittleEndian.Uint16(mac[4:]),
		directorVarOwnLast4: binary.LittleEndian.Uint32(mac[2:]),
		directorVarOut:      uint32(d.options.Out),
	} {
		if err := spec.Variables[variable].Set(value); err != nil {
			return nil, "", fmt.Errorf("constant %s: %w", variable, err)
		}
	}
	return spec, name, nil
}

// Set puts exactly these services in force, all at one instant: packets see what was before or what comes now. Generations that
// are the same (the same pointer) cost nothing. It returns when no packet uses the old tables any more; on an error they stay
// in force.
func (d *Dataplane) Set(generations ...*lb.Generation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.plan == nil {
		return errClosed
	}
	step, err := d.plan.next(generations)
	if err != nil {
		return err
	}
	if err := d.write(step); err != nil {
		return err
	}
	state, memory, err := newInner("state", stateBytes)
	if err != nil {
		return err
	}
	if _, err := memory.WriteAt(step.state, 0); err != nil {
		return errors.Join(fmt.Errorf("write state: %w", err), state.Close())
	}
	// The kernel replaces the pointer, then waits until no program uses the old one.
	if err := d.maps[directorMapStates].Put(uint32(0), state); err != nil {
		return errors.Join(fmt.Errorf("put state in force: %w", err), state.Close())
	}
	if d.state != nil {
		d.state.Close()
	}
	d.state = state
	d.plan = step.done()
	return nil
}

var errClosed = errors.New("the dataplane is closed: load another")

// write writes the new tables beside those in force, and begins the counters of new services.
func (d *Dataplane) write(s *step) error {
	for len(d.pages) < s.next.arena.pages {
		page, memory, err := newInner("page", pageBytes)
		if err != nil {
			return err
		}
		err = d.maps[directorMapPages].Put(uint32(len(d.pages)), page)
		page.Close() // the map holds it, memory its mapping
		if err != nil {
			return fmt.Errorf("add page %d: %w", len(d.pages), err)
		}
		d.pages = append(d.pages, memory)
	}
	for _, w := range s.writes {
		page, offset := w.position/pageUnits, int64(w.position%pageUnits)*unit
		if _, err := d.pages[page].WriteAt(w.bytes, offset); err != nil {
			return fmt.Errorf("write page %d: %w", page, err)
		}
	}
	zero := make([]counter, ebpf.MustPossibleCPU())
	for _, c := range s.fresh {
		if err := d.maps[directorMapCounters].Put(c, zero); err != nil {
			return fmt.Errorf("clear counter %d: %w", c, err)
		}
	}
	return nil
}

// newInner makes one of the maps that are in others, and maps its memory.
func newInner(what string, size uint32) (*ebpf.Map, *ebpf.Memory, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: what, Type: ebpf.Array, KeySize: 4, ValueSize: size, MaxEntries: 1, Flags: mmapable})
	if err != nil {
		return nil, nil, fmt.Errorf("make %s: %w", what, err)
	}
	memory, err := m.Memory()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("map %s: %w", what, err), m.Close())
	}
	return m, memory, nil
}

// mmapable is BPF_F_MMAPABLE.
const mmapable = 1 << 10

// Program is what is loaded, for tests and benchmarks that run it on frames of their own.
func (d *Dataplane) Program() *ebpf.Program { return d.program }

// Close detaches what is not pinned, and forgets the rest.
func (d *Dataplane) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, a := range d.attached {
		errs = append(errs, a.link.Close())
	}
	clear(d.attached)
	if d.state != nil {
		errs = append(errs, d.state.Close())
		d.state = nil
	}
	for _, c := range d.closers {
		errs = append(errs, c.Close())
	}
	d.closers, d.plan, d.pages = nil, nil, nil
	return errors.Join(errs...)
}
