package tcx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"padis.io/padis/executor/lb"
)

// attachment is a program at an interface.
type attachment struct {
	link link.Link
	pin  string
}

// Attach hangs a director's program at an interface of this network namespace. An interface that has it already keeps it.
func (d *Dataplane) Attach(ifindex int) error {
	if d.options.Mode == Relay {
		return errors.New("a relay is attached to a port: use AttachPort")
	}
	return d.attach(ifindex)
}

// Port is the host end of a real server's interface.
type Port struct {
	// Index is the host end's. It is in the network namespace in which AttachPort is called.
	Index int
	// MAC is the instance's.
	MAC lb.MAC
	// Netns is the number by which the host's network namespace knows the instance's (ip netns list-id; RTM_GETNSID).
	Netns int
	// Out is the interface that relayed packets leave by: one end of a veth pair whose other end is a port of the bridge, with
	// the bridge's MTU, one pair for each bridge. There nothing guards against forged source addresses, as at the ports of
	// instances; and the way of one packet through several instances of a host is none of calls in calls, of which the kernel
	// allows eight: by the bridge's own device the fifth instance would not be reached. With Ingress it is an interface that
	// they come in by, such as the host end itself if it is not guarded.
	Out     int
	Ingress bool
}

// port is struct port of bpf/relay.c.
type port struct {
	First4 uint32
	Last2  uint16
	_      uint16
	Last4  uint32
	Netns  int32
	Out    uint32
	Flags  uint32
}

// AttachPort makes a host end relay. A port that does already is changed.
func (d *Dataplane) AttachPort(p Port) error {
	if d.options.Mode != Relay {
		return fmt.Errorf("mode %s: ports are for relays, use Attach", d.options.Mode)
	}
	v := port{First4: binary.LittleEndian.Uint32(p.MAC[:4]), Last2: binary.LittleEndian.Uint16(p.MAC[4:]),
		Last4: binary.LittleEndian.Uint32(p.MAC[2:]), Netns: int32(p.Netns), Out: uint32(p.Out)}
	if p.Ingress {
		v.Flags = 1 // BPF_F_INGRESS
	}
	if err := d.maps[relayMapPorts].Put(uint32(p.Index), v); err != nil {
		return fmt.Errorf("port %d: %w", p.Index, err)
	}
	return d.attach(p.Index)
}

func (d *Dataplane) attach(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.plan == nil {
		return errClosed
	}
	if _, there := d.attached[ifindex]; there {
		return nil
	}
	a := attachment{}
	if d.options.Pin != "" {
		a.pin = filepath.Join(d.options.Pin, fmt.Sprintf("padis-%s-%d", d.program.Type(), ifindex))
		taken, err := takeOver(a.pin, d.program)
		if err != nil {
			return fmt.Errorf("interface %d: %w", ifindex, err)
		}
		a.link = taken
	}
	if a.link == nil {
		var err error
		if a.link, err = d.hang(ifindex); err != nil {
			return fmt.Errorf("attach %s to interface %d: %w", d.options.Mode, ifindex, err)
		}
		if a.pin != "" {
			if err := a.link.Pin(a.pin); err != nil {
				return errors.Join(fmt.Errorf("pin %s: %w; is it in a BPF file system (mount -t bpf)?", a.pin, err), a.link.Close())
			}
		}
	}
	d.attached[ifindex] = a
	return nil
}

func (d *Dataplane) hang(ifindex int) (link.Link, error) {
	switch d.options.Mode {
	case DirectorXDP:
		return link.AttachXDP(link.XDPOptions{Program: d.program, Interface: ifindex, Flags: link.XDPDriverMode})
	case DirectorXDPGeneric:
		return link.AttachXDP(link.XDPOptions{Program: d.program, Interface: ifindex, Flags: link.XDPGenericMode})
	case Relay:
		return link.AttachTCX(link.TCXOptions{Program: d.program, Interface: ifindex, Attach: ebpf.AttachTCXEgress})
	}
	return link.AttachTCX(link.TCXOptions{Program: d.program, Interface: ifindex, Attach: ebpf.AttachTCXIngress})
}

// takeOver gives the link that a process before has pinned the new program. Nil: there is none, or its interface is gone.
func takeOver(pin string, program *ebpf.Program) (link.Link, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", pin, err)
	}
	if err := l.Update(program); err == nil {
		return l, nil
	}
	l.Close()
	if err := os.Remove(pin); err != nil {
		return nil, fmt.Errorf("remove the link %s of an interface that is gone: %w", pin, err)
	}
	return nil, nil
}

// Detach takes the program away from an interface; not to be attached is no error.
func (d *Dataplane) Detach(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, there := d.attached[ifindex]
	if !there {
		return nil
	}
	delete(d.attached, ifindex)
	var errs []error
	if a.pin != "" {
		if err := os.Remove(a.pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, a.link.Close())
	if d.options.Mode == Relay {
		if err := d.maps[relayMapPorts].Delete(uint32(ifindex)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
