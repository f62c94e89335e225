package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// guard is a rule that drops what comes to a service by clients that it does not allow.
type guard struct {
	vip      netip.Addr
	protocol uint8
	ports    lb.Ports
	allow    []span
}

// span is a range of addresses, both ends included.
type span struct{ first, last netip.Addr }

// guards are those of the services that do not allow everybody, sorted.
func guards(forwardings []lb.Forwarding) []guard {
	var out []guard
	for _, f := range forwardings {
		if s := f.Service; len(s.Allow) > 0 {
			out = append(out, guard{s.VIP, s.Protocol, s.Ports, spans(s.Allow)})
		}
	}
	slices.SortFunc(out, func(a, b guard) int {
		return key{protocol: a.protocol, at: netip.AddrPortFrom(a.vip, a.ports.First)}.compare(key{protocol: b.protocol, at: netip.AddrPortFrom(b.vip, b.ports.First)})
	})
	return out
}

func (g guard) equal(o guard) bool {
	return g.vip == o.vip && g.protocol == o.protocol && g.ports == o.ports && slices.Equal(g.allow, o.allow)
}

// spans are prefixes of one family as ranges that neither overlap nor touch, ascending.
func spans(prefixes []netip.Prefix) []span {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	var out []span
	for _, p := range sorted {
		s := span{p.Addr(), lastOf(p)}
		if n := len(out); n > 0 {
			if next := out[n-1].last.Next(); !next.IsValid() || s.first.Compare(next) <= 0 {
				if out[n-1].last.Less(s.last) {
					out[n-1].last = s.last
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		if rest := p.Bits() - 8*i; rest <= 0 {
			b[i] = 0xff
		} else if rest < 8 {
			b[i] |= 0xff >> rest
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// fence keeps the guards in nf_tables, in one table for each family, which is there only if there are guards.
type fence struct {
	ns   int
	have []guard
	// unknown is set while it may be that others are in force: a write has failed.
	unknown bool
}

const (
	tableName = "padis_director"
	// atATime is how many elements go in one message, whose list must not be longer than 64 KiB.
	atATime = 500
)

// set puts exactly these guards in force, all at one instant.
func (f *fence) set(want []guard) error {
	if !f.unknown && slices.EqualFunc(f.have, want, guard.equal) {
		return nil
	}
	c, err := nftables.New(nftables.WithNetNSFd(f.ns), nftables.WithSockOptions(func(c *netlink.Conn) error {
		// Each message of a batch has an answer.
		const buffer = 64 << 20
		return errors.Join(c.SetWriteBuffer(buffer), c.SetReadBuffer(buffer))
	}))
	if err == nil {
		if err = f.write(c, want); err == nil {
			err = c.Flush()
			// A kernel without nf_tables of these families has no others in force.
			f.unknown = err != nil && !errors.Is(err, unix.EOPNOTSUPP)
		}
	}
	if err != nil {
		return fmt.Errorf("table %s of nf_tables, which keeps clients out that are not allowed: %w; the kernel needs nf_tables, or choose the dataplane tcx", tableName, err)
	}
	f.have, f.unknown = want, false
	return nil
}

func (f *fence) write(c *nftables.Conn, want []guard) error {
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		// What is not there cannot be deleted, so it is added before.
		t := &nftables.Table{Name: tableName, Family: family}
		c.AddTable(t)
		c.DelTable(t)
		is6 := family == nftables.TableFamilyIPv6
		var chain *nftables.Chain
		for i, g := range want {
			if g.vip.Is6() != is6 {
				continue
			}
			if chain == nil {
				c.AddTable(t)
				// Before IPVS, which has the same hook at priority 98.
				chain = c.AddChain(&nftables.Chain{Name: "allow", Table: t, Type: nftables.ChainTypeFilter,
					Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
			}
			if err := g.write(c, t, chain, fmt.Sprintf("clients%d", i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// write adds the rule: what comes to the service and is not of these clients is dropped.
func (g guard) write(c *nftables.Conn, t *nftables.Table, chain *nftables.Chain, name string) error {
	kind, src, dst := nftables.TypeIPAddr, uint32(12), uint32(16)
	if g.vip.Is6() {
		kind, src, dst = nftables.TypeIP6Addr, 8, 24
	}
	clients := &nftables.Set{Table: t, Name: name, KeyType: kind, Interval: true}
	if err := c.AddSet(clients, nil); err != nil {
		return err
	}
	var elements []nftables.SetElement
	for _, s := range g.allow {
		elements = append(elements, nftables.SetElement{Key: s.first.AsSlice()})
		if end := s.last.Next(); end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	for part := range slices.Chunk(elements, atATime) {
		if err := c.SetAddElements(clients, part); err != nil {
			return err
		}
	}
	length := uint32(g.vip.BitLen() / 8)
	port := func(op expr.CmpOp, p uint16) *expr.Cmp {
		return &expr.Cmp{Op: op, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)}
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: dst, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: g.vip.AsSlice()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{g.protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		port(expr.CmpOpGte, g.ports.First),
		port(expr.CmpOpLte, g.ports.Last),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: src, Len: length},
		&expr.Lookup{SourceRegister: 1, SetName: clients.Name, SetID: clients.ID, Invert: true},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return nil
}

// close takes the tables away.
func (f *fence) close() error {
	err := f.set(nil)
	unix.Close(f.ns)
	return err
}
