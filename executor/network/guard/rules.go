package guard

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// early is before whatever else looks at a packet: connection tracking, and bridge's translation of addresses (-300).
const early = -310

// Registers of four bytes, in which a key is put together.
const (
	r0 = unix.NFT_REG32_00
	r4 = unix.NFT_REG32_04 // after a name
	r6 = unix.NFT_REG32_06 // after a name and a hardware address
)

// Offsets in the headers.
const (
	etherTo, etherFrom, etherType          = 0, 6, 12
	arpHeader, arpOp, arpSHA               = 0, 6, 8
	arpSPA, arpTPA                         = 14, 24
	ip4From, ip6From                       = 12, 8
	udpFrom, icmpType, ndTarget            = 0, 0, 8
	routerAdvert, solicit, advert          = 134, 135, 136
	redirect                               = 137
	mldReport1, mldDone, mldReport2        = 131, 132, 143
	dhcpServer, dhcp6Server         uint16 = 67, 547
)

type rule = []expr.Any

// chain of a table; base chains have a hook.
type chain struct {
	name  string
	hook  *nftables.ChainHook
	prio  nftables.ChainPriority
	rules []rule
}

// layout of a table: what does not change with its ports.
type layout struct {
	table  *nftables.Table
	sets   map[string]*nftables.Set
	order  []string
	chains []chain
}

// guarding is the layout of the bridged and the routed table. Every check is one of what is allowed, and the last word
// is a drop: a header that is too short to be compared must not pass. Only what is refused although the source is right
// is said first.
func guarding(family nftables.TableFamily, tag string) layout {
	l := newLayout(family, "padis-"+tag, map[string]nftables.SetDatatype{
		setPorts: nftables.TypeIFName,
		setMACs:  concat(nftables.TypeIFName, nftables.TypeEtherAddr),
		set4:     concat(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr),
		set6:     concat(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIP6Addr),
		setLo4:   concat(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr),
		setLo6:   concat(nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIP6Addr),
	})
	ours := join(in(r0), lookup(setPorts))
	own := join(in(r0), load(ll, etherFrom, 6, r4))
	own4, own6 := join(own, load(nh, ip4From, 4, r6)), join(own, load(nh, ip6From, 16, r6))
	target := join(own, load(th, ndTarget, 16, r6), lookup(set6))
	sender := join(in(r0), load(nh, arpSHA, 6, r4))
	arp := equal(nh, arpHeader, []byte{0, 1, 8, 0, 6, 4})
	nobody := equal(nh, ip6From, make([]byte, 16))
	// What has an 802.1Q header has another type here, whether the tag is in the frame or beside it.
	kind := func(t uint16) rule { return equal(ll, etherType, bigEndian(t)) }
	icmp := func(t byte) rule { return equal(th, icmpType, []byte{t}) }

	hook := nftables.ChainHookPrerouting
	l.chains = []chain{
		// Fragments of a message of neighbour discovery are for the receiver to refuse (RFC 6980).
		{name: "solicit", rules: []rule{
			join(own6, lookup(set6), accept()),
			join(nobody, target, accept()),
			drop(),
		}},
		{name: "advert", rules: []rule{join(own6, lookup(set6), target, accept()), drop()}},
		{name: "icmp6", rules: []rule{
			join(icmp(routerAdvert), drop()),
			join(icmp(redirect), drop()),
			join(icmp(solicit), jump("solicit")),
			join(icmp(advert), jump("advert")),
			// Reports of who listens come before there is an address (RFC 3590).
			join(nobody, icmp(mldReport1), accept()),
			join(nobody, icmp(mldDone), accept()),
			join(nobody, icmp(mldReport2), accept()),
			join(own6, lookup(set6), accept()),
			join(own6, lookup(setLo6), accept()),
			drop(),
		}},
		{name: "ip6", rules: []rule{
			join(protocol(unix.IPPROTO_ICMPV6), jump("icmp6")),
			join(protocol(unix.IPPROTO_UDP), equal(th, udpFrom, bigEndian(dhcp6Server)), drop()),
			join(own6, lookup(set6), accept()),
			join(own6, lookup(setLo6), accept()),
			drop(),
		}},
		{name: "ip4", rules: []rule{
			join(protocol(unix.IPPROTO_UDP), equal(th, udpFrom, bigEndian(dhcpServer)), drop()),
			join(own4, lookup(set4), accept()),
			join(own4, lookup(setLo4), accept()),
			drop(),
		}},
		// The probe of RFC 5227 has no sender's address. One for the address of somebody else would keep him from it.
		{name: "arp", rules: []rule{
			join(arp, sender, load(nh, arpSPA, 4, r6), lookup(set4), accept()),
			join(arp, equal(nh, arpOp, []byte{0, 1}), equal(nh, arpSPA, make([]byte, 4)), sender, load(nh, arpTPA, 4, r6), lookup(set4), accept()),
			drop(),
		}},
		{name: "kinds", rules: []rule{
			join(kind(unix.ETH_P_IP), jump("ip4")),
			join(kind(unix.ETH_P_IPV6), jump("ip6")),
			join(kind(unix.ETH_P_ARP), jump("arp")),
			drop(),
		}},
		{name: "guard", rules: []rule{
			join(reserved(), drop()),
			join(own, lookup(setMACs), jump("kinds")),
			drop(),
		}},
		{name: "from", hook: hook, prio: early, rules: []rule{join(ours, jump("guard"))}},
	}
	if family == nftables.TableFamilyBridge {
		// Frames to the bridge itself come here only, and their source would be learnt. Those of LLDP come nowhere: against
		// them bridges have the option no_linklocal_learn.
		l.chains = append(l.chains, chain{name: "reserved", hook: nftables.ChainHookInput, prio: early, rules: []rule{
			join(ours, reserved(), drop()),
		}})
	}
	return l
}

// separating is the layout of the table apart. An element A . B says that A names B as its peer; both must.
func separating() layout {
	l := newLayout(nftables.TableFamilyINet, "padis", map[string]nftables.SetDatatype{
		setHosted: nftables.TypeIFName,
		setPairs:  concat(nftables.TypeIFName, nftables.TypeIFName),
	})
	l.chains = []chain{
		{name: "between", rules: []rule{
			join(in(r0), out(r4), lookup(setPairs), out(r0), in(r4), lookup(setPairs), verdict(expr.VerdictReturn, "")),
			drop(),
		}},
		{name: "forward", hook: nftables.ChainHookForward, prio: -10, rules: []rule{
			join(in(r0), lookup(setHosted), out(r0), lookup(setHosted), jump("between")),
		}},
	}
	return l
}

func newLayout(family nftables.TableFamily, table string, sets map[string]nftables.SetDatatype) layout {
	l := layout{table: &nftables.Table{Name: table, Family: family}, sets: map[string]*nftables.Set{}, order: sortedKeys(sets)}
	for i, name := range l.order {
		// The library numbers sets with a counter that is not safe; numbers only need to differ within a batch and a table.
		s := &nftables.Set{Table: l.table, ID: uint32(i + 1), Name: name, KeyType: sets[name]}
		if s.KeyType == nftables.TypeIFName {
			// Said for the nft tool, which would print the name from its end.
			s.KeyByteOrder = binaryutil.NativeEndian
		}
		l.sets[name] = s
	}
	return l
}

func concat(types ...nftables.SetDatatype) nftables.SetDatatype {
	return nftables.MustConcatSetType(types...)
}

const (
	ll = expr.PayloadBaseLLHeader
	nh = expr.PayloadBaseNetworkHeader
	th = expr.PayloadBaseTransportHeader
)

func join(parts ...rule) rule {
	var r rule
	for _, p := range parts {
		r = append(r, p...)
	}
	return r
}

func in(r uint32) rule  { return rule{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: r}} }
func out(r uint32) rule { return rule{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: r}} }

func load(base expr.PayloadBase, offset, length, r uint32) rule {
	return rule{&expr.Payload{DestRegister: r, Base: base, Offset: offset, Len: length}}
}

func equal(base expr.PayloadBase, offset uint32, data []byte) rule {
	return append(load(base, offset, uint32(len(data)), r0), &expr.Cmp{Op: expr.CmpOpEq, Register: r0, Data: data})
}

func protocol(p byte) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r0}, &expr.Cmp{Op: expr.CmpOpEq, Register: r0, Data: []byte{p}}}
}

// reserved are the addresses of 802.1D that mean bridges: 01:80:c2:00:00:00 to 0f.
func reserved() rule {
	return append(load(ll, etherTo, 6, r0),
		&expr.Bitwise{SourceRegister: r0, DestRegister: r0, Len: 6, Mask: []byte{255, 255, 255, 255, 255, 0xf0}, Xor: make([]byte, 6)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: r0, Data: []byte{1, 0x80, 0xc2, 0, 0, 0}})
}

// lookup goes on if the key from the first register on is in the set.
func lookup(set string) rule { return rule{&expr.Lookup{SourceRegister: r0, SetName: set}} }

func accept() rule           { return verdict(expr.VerdictAccept, "") }
func drop() rule             { return verdict(expr.VerdictDrop, "") }
func jump(chain string) rule { return verdict(expr.VerdictGoto, chain) }
func verdict(k expr.VerdictKind, chain string) rule {
	return rule{&expr.Verdict{Kind: k, Chain: chain}}
}
