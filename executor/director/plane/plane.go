// Package plane makes what directors forward with of what there is: it fits the eBPF programs of executor/lb/tcx to
// lb.Dataplane, chooses where they hang, and sets what the kernel must not do with a director's packets. Edge: talks to the
// interface and the sysctls of the network namespace that the process is in.
package plane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/tcx"
)

// services is how many listeners may be in force: all that the program can have.
const services = 2048

// TCX forwards at the interface's tcx ingress.
func TCX(device string) (lb.Dataplane, error) { return load(device, tcx.DirectorTCX) }

// XDP forwards in the interface's driver where it is that of hardware. At a veth the driver's XDP would need a program at the
// other end too, or lose what is sent back, so there, as at other virtual interfaces, it is the kernel's generic XDP.
func XDP(device string) (lb.Dataplane, error) {
	if virtual(device) {
		return load(device, tcx.DirectorXDPGeneric)
	}
	return load(device, tcx.DirectorXDP)
}

// virtual tells whether an interface has no hardware that the process could tell, by the name of its driver (ethtool -i).
func virtual(device string) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, device)
	if err != nil {
		return true
	}
	switch unix.ByteSliceToString(info.Driver[:]) {
	case "", "veth", "macvlan", "ipvlan", "bridge", "802.1Q VLAN Support", "dummy":
		return true
	}
	return false
}

func load(device string, mode tcx.Mode) (lb.Dataplane, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w; a director needs a network with a segment", device, err)
	}
	if len(i.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %s has the hardware address %q: a director needs an Ethernet interface", device, i.HardwareAddr)
	}
	d, err := tcx.Load(tcx.Options{Mode: mode, MAC: lb.MAC(i.HardwareAddr), Services: services})
	if err != nil {
		return nil, err
	}
	if err := d.Attach(i.Index); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &adapter{plane: d, last: map[tcx.Listener]uint64{}}, nil
}

// adapter is a tcx.Dataplane as lb.Dataplane.
type adapter struct {
	plane *tcx.Dataplane
	mu    sync.Mutex
	// last is what the counters of services were, gone the sum of those that are no more.
	last map[tcx.Listener]uint64
	gone uint64
}

// Set refuses what places flows otherwise than by tables: directors have nothing in common then.
func (a *adapter) Set(all []lb.Forwarding) error {
	generations := make([]*lb.Generation, len(all))
	stay := make(map[tcx.Listener]bool, len(all))
	for i, f := range all {
		switch {
		case f.Method != "":
			return fmt.Errorf("%s: scheduler %s needs the dataplane ipvs: choose that, or the scheduler maglev or sh", f.Service, f.Method)
		case f.MaxConnections > 0:
			return fmt.Errorf("%s: maxConnections needs the dataplane ipvs, because only that counts connections: choose it, or leave maxConnections out", f.Service)
		}
		generations[i] = f.Generation
		stay[tcx.Listener{VIP: f.Service.VIP, Protocol: f.Service.Protocol, Port: f.Service.Ports.First}] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.read(); err != nil {
		return err
	}
	if err := a.plane.Set(generations...); err != nil {
		return err
	}
	for l, n := range a.last {
		if !stay[l] {
			a.gone += n
			delete(a.last, l)
		}
	}
	return nil
}

func (a *adapter) read() error {
	c, err := a.plane.Counters()
	if err != nil {
		return err
	}
	for l, n := range c.Services {
		a.last[l] = n.Packets[lb.Placed]
	}
	return nil
}

func (a *adapter) Forwarded() (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.read(); err != nil {
		return 0, err
	}
	sum := a.gone
	for _, n := range a.last {
		sum += n
	}
	return sum, nil
}

func (a *adapter) Close() error { return a.plane.Close() }

// Prepare sets, in this network namespace, what keeps the kernel from dropping or forwarding packets of VIPs by itself: answers
// of real servers to the director's own checks have a VIP as source, and nothing but the dataplane sends on what is for others.
// All of it is tried; the error says what could not be set.
func Prepare(device string) error {
	var errs []error
	for _, s := range [...]struct{ key, value string }{
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/" + device + "/rp_filter", "0"},
		{"ipv4/conf/" + device + "/accept_local", "1"},
		{"ipv4/ip_forward", "0"},
		// Checks make many short connections to one address and port.
		{"ipv4/tcp_tw_reuse", "1"},
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", s.key), []byte(s.value), 0); err != nil {
			errs = append(errs, fmt.Errorf("set %s to %s: %w", s.key, s.value, err))
		}
	}
	return errors.Join(errs...)
}
