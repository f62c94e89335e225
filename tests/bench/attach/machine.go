package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/api/server"
	"padis.io/padis/executor/network"
	"padis.io/padis/scheduler/ledger"
	"padis.io/padis/tests/bench/bed"
)

// lane is one way of giving instances their network, with a wire of its own.
type lane interface {
	// attach returns the address that the instance in the namespace has got. A number is used once.
	attach(ns, number int) (netip.Addr, error)
	detach(ns, number int) error
}

// machine is one host with a bridge for each lane.
type machine struct {
	options
	store   *server.Server
	records *ledger.Ledger
	control *bed.Control
	host    *bed.Host
	lanes   []*measured
	blocks  int
}

// measured is a lane with its wire and what was measured on it.
type measured struct {
	lane
	name   string
	eye    *bed.Eye
	number atomic.Int64
	// Times of single ones.
	attach, detach []time.Duration
}

const owner, hostname = "bench-framework", "host-1"

func newMachine(o options) (*machine, error) {
	m := &machine{options: o}
	if err := bed.IP("link set lo up"); err != nil {
		return nil, err
	}
	var err error
	if m.store, err = bed.Store(filepath.Join(o.dir, "control")); err != nil {
		return nil, err
	}
	if m.records, err = ledger.Open(context.Background(), ledger.Config{Client: m.store.EtcdClient()}); err != nil {
		return nil, err
	}
	m.control = bed.NewControl(bed.Cluster("10.44.0.0/16"), nil, m.records, func() int64 { return time.Now().UnixMilli() })
	if m.host, err = bed.OpenHost(owner, hostname, filepath.Join(o.dir, "state")); err != nil {
		return nil, err
	}
	ways := []way{{"padis", "", &padis{control: m.control, host: m.host}}}
	if !o.only {
		ways = append(ways, way{"cni_plain", "cni1", newPlugins(o.cni, o.dir, "cni1", "10.45.0.0/16", false)},
			way{"cni", "cni2", newPlugins(o.cni, o.dir, "cni2", "10.46.0.0/16", true)})
	}
	for i, w := range ways {
		if err := wire(i+1, w.bridge); err != nil {
			return nil, err
		}
		eye, err := bed.NewEye(fmt.Sprint("wire", i+1))
		if err != nil {
			return nil, err
		}
		m.lanes = append(m.lanes, &measured{lane: w.lane, name: w.name, eye: eye})
	}
	return m, nil
}

// way is a lane with its name in figures, and the bridge that is made for it.
type way struct {
	name, bridge string
	lane
}

// wire gives the host an uplink eth1, eth2 ... whose other end is watched. The bridge that it is a port of is made for CNI's
// plugins, which use one that is there; Padis makes its own.
func wire(number int, bridge string) error {
	commands := fmt.Sprintf(`link add eth%d type veth peer name wire%[1]d
		link set eth%[1]d up
		link set wire%[1]d up`, number)
	if bridge != "" {
		commands += fmt.Sprintf(`
		link add %s type bridge forward_delay 0
		link set eth%d master %[1]s
		link set %[1]s up`, bridge, number)
	}
	return bed.IP(commands)
}

func (m *machine) close() {
	m.control.Close()
	_ = m.records.Close()
	m.host.Close()
	m.store.Close()
}

// padis is the way of Padis: control plane, then executor.
type padis struct {
	control *bed.Control
	host    *bed.Host
	// kept are the networks of instances by number, as an executor keeps them.
	kept sync.Map
	// leased and plugged are the times of the two parts.
	mu              sync.Mutex
	leased, plugged []time.Duration
}

func (p *padis) attach(ns, number int) (netip.Addr, error) {
	begun := time.Now()
	l, err := p.control.Lease(number, 1, p.host.Name)
	leased := time.Since(begun)
	if err != nil {
		return netip.Addr{}, err
	}
	w, err := network.Want(p.host.Owner, bed.Task(number, 1), p.host.Name, l)
	if err != nil {
		return netip.Addr{}, err
	}
	p.kept.Store(number, w)
	err = p.host.Attach(ns, w)
	p.mu.Lock()
	p.leased, p.plugged = append(p.leased, leased), append(p.plugged, time.Since(begun)-leased)
	p.mu.Unlock()
	return w.Interfaces[0].Addresses[0].Addr(), err
}

func (p *padis) detach(ns, number int) error {
	w, _ := p.kept.LoadAndDelete(number)
	if err := p.host.Detach(ns, w.(network.Wanted)); err != nil {
		return err
	}
	return p.control.Release(number)
}

// block is how many of a lane are attached one after the other, before the other lane has its turn. Turn and turn about
// would measure how each finds the machine after the other: CNI's files wait for the disk when the ledger has to.
const block = 20

// one measures single attaches and detaches, Padis and CNI in turn. Namespaces are made before and dropped after each block,
// when nothing is measured.
func (m *machine) one() ([]figure, error) {
	if err := m.block(block, false); err != nil { // bridges, tables and caches are warm then
		return nil, err
	}
	for done := 0; done < m.runs; done += block {
		if err := m.block(min(block, m.runs-done), true); err != nil {
			return nil, err
		}
	}
	var out []figure
	for _, l := range m.lanes {
		out = append(out, figure{l.prefix() + "attach_p50_ms", "ms", ms(quantile(l.attach, 0.5))}, figure{l.prefix() + "attach_p99_ms", "ms", ms(quantile(l.attach, 0.99))},
			figure{l.prefix() + "detach_p50_ms", "ms", ms(quantile(l.detach, 0.5))})
	}
	own := m.lanes[0].lane.(*padis)
	own.mu.Lock()
	out = append(out, figure{"lease_durable_p50_ms", "ms", ms(quantile(own.leased, 0.5))}, figure{"plugged_p50_ms", "ms", ms(quantile(own.plugged, 0.5))})
	own.mu.Unlock()
	for _, l := range m.lanes[1:] {
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50", 0.5}, {"p99", 0.99}} {
			out = append(out, figure{"attach_ratio_" + q.name + "_vs_" + l.name, "x", ms(quantile(l.attach, q.at)) / ms(quantile(m.lanes[0].attach, q.at))})
		}
	}
	return out, nil
}

func (l *measured) prefix() string {
	if l.name == "padis" {
		return ""
	}
	return l.name + "_"
}

// instance is one of a lane.
type instance struct{ ns, number int }

func (m *machine) block(n int, keep bool) error {
	there := make([][]instance, len(m.lanes))
	for i := range m.lanes {
		for range n {
			ns, err := bed.NewNamespace()
			if err != nil {
				return err
			}
			there[i] = append(there[i], instance{ns, int(m.lanes[i].number.Add(1))})
		}
	}
	m.blocks++
	for i := range m.lanes {
		i = (i + m.blocks) % len(m.lanes) // who comes first changes
		if err := m.lanes[i].one(there[i], keep); err != nil {
			return err
		}
	}
	for _, all := range there {
		for _, x := range all {
			unix.Close(x.ns)
		}
	}
	return settle()
}

// one attaches all instances, then detaches them, one after the other.
func (l *measured) one(all []instance, keep bool) error {
	for _, x := range all {
		begun := time.Now()
		address, err := l.lane.attach(x.ns, x.number)
		if err == nil {
			err = l.eye.Await(address)
		}
		if err != nil {
			return fmt.Errorf("%s: attach: %w", l.name, err)
		}
		if keep {
			l.attach = append(l.attach, time.Since(begun))
		}
	}
	for _, x := range all {
		begun := time.Now()
		if err := l.lane.detach(x.ns, x.number); err != nil {
			return fmt.Errorf("%s: detach: %w", l.name, err)
		}
		if keep {
			l.detach = append(l.detach, time.Since(begun))
		}
	}
	return nil
}
