package hosts

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Fabric is the network between the embedded hosts: a management bridge, the virtual switch that stands for the data
// centre's network, and the client namespace, which is reached through the switch's gateway addresses only.
type Fabric struct {
	ns     netns.NsHandle
	links  *netlink.Handle
	client netns.NsHandle
}

// Open builds the fabric in the network namespace of the caller, which must be private and without a fabric.
func Open() (*Fabric, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("fabric: %w", err)
	}
	return openIn(ns)
}

// openIn builds the fabric in ns, which belongs to it from then on.
func openIn(ns netns.NsHandle) (*Fabric, error) {
	links, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, fmt.Errorf("fabric: %w", errors.Join(err, ns.Close()))
	}
	f := &Fabric{ns: ns, links: links, client: netns.None()}
	if err := f.build(); err != nil {
		f.Close()
		return nil, fmt.Errorf("fabric: %w", err)
	}
	return f, nil
}

// Close releases the handles. The interfaces go when the namespace does.
func (f *Fabric) Close() {
	f.links.Close()
	_ = f.ns.Close()
	if f.client.IsOpen() {
		_ = f.client.Close()
	}
}

// ClientNamespace is the file descriptor of the client's network namespace.
func (f *Fabric) ClientNamespace() int { return int(f.client) }

func (f *Fabric) build() error {
	if err := up(f.links, "lo"); err != nil {
		return err
	}
	for i, bridge := range []string{ManagementBridge, SwitchBridge} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bridge
		// Pinned: a bridge without an address of its own takes the lowest one of its ports, and changes it.
		attrs.HardwareAddr = hardwareAddress(macBridge, i)
		if err := f.links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("add bridge %s: %w", bridge, err)
		}
		if err := up(f.links, bridge); err != nil {
			return err
		}
	}
	if err := address(f.links, ManagementBridge, ManagementPrefix()); err != nil {
		return err
	}
	err := inNamespace(f.ns, func() error {
		return errors.Join(
			sysctl("net/ipv4/ip_forward", "1"),
			sysctl6("net/ipv6/conf/all/forwarding", "1"),
			// The first address of a subnet may go while another one of it stays.
			sysctl("net/ipv4/conf/"+SwitchBridge+"/promote_secondaries", "1"),
		)
	})
	if err != nil {
		return err
	}
	return f.buildClient()
}

func (f *Fabric) buildClient() error {
	client, err := newNamespace()
	if err != nil {
		return fmt.Errorf("client namespace: %w", err)
	}
	f.client = client
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "client0"
	attrs.HardwareAddr = hardwareAddress(macClient, 1)
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         ManagementLink,
		PeerHardwareAddr: hardwareAddress(macClient, 2),
		PeerNamespace:    netlink.NsFd(client),
	}
	if err := f.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("add client link: %w", err)
	}
	if err := errors.Join(address(f.links, attrs.Name, ClientGateway()), up(f.links, attrs.Name)); err != nil {
		return err
	}
	if err := configure(client, ClientPrefix(), ClientGateway().Addr()); err != nil || !hasIPv6() {
		return err
	}
	if err := address(f.links, attrs.Name, ClientGateway6()); err != nil {
		return err
	}
	return inNamespace(client, func() error { return configureLink(ManagementLink, ClientPrefix6(), ClientGateway6().Addr()) })
}

// Attach plugs the network namespace of process pid into the fabric as the given host: ManagementLink with the host's
// address and the default route, DataLink without an address, both up. What an earlier host of that index left is
// removed first: the kernel takes its time to do so after the host's end. Attach returns when the host, at the other end
// of the link, is prepared and knows of its interfaces.
func (f *Fabric) Attach(host Spec, pid int, link *os.File) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("attach %s: network namespace of process %d: %w", host.Name, pid, err)
	}
	defer ns.Close()
	if err := f.attach(host, ns); err != nil {
		return err
	}
	if err := meet(link); err != nil {
		return fmt.Errorf("attach %s: %w", host.Name, err)
	}
	return nil
}

func (f *Fabric) attach(host Spec, ns netns.NsHandle) error {
	ports := []struct {
		name, bridge, peer string
		kind               byte
	}{
		{fmt.Sprintf("mgmt-%d", host.Index), ManagementBridge, ManagementLink, macManagement},
		{fmt.Sprintf("port-%d", host.Index), SwitchBridge, DataLink, macData},
	}
	for _, port := range ports {
		if err := f.plug(port.name, port.bridge, port.peer, hardwareAddress(port.kind, host.Index), ns); err != nil {
			return fmt.Errorf("attach %s: %w", host.Name, err)
		}
	}
	if err := configure(ns, host.Address(), ManagementPrefix().Addr(), DataLink); err != nil {
		return fmt.Errorf("attach %s: %w", host.Name, err)
	}
	return nil
}

// plug makes a veth pair: one end a port of the bridge, the other an interface in ns.
func (f *Fabric) plug(name, bridge, peer string, mac net.HardwareAddr, ns netns.NsHandle) error {
	if old, err := f.links.LinkByName(name); err == nil {
		if err := f.links.LinkDel(old); err != nil && !gone(err) {
			return fmt.Errorf("delete the earlier %s: %w", name, err)
		}
	}
	master, err := f.links.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("%s: %w", bridge, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MasterIndex = master.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(ns)}
	if err := f.links.LinkAdd(veth); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	return up(f.links, name)
}

// SetGateways makes the given addresses the only ones of the switch. It adds before it deletes, applies all that can
// be applied, and returns what could not.
func (f *Fabric) SetGateways(want []netip.Prefix) error {
	link, err := f.links.LinkByName(SwitchBridge)
	if err != nil {
		return fmt.Errorf("gateways: %w", err)
	}
	have, err := addresses(f.links, link)
	if err != nil {
		return fmt.Errorf("gateways: %w", err)
	}
	add, del, bad := gatewayChanges(have, want)
	problems := []error{bad}
	for _, p := range add {
		if err := f.links.AddrReplace(link, atOnce(p)); err != nil {
			problems = append(problems, fmt.Errorf("add gateway %v: %w", p, err))
		}
	}
	for _, p := range del {
		if err := f.links.AddrDel(link, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !gone(err) {
			problems = append(problems, fmt.Errorf("delete gateway %v: %w", p, err))
		}
	}
	return errors.Join(problems...)
}

// Gateways lists the addresses of the switch.
func (f *Fabric) Gateways() ([]netip.Prefix, error) {
	link, err := f.links.LinkByName(SwitchBridge)
	if err != nil {
		return nil, fmt.Errorf("gateways: %w", err)
	}
	return addresses(f.links, link)
}

// configure gives ManagementLink of ns its address and default route, and sets it, lo and the further links up.
func configure(ns netns.NsHandle, own netip.Prefix, gateway netip.Addr, further ...string) error {
	return inNamespace(ns, func() error { return configureHere(own, gateway, further) })
}

func configureHere(own netip.Prefix, gateway netip.Addr, further []string) error {
	links, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer links.Close()
	for _, name := range append([]string{"lo", ManagementLink}, further...) {
		if err := up(links, name); err != nil {
			return err
		}
	}
	return configureLink(ManagementLink, own, gateway)
}

// configureLink gives a link of the caller's namespace an address and makes it the way to all others.
func configureLink(name string, own netip.Prefix, gateway netip.Addr) error {
	links, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer links.Close()
	if err := address(links, name, own); err != nil {
		return err
	}
	link, err := links.LinkByName(name)
	if err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}
	if err := links.RouteReplace(route); err != nil {
		return fmt.Errorf("default route via %v: %w", gateway, err)
	}
	return nil
}

// hasIPv6 tells whether the kernel has it.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// sysctl6 is sysctl, where the kernel has IPv6.
func sysctl6(name, value string) error {
	if !hasIPv6() {
		return nil
	}
	return sysctl(name, value)
}

// atOnce is an address that is used without asking whether somebody has it: nobody is there yet.
func atOnce(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func up(links *netlink.Handle, name string) error {
	link, err := links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func address(links *netlink.Handle, name string, p netip.Prefix) error {
	link, err := links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := links.AddrReplace(link, atOnce(p)); err != nil {
		return fmt.Errorf("add %v to %s: %w", p, name, err)
	}
	return nil
}

func addresses(links *netlink.Handle, link netlink.Link) ([]netip.Prefix, error) {
	list, err := links.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		ones, _ := a.Mask.Size()
		if ok && !ip.IsLinkLocalUnicast() {
			prefixes = append(prefixes, netip.PrefixFrom(ip, ones))
		}
	}
	return prefixes, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sysctl must be called in the namespace that is meant.
func sysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	return nil
}

// onThread runs f on a thread that is not used again, so that f may change its namespaces. It is never the main thread:
// that one's namespaces are those that /proc shows for the process, and Go cannot end it.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		// The goroutine ends locked to its thread, which ends the thread.
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			result <- f()
			return
		}
		// While this goroutine holds the main thread, another one gets another.
		result <- onThread(f)
		runtime.UnlockOSThread()
	}()
	return <-result
}

// inNamespace runs f in ns.
func inNamespace(ns netns.NsHandle, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// newNamespace makes a network namespace that lives as long as its handle.
func newNamespace() (ns netns.NsHandle, err error) {
	err = onThread(func() error {
		ns, err = netns.New()
		return err
	})
	return ns, err
}
