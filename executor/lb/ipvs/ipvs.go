// Package ipvs is the dataplane of directors whose kernel forwards by IPVS, by direct routing. TCP and UDP are placed by the
// kernel's Maglev (mh), whose table is equal on all directors that have the same servers, whatever happened before; by rr, wrr and
// wlc where that is asked for. It is not the table of executor/lb, and relays do not know it: see
// docs/design/0012-dataplanes.md for what it promises. Edge: talks to IPVS by generic netlink, and to nf_tables.
package ipvs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/network"
)

// Locals makes addresses local to the network namespace, without an interface that has them: what comes to VIPs must come to
// IPVS. And it leads addresses to hardware addresses, for real servers of which no address of the VIP's family is known.
// executor/network/kernel.OpenLocals has it. New closes it on an error, Close when it is closed.
type Locals interface {
	Set([]netip.Addr) error
	Peers(map[netip.Addr]network.MAC) error
	Close() error
}

// Options are what cannot be changed after New.
type Options struct {
	// Interface is that by which packets come.
	Interface string
	Locals    Locals
}

// Dataplane is the IPVS of one network namespace. Its methods may be called at the same time.
type Dataplane struct {
	mu          sync.Mutex
	socket      *socket
	locals      Locals
	fence       fence
	settings    map[string]*setting
	stats       *os.File
	began       uint64
	forwardings []lb.Forwarding
	marks       map[uint32]netip.Addr
	peers       map[netip.Addr]network.MAC
}

// New works in the network namespace of the calling thread from then on, which must have no services of IPVS yet.
func New(o Options) (*Dataplane, error) {
	d := &Dataplane{locals: o.Locals, settings: map[string]*setting{}, fence: fence{ns: -1}}
	if err := d.open(o); err != nil {
		return nil, errors.Join(err, d.release())
	}
	return d, nil
}

func (d *Dataplane) open(o Options) (err error) {
	if o.Locals == nil {
		return errors.New("locals are needed: give those of executor/network/kernel")
	}
	if d.fence.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	if d.socket, err = openSocket(); err != nil {
		return err
	}
	have, err := d.socket.read()
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return fmt.Errorf("IPVS of this network namespace has %d services already, such as %s: run the director in a namespace of its own, or delete them (ipvsadm -C)", len(have), have[0])
	}
	if d.stats, err = os.Open("/proc/thread-self/net/ip_vs_stats_percpu"); err != nil {
		return fmt.Errorf("open the counters of IPVS: %w", err)
	}
	if d.began, err = d.packets(); err != nil {
		return err
	}
	for key, value := range settings(o.Interface) {
		s, err := openSetting(key)
		if err != nil {
			return err
		}
		d.settings[key] = s
		if err := s.set(value); err != nil {
			return err
		}
	}
	return nil
}

var errClosed = errors.New("the dataplane is closed: make another")

// Set puts exactly these services in force. It is not one instant: new services and real servers come first, then VIPs, then
// what is to go goes.
func (d *Dataplane) Set(forwardings []lb.Forwarding) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.set(forwardings, d.marks)
}

// Mark has packets that the director itself sends with one of these marks (SO_MARK) to whatever address go to the real server
// with the address, as packets of clients do: for checks. Those to addresses of the other family do, too, if a forwarding has the
// real server. IPVS sees what its host sends, too, so routes cannot say that.
func (d *Dataplane) Mark(servers map[uint32]netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.set(d.forwardings, maps.Clone(servers))
}

func (d *Dataplane) set(forwardings []lb.Forwarding, marks map[uint32]netip.Addr) error {
	if d.socket == nil {
		return errClosed
	}
	want, peers, err := wanted(forwardings, marks)
	if err != nil {
		return err
	}
	have, err := d.socket.read()
	if err != nil {
		return err
	}
	changes, deletions := diff(have, want)
	next := guards(forwardings)
	// Services that go keep their guards until they are gone.
	during := slices.Clone(next)
	for _, g := range guards(d.forwardings) {
		if !slices.ContainsFunc(next, func(o guard) bool { return o.vip == g.vip && o.protocol == g.protocol && overlap(o.ports, g.ports) }) &&
			!slices.ContainsFunc(forwardings, func(f lb.Forwarding) bool {
				return f.Service.VIP == g.vip && f.Service.Protocol == g.protocol && overlap(f.Service.Ports, g.ports)
			}) {
			during = append(during, g)
		}
	}
	if err := d.fence.set(during); err != nil {
		return err
	}
	if err := d.locals.Peers(union(d.peers, peers)); err != nil {
		return err
	}
	// What has been done from here on is in force; what has not been is read and done by the next Set.
	d.forwardings, d.marks, d.peers = slices.Clone(forwardings), marks, peers
	errs := []error{d.change(changes)}
	errs = append(errs, d.locals.Set(addresses(forwardings)), d.socket.do(deletions), d.fence.set(next), d.locals.Peers(peers))
	return errors.Join(errs...)
}

func union(a, b map[netip.Addr]network.MAC) map[netip.Addr]network.MAC {
	out := maps.Clone(b)
	for k, v := range a {
		if _, there := out[k]; !there {
			out[k] = v
		}
	}
	return out
}

func overlap(a, b lb.Ports) bool { return a.First <= b.Last && b.First <= a.Last }

// addresses are the VIPs, each once.
func addresses(forwardings []lb.Forwarding) []netip.Addr {
	var out []netip.Addr
	for _, f := range forwardings {
		out = append(out, f.Service.VIP)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// change adds and changes. If a real server is deleted to be added again, a packet for it that comes between must not cost the
// connection.
func (d *Dataplane) change(ops []op) error {
	if !slices.ContainsFunc(ops, func(o op) bool { return o.verb == deleteDest }) {
		return d.socket.do(ops)
	}
	var first, last []op
	added := map[key]map[netip.AddrPort]bool{}
	for _, o := range ops {
		if o.verb == addDest {
			if added[o.service.key] == nil {
				added[o.service.key] = map[netip.AddrPort]bool{}
			}
			added[o.service.key][o.dest.at] = true
		}
	}
	for _, o := range ops {
		if o.verb == deleteDest && !added[o.service.key][o.dest.at] {
			last = append(last, o)
		} else {
			first = append(first, o)
		}
	}
	expire := d.settings[expireNodest]
	return errors.Join(expire.set("0"), d.socket.do(first), expire.set("1"), d.socket.do(last))
}

// Forwarded are the packets that came for services since New.
func (d *Dataplane) Forwarded() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket == nil {
		return 0, errClosed
	}
	n, err := d.packets()
	return n - d.began, err
}

// packets sums what came, of all services, since the namespace is there.
func (d *Dataplane) packets() (uint64, error) {
	b, err := io.ReadAll(io.NewSectionReader(d.stats, 0, 1<<20))
	if err != nil {
		return 0, fmt.Errorf("read the counters of IPVS: %w", err)
	}
	return incoming(string(b))
}

// incoming reads ip_vs_stats_percpu: two lines of titles, then one for each processor with its number, connections, packets in,
// packets out and bytes, in hexadecimal. What follows, and all that ip_vs_stats has, is some seconds old.
func incoming(text string) (uint64, error) {
	sum, rows := uint64(0), 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 6 {
			continue
		}
		if _, err := strconv.ParseUint(fields[0], 16, 32); err != nil {
			continue
		}
		n, err := strconv.ParseUint(fields[2], 16, 64)
		if err != nil {
			continue
		}
		sum, rows = sum+n, rows+1
	}
	if rows == 0 {
		return 0, fmt.Errorf("read the counters of IPVS: no processor's are in %q", text)
	}
	return sum, nil
}

// Close takes VIPs, services, guards and settings back.
func (d *Dataplane) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket == nil {
		return nil
	}
	// Nothing must come to the host itself while the services go.
	err := errors.Join(d.locals.Set(nil), d.socket.flush())
	return errors.Join(err, d.release())
}

// release gives up what is open.
func (d *Dataplane) release() error {
	var errs []error
	for _, s := range d.settings {
		errs = append(errs, s.restore())
	}
	if d.locals != nil {
		errs = append(errs, d.locals.Close())
	}
	if d.fence.ns >= 0 {
		errs = append(errs, d.fence.close())
	}
	if d.stats != nil {
		errs = append(errs, d.stats.Close())
	}
	if d.socket != nil {
		errs = append(errs, d.socket.close())
		d.socket = nil
	}
	return errors.Join(errs...)
}

var _ lb.Dataplane = (*Dataplane)(nil)
