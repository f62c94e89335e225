package kernel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// apply carries the operations out, in order, up to the first that fails. Those inside need ns, the handle in, and a
// thread in that namespace.
func (n *Network) apply(ops []network.Op, ns int, in *netlink.Handle) error {
	for _, op := range ops {
		if err := n.one(op, ns, in); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return nil
}

func (n *Network) one(op network.Op, ns int, in *netlink.Handle) error {
	switch op := op.(type) {
	case network.AddBridge:
		return n.addBridge(op.Bridge)
	case network.SetMaster:
		l, err := n.host.LinkByName(op.Link)
		if err != nil {
			return err
		}
		b, err := n.host.LinkByName(op.Bridge)
		if err != nil {
			return err
		}
		return n.host.LinkSetMasterByIndex(l, b.Attrs().Index)
	case network.SetUp:
		h := n.host
		if op.Inside {
			h = in
		}
		l, err := h.LinkByName(op.Link)
		if err != nil {
			return err
		}
		return h.LinkSetUp(l)
	case network.SetDown:
		l, err := n.host.LinkByName(op.Link)
		if err != nil {
			return err
		}
		return n.host.LinkSetDown(l)
	case network.DelLink:
		l, err := n.host.LinkByName(op.Link)
		if err != nil {
			return err
		}
		return n.host.LinkDel(l)
	case network.AddVeth:
		return n.addVeth(op.Interface, ns)
	case network.Set:
		return writeSetting(op)
	case network.AddAddress:
		l, err := in.LinkByName(op.Link)
		if err != nil {
			return err
		}
		return in.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: op.Address.Addr().AsSlice(), Mask: net.CIDRMask(op.Address.Bits(), 32)}})
	case network.AddDefault:
		l, err := in.LinkByName(op.Link)
		if err != nil {
			return err
		}
		return in.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: op.Gateway.AsSlice()})
	}
	return fmt.Errorf("unknown operation %T", op)
}

// addBridge speaks rtnetlink itself, because the library has no forward delay and no spanning tree setting.
func (n *Network) addBridge(b network.Bridge) error {
	req, msg := newLink()
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(b.Name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(b.MTU))))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, b.MAC[:]))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
	req.AddData(info)
	req.Sockets = n.raw
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// addVeth makes both ends, the master and the inner namespace in one request; the library would take three.
func (n *Network) addVeth(i network.Interface, ns int) error {
	bridge, err := n.host.LinkByName(i.Bridge)
	if err != nil {
		return err
	}
	req, msg := newLink()
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(i.Host)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(i.MTU))))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge.Attrs().Index))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(i.Inside))
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(i.MTU)))
	peer.AddRtAttr(unix.IFLA_ADDRESS, i.MAC[:])
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns)))
	req.AddData(info)
	// The request must leave through a socket of the host's namespace although this thread is in the instance's.
	req.Sockets = n.raw
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func newLink() (*nl.NetlinkRequest, *nl.IfInfomsg) {
	return nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK), nl.NewIfInfomsg(unix.AF_UNSPEC)
}

func readSettings(link string) map[string]string {
	out := map[string]string{}
	for _, s := range network.Settings() {
		if b, err := os.ReadFile("/proc/sys/" + network.SettingPath(link, s[0])); err == nil {
			out[s[0]] = strings.TrimSpace(string(b))
		}
	}
	return out
}

func writeSetting(s network.Set) error {
	err := os.WriteFile("/proc/sys/"+network.SettingPath(s.Link, s.Key), []byte(s.Value), 0)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(s.Key, "ipv6/") {
		return nil // a kernel without IPv6 has nothing to switch off
	}
	return err
}
