// Package kernel observes the host's network and carries out what package network plans, in-process over rtnetlink.
// Edge: talks to rtnetlink and AF_PACKET.
//
// Measured choices: the veth pair is made by one request, its inner end in place in the instance's namespace; an address
// is announced by the kernel (arp_notify), because closing a packet socket costs 10 ms; an ended instance is silenced by
// taking its host end down, because deleting a link costs some 20 ms under the kernel's one lock - the pair goes away
// with the namespace, and its name is never used again.
package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// Network is the network of the host that the process runs in. Its methods may be called at the same time.
type Network struct {
	owner string
	host  *netlink.Handle
	// raw is a second socket in the host's namespace, for requests that the library cannot make.
	raw map[int]*nl.SocketHandle
	// claim is a bound abstract Unix socket. It exists as long as this process, within this network namespace, and
	// so tells the next executor that the host ends with our tag have somebody who looks after them.
	claim int
	// announcer sends ARP announcements; it is bound to no protocol and never receives.
	announcer int
	// bridges serialises the making of bridges, which several instances may want at once.
	bridges sync.Mutex
}

// ErrOwned tells that another living executor has the same owner on this host.
var ErrOwned = errors.New("another executor of this framework is alive on this host; wait for its end, or end it")

// Open claims the owner name on this host, waiting up to wait for a dying executor of that name.
func Open(owner string, wait time.Duration) (*Network, error) {
	n := &Network{owner: owner, claim: -1, announcer: -1}
	var err error
	if n.claim, err = claim(owner, wait); err != nil {
		return nil, err
	}
	if n.announcer, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		unix.Close(n.claim)
		return nil, fmt.Errorf("open a packet socket: %w; the executor needs CAP_NET_RAW on its host", err)
	}
	socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err == nil {
		n.raw = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
		n.host, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return n, nil
}

// Close gives the claim up.
func (n *Network) Close() {
	if n.host != nil {
		n.host.Close()
	}
	for _, s := range n.raw {
		s.Close()
	}
	unix.Close(n.announcer)
	unix.Close(n.claim)
}

func claimName(tag string) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: "@padis-executor/" + tag}
}

func claim(owner string, wait time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("claim %s: %w", owner, err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Bind(fd, claimName(network.OwnerTag(owner)))
		if err == nil {
			return fd, nil
		}
		if err != unix.EADDRINUSE || time.Now().After(deadline) {
			unix.Close(fd)
			if err == unix.EADDRINUSE {
				err = ErrOwned
			}
			return -1, fmt.Errorf("claim %s: %w", owner, err)
		}
	}
}

// Attach makes the wanted network of an instance whose network namespace is open as ns. On an error nothing answers for
// the addresses. A refusal of the plan is returned as it is; it says what to do.
func (n *Network) Attach(ns int, w network.Wanted) error {
	if err := n.ensureBridges(w.Bridges); err != nil {
		return err
	}
	err := inside(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		o, err := n.observe(w, h)
		if err != nil {
			return err
		}
		ops, err := network.Plan(w, o)
		if err != nil {
			return err
		}
		return n.apply(ops, ns, h)
	})
	if err != nil {
		return errors.Join(err, n.Detach(w))
	}
	return nil
}

// Detach silences the instance: when it returns nil, nobody answers for its addresses any more.
func (n *Network) Detach(w network.Wanted) error {
	o, err := n.observe(network.Wanted{Interfaces: w.Interfaces}, nil)
	if err != nil {
		return err
	}
	var failed []error
	for _, op := range network.Silence(w, o.Host) {
		// The link may have gone with its namespace in between.
		if err := n.apply([]network.Op{op}, -1, nil); err != nil && !gone(err) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// Sweep removes the host ends of this owner's instances that are not in live. It returns their names; all of them are silent when it returns.
func (n *Network) Sweep(live map[string]bool) ([]string, error) {
	links, err := n.host.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var host []network.Link
	for _, l := range links {
		host = append(host, network.Link{Name: l.Attrs().Name, Kind: l.Type()})
	}
	var removed []string
	var failed []error
	ops := network.Sweep(host, n.owner, live)
	for _, op := range ops {
		name := op.(network.DelLink).Link
		if err := n.apply([]network.Op{network.SetDown{Link: name}}, -1, nil); err != nil && !gone(err) {
			failed = append(failed, err)
		}
		removed = append(removed, name)
	}
	for _, op := range ops {
		if err := n.apply([]network.Op{op}, -1, nil); err != nil && !gone(err) {
			failed = append(failed, err)
		}
	}
	return removed, errors.Join(failed...)
}

func (n *Network) ensureBridges(bridges []network.Bridge) error {
	if len(bridges) == 0 {
		return nil
	}
	n.bridges.Lock()
	defer n.bridges.Unlock()
	o, err := n.observe(network.Wanted{Bridges: bridges}, nil)
	if err != nil {
		return err
	}
	ops, err := network.PlanBridges(bridges, o.Host)
	if err != nil {
		return err
	}
	return n.apply(ops, -1, nil)
}

// observe reads the links that w names, and, with a handle of the instance's namespace, all of that one. It must then
// be called on a thread inside the namespace, for the sysctls.
func (n *Network) observe(w network.Wanted, in *netlink.Handle) (network.Observed, error) {
	var o network.Observed
	names := map[string]bool{}
	var order []string
	add := func(name string) {
		if name != "" && !names[name] {
			names[name] = true
			order = append(order, name)
		}
	}
	for _, b := range w.Bridges {
		add(b.Name)
		add(b.Parent)
	}
	for _, i := range w.Interfaces {
		add(i.Host)
	}
	for _, name := range order {
		l, err := n.host.LinkByName(name)
		if gone(err) {
			continue
		}
		if err != nil {
			return o, fmt.Errorf("look at interface %s: %w", name, err)
		}
		have, err := n.link(n.host, l)
		if err != nil {
			return o, err
		}
		o.Host = append(o.Host, have)
	}
	if in == nil {
		return o, nil
	}
	links, err := in.LinkList()
	if err != nil {
		return o, fmt.Errorf("look into the instance: %w", err)
	}
	for _, l := range links {
		have, err := n.link(in, l)
		if err != nil {
			return o, err
		}
		if have.Name != "lo" {
			have.Settings = readSettings(have.Name)
		}
		o.Inside = append(o.Inside, have)
	}
	if len(links) > 1 {
		routes, err := in.RouteList(nil, netlink.FAMILY_V4)
		if err != nil {
			return o, fmt.Errorf("look into the instance: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil || r.Dst.IP.IsUnspecified() {
				o.Default, _ = netip.AddrFromSlice(r.Gw.To4())
			}
		}
	}
	return o, nil
}

func (n *Network) link(h *netlink.Handle, l netlink.Link) (network.Link, error) {
	a := l.Attrs()
	out := network.Link{Name: a.Name, Kind: l.Type(), Up: a.Flags&net.FlagUp != 0, MTU: a.MTU}
	copy(out.MAC[:], a.HardwareAddr)
	if a.MasterIndex != 0 {
		m, err := h.LinkByIndex(a.MasterIndex)
		if err != nil {
			return out, fmt.Errorf("look at the master of %s: %w", a.Name, err)
		}
		out.Master = m.Attrs().Name
	}
	if a.Name == "lo" || out.Kind == "bridge" || (out.Kind == "veth" && out.Master != "") {
		return out, nil
	}
	addrs, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil && !gone(err) {
		return out, fmt.Errorf("look at the addresses of %s: %w", a.Name, err)
	}
	for _, ad := range addrs {
		ip, ok := netip.AddrFromSlice(ad.IP)
		ones, _ := ad.Mask.Size()
		if ok && !ip.Unmap().IsLinkLocalUnicast() {
			out.Addresses = append(out.Addresses, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	return out, nil
}

func gone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}
