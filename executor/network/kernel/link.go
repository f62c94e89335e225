package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// link is an interface as a message of the kernel tells it; the links around it are still numbers.
type link struct {
	network.Link
	index, master int
	// under is the link below, in the namespace of the same socket unless foreign.
	under   int
	foreign bool
	// queue is the kind of the root queueing discipline.
	queue string
	// running: it can carry frames as far as its driver knows (RFC 2863).
	running bool
}

const (
	linkLowerUp = 0x10000 // IFF_LOWER_UP
	// Statistics are most of what the kernel tells of a link, and nobody here reads them.
	skipStatistics = 1 << 3 // RTEXT_FILTER_SKIP_STATS

	operUnknown, operUp = 0, 6
	macvlanBridge       = 4 // MACVLAN_MODE_BRIDGE
)

// linkHeader is a struct ifinfomsg; index 0 leaves it to a name to say which.
func linkHeader(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// newLink asks for a link that is up at once.
func newLink(name string, mtu int) *request {
	r := newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(0, unix.IFF_UP, unix.IFF_UP))
	return r.text(unix.IFLA_IFNAME, name).u32(unix.IFLA_MTU, uint32(mtu))
}

// kind adds of which kind a link is, and what f adds for this kind.
func (r *request) kind(kind string, f func()) *request {
	return r.nest(unix.IFLA_LINKINFO, func() {
		r.text(unix.IFLA_INFO_KIND, kind)
		r.nest(unix.IFLA_INFO_DATA, f)
	})
}

// noLinkLocalLearn is bit BR_BOOLOPT_NO_LL_LEARN of struct br_boolopt_multi (value, then mask).
const noLinkLocalLearn = 1

func addBridge(op network.AddBridge) *request {
	r := newLink(op.Name, op.MTU)
	if op.MAC != (network.MAC{}) {
		r.attr(unix.IFLA_ADDRESS, op.MAC[:])
	}
	return r.kind("bridge", func() {
		r.u32(unix.IFLA_BR_FORWARD_DELAY, 0)
		r.u32(unix.IFLA_BR_STP_STATE, 0)
		// Frames to link-local group addresses pass no guard, so nothing is learnt from them. Kernels before 5.0 ignore it.
		option := binary.NativeEndian.AppendUint32(nil, noLinkLocalLearn)
		r.attr(unix.IFLA_BR_MULTI_BOOLOPT, binary.NativeEndian.AppendUint32(option, noLinkLocalLearn))
	})
}

func addVLAN(op network.AddVLAN, parent int) *request {
	r := newLink(op.Name, op.MTU).u32(unix.IFLA_LINK, uint32(parent))
	return r.kind("vlan", func() { r.u16(unix.IFLA_VLAN_ID, uint16(op.Tag)) })
}

func addVXLAN(op network.AddVXLAN, parent int) *request {
	r := newLink(op.Name, op.MTU)
	if op.MAC != (network.MAC{}) {
		r.attr(unix.IFLA_ADDRESS, op.MAC[:])
	}
	return r.kind("vxlan", func() {
		r.u32(unix.IFLA_VXLAN_ID, uint32(op.VNI))
		if parent != 0 {
			r.u32(unix.IFLA_VXLAN_LINK, uint32(parent))
		}
		switch {
		case op.Local.Is4():
			r.attr(unix.IFLA_VXLAN_LOCAL, op.Local.AsSlice())
		case op.Local.IsValid():
			r.attr(unix.IFLA_VXLAN_LOCAL6, op.Local.AsSlice())
		}
		r.attr(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, uint16(op.Port)))
		r.u8(unix.IFLA_VXLAN_LEARNING, 0)
	})
}

// addVeth makes both ends, the master and the inner namespace, open as ns, in one request. master 0 is none.
func addVeth(i network.Interface, master, ns int) *request {
	r := newLink(i.Host, i.MTU).oneQueue()
	if master != 0 {
		r.u32(unix.IFLA_MASTER, uint32(master))
	}
	return r.kind("veth", func() {
		r.nest(vethPeer, func() {
			r.b = append(r.b, linkHeader(0, 0, 0)...)
			r.inPlace(i, ns).oneQueue()
		})
	})
}

// addMACVLAN is not up at once: what is in place in the instance comes up when it is guarded and configured.
func addMACVLAN(i network.Interface, parent, ns int) *request {
	r := newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(0, 0, 0))
	r.inPlace(i, ns).u32(unix.IFLA_LINK, uint32(parent))
	return r.kind("macvlan", func() { r.u32(unix.IFLA_MACVLAN_MODE, macvlanBridge) })
}

const vethPeer = 1 // VETH_INFO_PEER

func (r *request) inPlace(i network.Interface, ns int) *request {
	return r.text(unix.IFLA_IFNAME, i.Inside).u32(unix.IFLA_MTU, uint32(i.MTU)).attr(unix.IFLA_ADDRESS, i.MAC[:]).u32(unix.IFLA_NET_NS_FD, uint32(ns))
}

// oneQueue is what a pair needs, whose ends transmit without a lock; the kernel would make one for each CPU, each with
// its place in sysfs, which is a quarter of the time of making the pair on two CPUs.
func (r *request) oneQueue() *request {
	return r.u32(unix.IFLA_NUM_TX_QUEUES, 1).u32(unix.IFLA_NUM_RX_QUEUES, 1)
}

func setUp(name string) *request {
	return newRequest(unix.RTM_SETLINK, 0, linkHeader(0, unix.IFF_UP, unix.IFF_UP)).text(unix.IFLA_IFNAME, name)
}

func setDown(name string) *request {
	return newRequest(unix.RTM_SETLINK, 0, linkHeader(0, 0, unix.IFF_UP)).text(unix.IFLA_IFNAME, name)
}

// setMaster makes a link a port of the bridge with the index; 0 takes it out of the one that it is in.
func setMaster(name string, master int) *request {
	return newRequest(unix.RTM_SETLINK, 0, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, name).u32(unix.IFLA_MASTER, uint32(master))
}

func delLink(name string) *request {
	return newRequest(unix.RTM_DELLINK, 0, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, name)
}

func setPort(op network.SetPort) *request {
	r := newRequest(unix.RTM_NEWLINK, 0, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, op.Link)
	return r.nest(unix.IFLA_LINKINFO, func() {
		r.text(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		r.nest(unix.IFLA_INFO_SLAVE_DATA, func() {
			r.u8(unix.IFLA_BRPORT_UNICAST_FLOOD, flag(op.Flags.Flood))
			r.u8(unix.IFLA_BRPORT_LEARNING, flag(op.Flags.Learning))
			r.u8(unix.IFLA_BRPORT_NEIGH_SUPPRESS, flag(op.Flags.Suppress))
		})
	})
}

// conf are those settings of ipv4/conf/LINK that have no effect but their value, as rtnetlink numbers them
// (IPV4_DEVCONF_*, linux/ip.h).
var conf = map[string]int{"proxy_arp": 3, "rp_filter": 8, "arp_announce": 18, "arp_ignore": 19, "arp_notify": 22}

// setConf is a setting as a request, which can be sent with others and needs no file; nil if it cannot be.
func setConf(x network.Setting) *request {
	p := strings.Split(x.Key, "/")
	if len(p) != 4 || p[0] != "ipv4" || p[1] != "conf" || p[2] == "all" || p[2] == "default" || conf[p[3]] == 0 {
		return nil
	}
	value, err := strconv.ParseUint(x.Value, 10, 31)
	if err != nil {
		return nil
	}
	r := newRequest(unix.RTM_SETLINK, 0, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, p[2])
	return r.nest(unix.IFLA_AF_SPEC, func() {
		r.nest(unix.AF_INET, func() {
			r.nest(unix.IFLA_INET_CONF, func() { r.u32(conf[p[3]], uint32(value)) })
		})
	})
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// getLink asks for a link by its name, or by its index if that is not 0.
func getLink(name string, index int, reply func(link)) *request {
	r := newRequest(unix.RTM_GETLINK, 0, linkHeader(index, 0, 0))
	if index == 0 {
		r.text(unix.IFLA_IFNAME, name)
	}
	r.u32(unix.IFLA_EXT_MASK, skipStatistics)
	r.reply = func(body []byte) {
		if l, ok := parseLink(body); ok {
			reply(l)
		}
	}
	return r
}

// link finds one link; the error of one that is not there satisfies gone.
func (c *conn) link(name string) (link, error) {
	var out link
	if err := c.do(getLink(name, 0, func(l link) { out = l })); err != nil {
		return link{}, fmt.Errorf("interface %s: %w", name, err)
	}
	return out, nil
}

func (c *conn) linkAt(index int) (link, error) {
	var out link
	if err := c.do(getLink("", index, func(l link) { out = l })); err != nil {
		return link{}, fmt.Errorf("interface %d: %w", index, err)
	}
	return out, nil
}

func (c *conn) links() ([]link, error) {
	r := newRequest(unix.RTM_GETLINK, 0, linkHeader(0, 0, 0)).u32(unix.IFLA_EXT_MASK, skipStatistics)
	return list(c, r, parseLink)
}

func parseLink(body []byte) (link, bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return link{}, false
	}
	flags := number32(body[8:])
	l := link{index: int(int32(number32(body[4:])))}
	l.Kind, l.Up, l.Carrier = "device", flags&unix.IFF_UP != 0, flags&linkLowerUp != 0
	var data []byte
	for kind, v := range attributes(body[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_ADDRESS:
			copy(l.MAC[:], v)
		case unix.IFLA_MTU:
			l.MTU = int(number32(v))
		case unix.IFLA_MASTER:
			l.master = int(number32(v))
		case unix.IFLA_LINK:
			l.under = int(number32(v))
		case unix.IFLA_LINK_NETNSID:
			l.foreign = true
		case unix.IFLA_QDISC:
			l.queue = text(v)
		case unix.IFLA_OPERSTATE:
			l.running = len(v) > 0 && (v[0] == operUp || v[0] == operUnknown)
		case unix.IFLA_LINKINFO:
			data = l.parseInfo(v)
		}
	}
	l.parseData(data)
	return l, l.Name != ""
}

func (l *link) parseInfo(b []byte) (data []byte) {
	var slave string
	var port []byte
	for kind, v := range attributes(b) {
		switch kind {
		case unix.IFLA_INFO_KIND:
			l.Kind = text(v)
		case unix.IFLA_INFO_DATA:
			data = v
		case unix.IFLA_INFO_SLAVE_KIND:
			slave = text(v)
		case unix.IFLA_INFO_SLAVE_DATA:
			port = v
		}
	}
	if slave != "bridge" {
		return data
	}
	for kind, v := range attributes(port) {
		set := len(v) > 0 && v[0] != 0
		switch kind {
		case unix.IFLA_BRPORT_UNICAST_FLOOD:
			l.PortFlags.Flood = set
		case unix.IFLA_BRPORT_LEARNING:
			l.PortFlags.Learning = set
		case unix.IFLA_BRPORT_NEIGH_SUPPRESS:
			l.PortFlags.Suppress = set
		}
	}
	return data
}

func (l *link) parseData(b []byte) {
	switch l.Kind {
	case "vlan":
		for kind, v := range attributes(b) {
			if kind == unix.IFLA_VLAN_ID {
				l.VLAN = int(number16(v))
			}
		}
	case "vxlan":
		l.under = 0
		for kind, v := range attributes(b) {
			switch kind {
			case unix.IFLA_VXLAN_ID:
				l.VNI = int(number32(v))
			case unix.IFLA_VXLAN_LINK:
				l.under = int(number32(v))
			case unix.IFLA_VXLAN_PORT:
				if len(v) >= 2 {
					l.Port = int(binary.BigEndian.Uint16(v))
				}
			case unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6:
				if a, ok := netip.AddrFromSlice(v); ok && !a.IsUnspecified() {
					l.Local = a
				}
			}
		}
	case "macvlan":
	default:
		l.under = 0
	}
}
