// Package nft is the dataplane of directors that have neither eBPF nor IPVS: rules of nf_tables at the ingress of one interface.
// It takes CAP_NET_ADMIN in the user namespace that the network namespace belongs to, and nothing else: rootless is enough.
// Kernels from 5.12. Edge: talks to the kernel's nf_tables.
//
// The owner of a slot, that of executor/lb, is looked up in a map; which slot a flow has is not: nf_tables has one hash, Jenkins',
// so slots are other ones than those of relays and of directors on eBPF, but the same on all directors that have this dataplane.
// What follows from that:
//
//   - Behind relays connections stay as they do with any dataplane: a relay sends a SYN of a flow whose chain it is not in to the
//     chain's owner, and every packet after it along the chain; frames are stamped so that it asks the whole (lb.Unplaced). This
//     dataplane then only says to whom packets go first, and most make one more hop than they would.
//   - Without relays a change of real servers moves the connections of the slots that change.
//   - Datagrams are never relayed: directors of one LoadBalancer must all have the same dataplane.
//
// Later fragments of datagrams have no ports and are left to the stack. Of ICMP errors the packet inside is read if its header
// has no options.
package nft

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// Options of a Dataplane.
type Options struct {
	// Interface of this network namespace that frames come in by and leave by.
	Interface string
	// MAC is its address: only frames to it are looked at. Zero: as the kernel says.
	MAC lb.MAC
}

// Dataplane is one table of nf_tables. It ends with the process, as a crash should: the kernel removes a table with the socket
// that owns it.
type Dataplane struct {
	mac   lb.MAC
	index int

	mu    sync.Mutex
	conn  *nftables.Conn
	table *nftables.Table
	base  *nftables.Chain
	// What is in the kernel: tables of owners by their names, and all else that rules in force use.
	owners map[string]*nftables.Set
	used   []part
	plan   plan
	// What nothing uses any more, and is still to be removed.
	waste []part
	// serial of the newest names.
	serial uint32
}

// part is a set or a chain.
type part struct {
	set   *nftables.Set
	chain *nftables.Chain
}

// rank is the order in which parts can be removed.
func (p part) rank() int {
	switch {
	case p.chain != nil:
		return 1
	case p.set.DataType == nftables.TypeVerdict:
		return 0
	}
	return 2
}

const (
	tableName   = "padis-director"
	counterName = "forwarded"
	// ownedBySocket is NFT_TABLE_F_OWNER.
	ownedBySocket = 2
	// batch is how many elements go in one message, and messages in one transaction: less than the buffer of a socket that a
	// process without privileges may have.
	batch = 500
)

var errClosed = errors.New("the dataplane is closed: make another")

// New makes one that forwards nothing yet.
func New(o Options) (*Dataplane, error) {
	i, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w; a director needs a network with a segment", o.Interface, err)
	}
	if o.MAC == (lb.MAC{}) {
		if len(i.HardwareAddr) != len(o.MAC) {
			return nil, fmt.Errorf("interface %s has the hardware address %q: a director needs an Ethernet interface", o.Interface, i.HardwareAddr)
		}
		o.MAC = lb.MAC(i.HardwareAddr)
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(own(tableName)))
	if err != nil {
		return nil, fmt.Errorf("nf_tables: %w%s", err, remedy(err))
	}
	d := &Dataplane{mac: o.MAC, index: i.Index, conn: conn, owners: map[string]*nftables.Set{}}
	d.table = &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}
	d.base = conn.AddChain(&nftables.Chain{Name: "ingress", Table: d.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityFilter, Device: o.Interface})
	conn.AddObj(&nftables.CounterObj{Table: d.table, Name: counterName})
	if err := conn.Flush(); err != nil {
		return nil, errors.Join(fmt.Errorf("nf_tables at the ingress of %s: %w%s", o.Interface, err, remedy(err)), conn.CloseLasting())
	}
	return d, nil
}

func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EEXIST):
		return ": it takes CAP_NET_ADMIN in the network namespace, and no other dataplane of this package in it"
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAFNOSUPPORT):
		return ": it takes a kernel from 5.12 with nf_tables for netdev, its hash and its dup (nft_hash, nft_dup_netdev): choose another dataplane"
	}
	return ""
}

// Set puts exactly these in force, all at one instant. Tables that are there already are kept, and shared by the services that
// have the same.
func (d *Dataplane) Set(all []lb.Forwarding) error {
	generations := make([]*lb.Generation, len(all))
	for i, f := range all {
		switch {
		case f.Method != "":
			return fmt.Errorf("%s: scheduler %s needs the dataplane ipvs: choose that, or the scheduler maglev or sh", f.Service, f.Method)
		case f.MaxConnections > 0:
			return fmt.Errorf("%s: maxConnections needs the dataplane ipvs, because only that counts connections: choose it, or leave maxConnections out", f.Service)
		}
		generations[i] = f.Generation
	}
	if _, err := lb.NewTables(generations...); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return errClosed
	}
	p := newPlan(generations)
	if p.equal(d.plan) && len(d.waste) == 0 {
		return nil
	}
	next := &next{d: d}
	err := next.build(p)
	if err == nil {
		err = next.force()
	}
	if err != nil {
		// Nothing of it is in force.
		for _, name := range next.fresh {
			d.waste = append(d.waste, part{set: d.owners[name]})
			delete(d.owners, name)
		}
		d.waste = append(d.waste, next.parts...)
		return fmt.Errorf("nf_tables: %w%s", err, remedy(err))
	}
	d.waste = append(d.waste, d.used...)
	d.used, d.plan = next.parts, p
	for name, set := range d.owners {
		if p.tables[name] == nil {
			d.waste = append(d.waste, part{set: set})
			delete(d.owners, name)
		}
	}
	if err := d.clean(); err != nil {
		return fmt.Errorf("nf_tables: all is in force, but what is not used any more could not be removed: %w", err)
	}
	return nil
}

// clean removes what nothing uses: verdicts, which name chains; chains, whose rules name sets; and these.
func (d *Dataplane) clean() error {
	slices.SortStableFunc(d.waste, func(a, b part) int { return cmp.Compare(a.rank(), b.rank()) })
	for len(d.waste) > 0 {
		some := d.waste[:min(batch, len(d.waste))]
		for _, p := range some {
			if p.set != nil {
				d.conn.DelSet(p.set)
			} else {
				d.conn.DelChain(p.chain)
			}
		}
		if err := d.conn.Flush(); err != nil {
			return err
		}
		d.waste = d.waste[len(some):]
	}
	return nil
}

// Forwarded counts frames as the kernel has them at the interface: several packets of a flow may be one.
func (d *Dataplane) Forwarded() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return 0, errClosed
	}
	o, err := d.conn.GetObject(&nftables.CounterObj{Table: d.table, Name: counterName})
	if err != nil {
		return 0, fmt.Errorf("nf_tables: counter %s: %w", counterName, err)
	}
	switch c := o.(type) {
	case *nftables.CounterObj:
		return c.Packets, nil
	case *nftables.NamedObj:
		if n, ok := counted(c); ok {
			return n, nil
		}
	}
	return 0, fmt.Errorf("nf_tables: counter %s is a %T", counterName, o)
}

// Close takes everything back.
func (d *Dataplane) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil
	}
	conn := d.conn
	d.conn = nil
	conn.DelTable(d.table)
	err := conn.Flush()
	return errors.Join(err, conn.CloseLasting())
}

func bigEndian(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
