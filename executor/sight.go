package executor

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// auditPause is the time between two looks at what the host and all instances have.
	auditPause = time.Minute
	// auditSoon is how soon after a network that is new on the host it is looked: addresses may have moved to its bridge.
	auditSoon = time.Second
	// forgetConflict is when one that was not seen again is forgotten, and what a network had that nobody uses any more.
	forgetConflict = 5 * time.Minute
	// conflictStep is the least by which the time of a conflict is brought up to date.
	conflictStep = 30 * time.Second
	// surplusPause is how long after the end of an instance what it alone needed of the host is looked for.
	surplusPause = time.Second
)

// sight is what the executor knows of the host's network beside its instances.
type sight struct {
	// hosts are the addresses of the host's own interfaces, used those that instances have, by container.
	hosts []*padisv1.HostAddress
	used  map[string][]*padisv1.UsedAddress
	// conflicts by network and address, states by network; at is when each was true last.
	conflicts map[[2]string]*conflict
	states    map[string]*fared
	// networks that instances were attached to.
	networks map[string]bool
	auditAt  time.Time
	auditing bool
	// surplus are segments with gateways whose instances have ended, without the gateways; they are looked at by surplusAt.
	surplus   map[string]network.Segment
	surplusAt time.Time
	holdUntil time.Time
}

func newSight() sight {
	return sight{
		used: map[string][]*padisv1.UsedAddress{}, conflicts: map[[2]string]*conflict{}, states: map[string]*fared{},
		networks: map[string]bool{}, surplus: map[string]network.Segment{},
	}
}

type conflict struct {
	said *padisv1.AddressConflict
	at   time.Time
}

type fared struct {
	failure *instance.Failure
	at      time.Time
}

// watch reports strangers who use addresses of instances.
func (e *Executor) watch() {
	e.Network.Watch(e.background, func(c kernel.Conflict) {
		e.post(func(now time.Time) { e.conflicting(now, c) })
	})
}

func (e *Executor) conflicting(now time.Time, c kernel.Conflict) {
	key := [2]string{c.Network, c.Address.String()}
	have := e.conflicts[key]
	if have == nil {
		e.Conflicts++
		e.Log.Warn("somebody else uses the address of an instance", zap.String("network", key[0]), zap.String("address", key[1]), zap.Stringer("mac", c.MAC))
	}
	if have != nil && have.said.GetMac() == c.MAC.String() && now.Sub(time.UnixMilli(have.said.GetSeenMs())) < conflictStep {
		have.at = now
		return
	}
	e.conflicts[key] = &conflict{at: now, said: &padisv1.AddressConflict{Network: key[0], Address: key[1], Mac: c.MAC.String(), SeenMs: now.UnixMilli()}}
	e.tellSoon(now)
}

// fared notes how the networks of an instance fared when they were made or changed; f is nil if all is well.
func (e *Executor) fared(now time.Time, w network.Wanted, f *instance.Failure) {
	var networks []string
	for _, s := range w.Segments {
		networks = append(networks, s.Network)
	}
	if f == nil {
		for _, n := range networks {
			if e.states[n] != nil {
				delete(e.states, n)
				e.tellSoon(now)
			}
		}
		return
	}
	// An error begins with the network that it is of; one that does not is of all.
	named := slices.DeleteFunc(slices.Clone(networks), func(n string) bool { return !strings.Contains(f.Message, "network "+n+": ") })
	if len(named) > 0 {
		networks = named
	}
	for _, n := range networks {
		e.states[n] = &fared{f, now}
	}
	e.tellSoon(now)
}

// uses notes what an instance has, as far as that is known without a look.
func (e *Executor) uses(now time.Time, l *life) {
	c := l.plan.Container
	e.used[c] = nil
	for _, i := range l.plan.Wanted.Interfaces {
		for _, a := range i.Addresses {
			e.used[c] = append(e.used[c], &padisv1.UsedAddress{Container: c, Network: i.Network, Address: a.Addr().String()})
		}
		if !e.networks[i.Network] {
			e.networks[i.Network] = true
			e.auditBy(now.Add(auditSoon))
		}
	}
	e.tellSoon(now)
}

// unused forgets what an instance had.
func (e *Executor) unused(now time.Time, l *life) {
	if _, had := e.used[l.plan.Container]; had {
		delete(e.used, l.plan.Container)
		e.tellSoon(now)
	}
}

func (e *Executor) auditBy(at time.Time) {
	if e.auditAt.IsZero() || at.Before(e.auditAt) {
		e.auditAt = at
	}
}

// examined is one instance that is looked at.
type examined struct {
	l  *life
	ns int
}

// audit looks at the host and at all instances, without making anybody wait.
func (e *Executor) audit(now time.Time) {
	e.auditAt = now.Add(auditPause)
	if e.auditing {
		return
	}
	e.auditing = true
	e.forget(now)
	var all []examined
	for _, l := range e.lives {
		if l.state.Runs() && len(l.plan.Wanted.Interfaces) > 0 && !l.state.Silent() {
			l.probes.Add(1) // its namespace stays open
			all = append(all, examined{l, l.namespace()})
		}
	}
	orphans, host := e.orphans(), e.Host
	go func() {
		hosts, err := e.Network.Addresses()
		if err != nil {
			e.Log.Warn("the addresses of this host are not known", zap.Error(err))
		}
		used := map[string][]*padisv1.UsedAddress{}
		for _, x := range all {
			if x.ns >= 0 {
				if found, err := e.Network.Used(x.ns); err == nil { // it may have ended
					used[x.l.plan.Container] = usedBy(x.l.plan, found)
				}
			}
			x.l.probes.Done()
		}
		for _, c := range orphans {
			used[c] = remembered(host, c)
		}
		e.post(func(now time.Time) { e.audited(now, hosts, used, orphans) })
	}()
}

func usedBy(p instance.Plan, found []kernel.InterfaceAddress) []*padisv1.UsedAddress {
	networks := map[string]string{}
	for _, i := range p.Wanted.Interfaces {
		networks[i.Inside] = i.Network
	}
	var out []*padisv1.UsedAddress
	for _, f := range found {
		out = append(out, &padisv1.UsedAddress{Container: p.Container, Network: networks[f.Interface], Address: f.Address.Addr().String()})
	}
	return out
}

// remembered is what a container without a task was made with.
func remembered(host instance.Host, container string) []*padisv1.UsedAddress {
	l, err := readLaunch(instance.Directory(host.State, container))
	if err != nil {
		return nil
	}
	var out []*padisv1.UsedAddress
	for _, a := range l.GetAttachments() {
		if a.GetAddress() != "" {
			out = append(out, &padisv1.UsedAddress{Container: container, Network: a.GetNetwork().GetName(), Address: a.GetAddress()})
		}
	}
	return out
}

func (e *Executor) audited(now time.Time, hosts []kernel.InterfaceAddress, used map[string][]*padisv1.UsedAddress, orphans []string) {
	e.auditing = false
	if hosts != nil {
		e.hosts = nil
		for _, h := range hosts {
			e.hosts = append(e.hosts, &padisv1.HostAddress{Interface: h.Interface, Address: h.Address.String()})
		}
		e.announcer.at(e.Host.Name, hosts)
	}
	next := map[string][]*padisv1.UsedAddress{}
	for _, l := range e.lives {
		c := l.plan.Container
		if seen, ok := used[c]; ok && l.state.Runs() && !l.state.Silent() {
			next[c] = seen
		} else if had, ok := e.used[c]; ok {
			next[c] = had
		}
	}
	for _, c := range orphans {
		if e.found[c] && next[c] == nil {
			next[c] = used[c]
		}
	}
	e.used = next
	e.tell(now)
}

// forget drops what is not so any more.
func (e *Executor) forget(now time.Time) {
	maps.DeleteFunc(e.conflicts, func(_ [2]string, c *conflict) bool { return now.Sub(c.at) > forgetConflict })
	here := map[string]bool{}
	for _, l := range e.lives {
		for _, s := range l.plan.Wanted.Segments {
			here[s.Network] = true
		}
	}
	maps.DeleteFunc(e.states, func(n string, f *fared) bool { return !here[n] && now.Sub(f.at) > forgetConflict })
}

// seen adds to a statement what is known of addresses and networks.
func (e *Executor) seen(s *padisv1.FromExecutor) {
	s.HostAddresses = e.hosts
	for _, c := range slices.Sorted(maps.Keys(e.used)) {
		s.Addresses = append(s.Addresses, e.used[c]...)
	}
	for _, key := range slices.SortedFunc(maps.Keys(e.conflicts), func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }) {
		s.Conflicts = append(s.Conflicts, e.conflicts[key].said)
	}
	sessions := e.announcer.sessions()
	names := map[string]bool{}
	for n := range e.states {
		names[n] = true
	}
	for n := range sessions {
		names[n] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := &padisv1.NetworkState{Network: name, Sessions: sessions[name]}
		if f := e.states[name]; f != nil {
			n.Reason, n.Message = f.failure.Reason, f.failure.Message
		}
		s.Networks = append(s.Networks, n)
	}
}

// left behind by an instance: gateways that the host has for its networks.
func (e *Executor) spare(now time.Time, l *life) {
	for _, s := range l.plan.Wanted.Segments {
		if len(s.Gateways) == 0 {
			continue
		}
		s.Gateways = nil
		e.surplus[s.Network] = s
		e.surplusAt = now.Add(surplusPause)
	}
}

// tidy takes gateways away that no instance on the host needs any more.
func (e *Executor) tidy() {
	e.surplusAt = time.Time{}
	var segments []network.Segment
	kept := map[string]bool{}
	for _, l := range e.lives {
		segments = append(segments, l.plan.Wanted.Segments...)
		kept[l.plan.Container] = true
	}
	orphans := e.orphans()
	spare := slices.Collect(maps.Values(e.surplus))
	clear(e.surplus)
	if len(spare)+len(segments)+len(orphans) == 0 {
		return
	}
	host := e.Host
	go func() {
		others, err := neighbours(host, kept, orphans)
		if err == nil {
			err = e.Network.RemoveSurplus(slices.Concat(segments, others, spare))
		}
		if err != nil {
			e.Log.Warn("gateways that nobody needs may be left on this host", zap.Error(err))
		}
	}()
}

// neighbours are the segments of containers without a task, and of those of other executors on the host: these may have
// ended, but who can say.
func neighbours(host instance.Host, kept map[string]bool, orphans []string) ([]network.Segment, error) {
	if host.State == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Dir(instance.Directory(host.State, "x")))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []network.Segment
	for _, x := range entries {
		if kept[x.Name()] || !instance.ValidName(x.Name()) {
			continue
		}
		dir := instance.Directory(host.State, x.Name())
		owner, err := os.ReadFile(filepath.Join(dir, ownerFile))
		mine := err == nil && string(owner) == host.Owner
		if err != nil || mine && !slices.Contains(orphans, x.Name()) {
			continue
		}
		l, err := readLaunch(dir)
		if os.IsNotExist(err) && !mine {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p, f := instance.Recall(x.Name(), l, host); f == nil {
			out = append(out, p.Wanted.Segments...)
		}
	}
	return out, nil
}

// noteNetwork takes down what an event means for what is told of networks.
func (e *Executor) noteNetwork(now time.Time, l *life, ev instance.Event) {
	switch ev := ev.(type) {
	case instance.Attached:
		if ev.Failure == nil {
			e.uses(now, l)
			e.fared(now, l.plan.Wanted, nil)
		} else if ev.Failure.Reason != padisv1.ReasonLeaseExpired {
			e.fared(now, l.plan.Wanted, ev.Failure)
		}
		e.settle(now)
	case instance.Silenced:
		if ev.Failure == nil {
			e.unused(now, l)
		}
	case instance.Released:
		if ev.Failure == nil {
			e.unused(now, l)
		}
	}
}
