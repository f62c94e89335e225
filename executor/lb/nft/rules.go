package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// next is the set of rules that is being made beside those in force.
type next struct {
	d     *Dataplane
	fresh []string // names of tables
	parts []part
	// Verdicts by service, for packets and for ICMP errors about them; by family, IPv6 last.
	verdicts [2][2]*nftables.Set
}

// Registers, of four bytes each. A key begins at the first; an IPv6 address takes four.
const (
	key  = unix.NFT_REG32_00
	slot = unix.NFT_REG32_06
	to   = unix.NFT_REG32_08
	from = unix.NFT_REG32_10
	out  = unix.NFT_REG32_12
)

// where in a packet the flow is read. Offsets are from the beginning of base.
type where struct {
	base                expr.PayloadBase
	vip, client         uint32
	ports               expr.PayloadBase
	portOfVIP, portFrom uint32
}

// wheres are by family, packets first, then the packet inside an ICMP error, which goes the other way.
var wheres = [2][2]where{
	{{nh, 16, 12, th, 2, 0}, {th, 8 + 12, 8 + 16, th, 8 + 20, 8 + 22}},
	{{nh, 24, 8, th, 2, 0}, {th, 8 + 8, 8 + 24, th, 8 + 40, 8 + 42}},
}

const (
	ll = expr.PayloadBaseLLHeader
	nh = expr.PayloadBaseNetworkHeader
	th = expr.PayloadBaseTransportHeader
)

// errorTypes of ICMP that are about a packet: unreachable, time exceeded, parameter problem; of ICMPv6 packet too big, too.
var errorTypes = [2][]byte{{3, 11, 12}, {1, 2, 3, 4}}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// build makes all that the new rules need; nothing of it is used yet.
func (n *next) build(p plan) error {
	d := n.d
	for _, name := range slices.Sorted(maps.Keys(p.tables)) {
		if d.owners[name] != nil {
			continue
		}
		set := n.set(name, nftables.TypeMark, 0)
		set.IsMap, set.DataType = true, nftables.TypeEtherAddr
		d.owners[name] = set
		n.fresh = append(n.fresh, name)
		var elements []nftables.SetElement
		for slot, mac := range p.tables[name] {
			if mac != (lb.MAC{}) {
				elements = append(elements, nftables.SetElement{Key: binary.NativeEndian.AppendUint32(nil, uint32(slot)), Val: slices.Clone(mac[:])})
			}
		}
		if err := n.add(set, elements); err != nil {
			return err
		}
	}
	allowed := map[string]*nftables.Set{}
	chains := make([][2]*nftables.Chain, len(p.kinds))
	for i, k := range p.kinds {
		if k.clients != "" && allowed[k.clients] == nil {
			set, err := n.allow(k)
			if err != nil {
				return err
			}
			allowed[k.clients] = set
		}
		for e := range 2 {
			chains[i][e] = n.chain(k, wheres[index(k.six)][e], allowed[k.clients])
		}
		if err := d.conn.Flush(); err != nil {
			return fmt.Errorf("chains of %d services: %w", len(p.services), err)
		}
	}
	for six := range 2 {
		for e := range 2 {
			var elements []nftables.SetElement
			for _, s := range p.services {
				if index(s.vip.Is6()) == six {
					elements = append(elements, nftables.SetElement{Key: serviceKey(s, s.first), KeyEnd: serviceKey(s, s.last),
						VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chains[s.kind][e].Name}})
				}
			}
			if len(elements) == 0 {
				continue
			}
			set := n.set(n.name("services"), nftables.MustConcatSetType(address(six), nftables.TypeInetProto, nftables.TypeInetService), unix.NFT_SET_INTERVAL)
			set.IsMap, set.DataType = true, nftables.TypeVerdict
			n.parts = append(n.parts, part{set: set})
			n.verdicts[six][e] = set
			if err := n.add(set, elements); err != nil {
				return err
			}
		}
	}
	return nil
}

func address(six int) nftables.SetDatatype {
	return [...]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}[six]
}

func (n *next) name(what string) string {
	n.d.serial++
	return fmt.Sprintf("%s-%d", what, n.d.serial)
}

func (n *next) set(name string, keys nftables.SetDatatype, flags uint32) *nftables.Set {
	n.d.serial++
	s := &nftables.Set{Table: n.d.table, ID: n.d.serial, Name: name, KeyType: keys}
	if flags == unix.NFT_SET_INTERVAL {
		s.Interval, s.Concatenation = true, true
	} else {
		s.KeyByteOrder = binaryutil.NativeEndian
	}
	return s
}

// add makes a set with its elements, in transactions that a small socket takes.
func (n *next) add(set *nftables.Set, elements []nftables.SetElement) error {
	if err := n.d.conn.AddSet(set, nil); err != nil {
		return err
	}
	if err := n.d.conn.Flush(); err != nil {
		return fmt.Errorf("set %s: %w", set.Name, err)
	}
	for some := range slices.Chunk(elements, batch) {
		if err := n.d.conn.SetAddElements(set, some); err != nil {
			return err
		}
		if err := n.d.conn.Flush(); err != nil {
			return fmt.Errorf("elements of set %s: %w", set.Name, err)
		}
	}
	return nil
}

// allow is the set of clients that a kind lets in, with any port.
func (n *next) allow(k kind) (*nftables.Set, error) {
	set := n.set(n.name("clients"), nftables.MustConcatSetType(address(index(k.six)), nftables.TypeInetService), unix.NFT_SET_INTERVAL)
	n.parts = append(n.parts, part{set: set})
	var elements []nftables.SetElement
	for _, p := range k.allow {
		first, last := ends(p)
		elements = append(elements, nftables.SetElement{Key: clientKey(first, 0), KeyEnd: clientKey(last, 65535)})
	}
	return set, n.add(set, elements)
}

// chain places a flow and sends its packet to the owner.
func (n *next) chain(k kind, w where, allowed *nftables.Set) *nftables.Chain {
	d := n.d
	c := d.conn.AddChain(&nftables.Chain{Table: d.table, Name: n.name("place")})
	n.parts = append(n.parts, part{chain: c})
	size, port := uint32(4), uint32(key+1)
	if k.six {
		size, port = 16, key+4
	}
	flow := []expr.Any{load(w.base, w.client, size, key), load(w.ports, w.portFrom, 2, port)}
	if allowed != nil {
		n.rule(c, flow, []expr.Any{&expr.Lookup{SourceRegister: key, SetName: allowed.Name, SetID: allowed.ID, Invert: true}, drop()})
	}
	hashed := size
	if !k.source {
		hashed += 4 // the port's register
	}
	table, sender := d.owners[k.table], lb.Unplaced(d.mac)
	n.rule(c, flow, []expr.Any{
		&expr.Hash{SourceRegister: key, DestRegister: slot, Length: hashed, Modulus: k.size, Seed: k.seed, Type: expr.HashTypeJenkins},
		&expr.Lookup{SourceRegister: slot, DestRegister: to, IsDestRegSet: true, SetName: table.Name, SetID: table.ID},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: to, Base: ll, Offset: 0, Len: 6},
		// With the router's, a bridge would learn the router at this port.
		&expr.Immediate{Register: from, Data: sender[:]},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: from, Base: ll, Offset: 6, Len: 6},
		&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: counterName},
		&expr.Immediate{Register: out, Data: binary.NativeEndian.AppendUint32(nil, uint32(d.index))},
		// The library has no fwd: a copy, and no original, is the same.
		&expr.Dup{RegAddr: out, RegDev: out, IsRegDevSet: true},
		drop(),
	})
	n.rule(c, []expr.Any{drop()}) // nobody serves
	return c
}

func (n *next) rule(c *nftables.Chain, parts ...[]expr.Any) {
	n.d.conn.AddRule(&nftables.Rule{Table: n.d.table, Chain: c, Exprs: slices.Concat(parts...)})
}

// force replaces the rules of the base chain: from then on packets see what is new.
func (n *next) force() error {
	d := n.d
	d.conn.FlushChain(d.base)
	n.rule(d.base, []expr.Any{load(ll, 0, 6, key), &expr.Cmp{Op: expr.CmpOpNeq, Register: key, Data: d.mac[:]}, &expr.Verdict{Kind: expr.VerdictAccept}})
	for six, proto := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6} {
		family := []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: key}, &expr.Cmp{Op: expr.CmpOpEq, Register: key, Data: bigEndian(proto)}}
		size := uint32(4)
		if six == 1 {
			size = 16
		}
		if set := n.verdicts[six][0]; set != nil {
			w := wheres[six][0]
			n.rule(d.base, family, []expr.Any{load(w.base, w.vip, size, key), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: key + size/4},
				load(w.ports, w.portOfVIP, 2, key+size/4+1), verdict(set)})
		}
		if set := n.verdicts[six][1]; set != nil {
			w := wheres[six][1]
			icmp, inside := byte(unix.IPPROTO_ICMP), []expr.Any{
				// No options, and not a later fragment.
				load(th, 8, 1, key), &expr.Cmp{Op: expr.CmpOpEq, Register: key, Data: []byte{0x45}},
				load(th, 8+6, 2, key), &expr.Bitwise{SourceRegister: key, DestRegister: key, Len: 2, Mask: []byte{0x1f, 0xff}, Xor: []byte{0, 0}},
				&expr.Cmp{Op: expr.CmpOpEq, Register: key, Data: []byte{0, 0}},
			}
			protocol := uint32(8 + 9)
			if six == 1 {
				icmp, inside, protocol = unix.IPPROTO_ICMPV6, nil, 8+6
			}
			for _, kind := range errorTypes[six] {
				n.rule(d.base, family, []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: key}, &expr.Cmp{Op: expr.CmpOpEq, Register: key, Data: []byte{icmp}},
					load(th, 0, 1, key), &expr.Cmp{Op: expr.CmpOpEq, Register: key, Data: []byte{kind}}}, inside,
					[]expr.Any{load(w.base, w.vip, size, key), load(th, protocol, 1, key+size/4), load(w.ports, w.portOfVIP, 2, key+size/4+1), verdict(set)})
			}
		}
	}
	return d.conn.Flush()
}

func load(base expr.PayloadBase, offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

func verdict(set *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: key, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: set.Name, SetID: set.ID}
}

func drop() expr.Any { return &expr.Verdict{Kind: expr.VerdictDrop} }

// counted is what a counter of the kernel counted.
func counted(o *nftables.NamedObj) (uint64, bool) {
	c, ok := o.Obj.(*expr.Counter)
	if !ok {
		return 0, false
	}
	return c.Packets, true
}
