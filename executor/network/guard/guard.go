// Package guard keeps instances to their own addresses, and the networks of one host apart from each other, with
// nftables: in-process by netlink, without the nft tool. Edge: talks to nf_tables.
//
// There are three tables. "bridge padis-TAG" and "inet padis-TAG" belong to one executor and hold the ports that its
// instances are plugged into; executors of several frameworks may share a host, and with a table of its own each sees when
// somebody flushed it, replaces rules of an older release in one transaction and never touches the ports of another. The
// third, "inet padis", is shared, because a packet between the networks of two frameworks can only be seen as such where
// both are known; each bridge's elements are written by who has it.
//
// A port is a few elements of sets whose keys begin with its name, added and removed by one batch; the rules are the same
// for all ports, so that a packet costs the same with one port or with thousands.
package guard

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// Guard of one executor. Its methods may be called at the same time.
type Guard struct {
	layouts [3]layout
	ns      int
	reader  *netlink.Conn

	mu     sync.Mutex
	writer *nftables.Conn
	direct *direct
	// known is what the tables should hold; it is read from them once, so that an executor that starts again goes on.
	known state
	read  bool
	// made are the tables that are there with our rules; none after whatever went wrong. A table is made when something
	// is to be put into it: who has no routed networks has no rule that each packet of the host would pass.
	made places
}

type state struct {
	ports  map[string]network.GuardedPort
	hosted map[string][]string
}

// New works in the network namespace of the calling thread from then on. Tag is that of the owner (network.OwnerTag); there
// must be one Guard for each on a host. Nothing is written before the first Apply.
func New(tag string) (*Guard, error) {
	if tag == "" || len(tag) > 64 {
		return nil, fmt.Errorf("owner tag %q: 1 to 64 bytes are needed", tag)
	}
	g := &Guard{ns: -1}
	g.layouts = [3]layout{guarding(nftables.TableFamilyBridge, tag), guarding(nftables.TableFamilyINet, tag), separating()}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	if g.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	if g.reader, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: g.ns}); err == nil {
		err = g.dial()
	}
	if err == nil {
		g.direct, err = dialDirect()
	}
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("open a socket of nf_tables: %w; the kernel needs CONFIG_NF_TABLES, the executor CAP_NET_ADMIN on its host", err)
	}
	return g, nil
}

// Close leaves the tables as they are: instances outlive their executor.
func (g *Guard) Close() {
	if g.reader != nil {
		g.reader.Close()
	}
	if g.writer != nil {
		g.writer.CloseLasting()
	}
	g.direct.close()
	unix.Close(g.ns)
}

func (g *Guard) dial() error {
	if g.writer != nil {
		g.writer.CloseLasting()
	}
	w, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(g.ns), nftables.WithSockOptions(func(c *netlink.Conn) error {
		// A table with thousands of ports is remade by one message, with an answer to each part; as root no limit is in the way.
		if c.SetWriteBuffer(batchBytes) != nil {
			return nil
		}
		return c.SetReadBuffer(batchBytes)
	}))
	g.writer = w
	return err
}

const batchBytes = 64 << 20

// Observe reads the guarded ports of this owner among the links, all of them if links is nil, and all bridges that are
// kept apart with the peers they name, sorted. A port of which the kernel lacks something is not guarded.
func (g *Guard) Observe(links []string) (map[string]network.GuardedPort, map[string][]string, error) {
	found, err := g.observe(links)
	if err != nil {
		return nil, nil, err
	}
	between, err := g.dump(apart)
	if err != nil {
		return nil, nil, err
	}
	return found, hosted(between), nil
}

func (g *Guard) observe(links []string) (map[string]network.GuardedPort, error) {
	if links == nil {
		return g.dumpPorts()
	}
	g.mu.Lock()
	err := g.load()
	expected := map[string]network.GuardedPort{}
	for _, l := range links {
		if p, ok := g.known.ports[l]; ok {
			expected[l] = p
		}
	}
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	found := map[string]network.GuardedPort{}
	for l, p := range expected {
		all, err := elements(p)
		if err != nil {
			return nil, err
		}
		there := true
		for _, e := range all {
			if there, err = g.has(e); err != nil {
				return nil, fmt.Errorf("read back the guard of %s: %w", l, err)
			}
			if !there {
				break
			}
		}
		if there {
			found[l] = p
		}
	}
	return found, nil
}

func (g *Guard) dumpPorts() (map[string]network.GuardedPort, error) {
	b, err := g.dump(bridged)
	if err != nil {
		return nil, err
	}
	r, err := g.dump(routed)
	if err != nil {
		return nil, err
	}
	found := ports(b)
	maps.Copy(found, ports(r))
	return found, nil
}

func (g *Guard) load() error {
	if g.read {
		return nil
	}
	found, err := g.dumpPorts()
	if err != nil {
		return err
	}
	between, err := g.dump(apart)
	if err != nil {
		return err
	}
	g.known, g.read = state{found, hosted(between)}, true
	return nil
}

// Apply carries out network.Guard, Unguard and KeepApart in this order, all or none, by one batch. Repeating it changes
// nothing. If the tables are not there, they are made with all that is known.
func (g *Guard) Apply(ops []network.Op) error {
	if len(ops) == 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return err
	}
	c := newChange(g.known)
	for _, op := range ops {
		if err := g.add(c, op); err != nil {
			return err
		}
	}
	err := error(unix.ENOENT)
	needed := placesOf(c.steps)
	switch {
	case !g.made.all(needed):
	case count(c.steps) <= most:
		err = g.direct.send(&g.layouts, c.steps)
	default:
		err = g.send(c.steps)
	}
	// Not found: the tables were flushed, or somebody removed an element. What the socket still has to say would be taken for
	// the answer to the next batch, so there is a new one after each error.
	if errors.Is(err, unix.ENOENT) {
		if err = g.dial(); err == nil {
			err = g.remake(c, needed)
		}
	}
	if err != nil {
		g.made = places{}
		return errors.Join(fmt.Errorf("nftables: %s: %w", ops[0], err), g.dial())
	}
	c.commit(&g.known)
	return nil
}

func (g *Guard) add(c *change, op network.Op) error {
	switch op := op.(type) {
	case network.Guard:
		return c.guard(op.Port)
	case network.Unguard:
		return c.unguard(op.Link)
	case network.KeepApart:
		if err := checkName("bridge", op.Bridge); err != nil {
			return err
		}
		// Peers are compared with what is there: another executor may have written them.
		there, err := g.dump(apart)
		if err != nil {
			return err
		}
		return c.keepApart(op.Bridge, op.Peers, there)
	}
	return fmt.Errorf("%T is no operation of a guard", op)
}

// remake replaces the tables that are needed, and those that have something, in one transaction, so that no port is
// without its guard in between. The shared table and its elements stay, only its rules are replaced.
func (g *Guard) remake(c *change, needed places) error {
	want := c.after()
	steps := []step{}
	for _, l := range sortedKeys(want.ports) {
		all, err := elements(want.ports[l])
		if err != nil {
			return err
		}
		steps = append(steps, step{add: all})
	}
	there, err := g.dump(apart)
	if err != nil {
		return err
	}
	again := newChange(state{})
	for _, b := range sortedKeys(want.hosted) {
		if err := again.keepApart(b, want.hosted[b], there); err != nil {
			return err
		}
	}
	steps = append(merge(steps), again.steps...)
	for at, some := range placesOf(steps) {
		needed[at] = needed[at] || some
	}
	for at := range g.layouts {
		if !needed[at] {
			continue
		}
		l := &g.layouts[at]
		g.writer.AddTable(l.table)
		if place(at) != apart {
			g.writer.DelTable(l.table)
			g.writer.AddTable(l.table)
		}
		if err := g.lay(l); err != nil {
			return err
		}
	}
	if err := g.send(steps); err != nil {
		return err
	}
	for at, is := range needed {
		g.made[at] = g.made[at] || is
	}
	return nil
}

// lay adds sets, chains and rules of a table to the batch.
func (g *Guard) lay(l *layout) error {
	for _, s := range l.order {
		if err := g.writer.AddSet(l.sets[s], nil); err != nil {
			return fmt.Errorf("set %s: %w", s, err)
		}
	}
	policy := nftables.ChainPolicyAccept
	for _, c := range l.chains {
		ch := &nftables.Chain{Name: c.name, Table: l.table}
		if c.hook != nil {
			ch.Hooknum, ch.Priority, ch.Type, ch.Policy = c.hook, &c.prio, nftables.ChainTypeFilter, &policy
		}
		g.writer.AddChain(ch)
		g.writer.FlushChain(ch)
		for _, r := range c.rules {
			g.writer.AddRule(&nftables.Rule{Table: l.table, Chain: ch, Exprs: r})
		}
	}
	return nil
}

// send sends the batch and its steps.
func (g *Guard) send(steps []step) error {
	for _, s := range steps {
		if err := g.put(s.del, g.writer.SetDeleteElements); err != nil {
			return err
		}
		if err := g.put(s.add, g.writer.SetAddElements); err != nil {
			return err
		}
	}
	return g.writer.Flush()
}

// perMessage keeps the list of elements within the 64 KiB of an attribute.
const perMessage = 400

func (g *Guard) put(all []element, to func(*nftables.Set, []nftables.SetElement) error) error {
	for len(all) > 0 {
		n := 1
		for n < len(all) && n < perMessage && all[n].place == all[0].place && all[n].set == all[0].set {
			n++
		}
		list := make([]nftables.SetElement, n)
		for i, e := range all[:n] {
			list[i] = nftables.SetElement{Key: []byte(e.key), Comment: e.note}
		}
		if err := to(g.layouts[all[0].place].sets[all[0].set], list); err != nil {
			return fmt.Errorf("set %s: %w", all[0].set, err)
		}
		all = all[n:]
	}
	return nil
}
