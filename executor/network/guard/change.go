package guard

import (
	"cmp"
	"maps"
	"slices"

	"padis.io/padis/executor/network"
)

// A step removes elements, then adds some.
type step struct{ del, add []element }

// places is a set of tables.
type places [3]bool

// placesOf are the tables that steps write to.
func placesOf(steps []step) places {
	var p places
	for _, s := range steps {
		for _, e := range s.del {
			p[e.place] = true
		}
		for _, e := range s.add {
			p[e.place] = true
		}
	}
	return p
}

// all tells whether those that are needed are among them.
func (p places) all(needed places) bool {
	for at, is := range needed {
		if is && !p[at] {
			return false
		}
	}
	return true
}

// A change is what operations make of what is known, and the steps that tell the kernel.
type change struct {
	before state
	ports  map[string]*network.GuardedPort // nil: no more
	hosted map[string][]string
	steps  []step
}

func newChange(before state) *change {
	return &change{before: before, ports: map[string]*network.GuardedPort{}, hosted: map[string][]string{}}
}

// port as it is after the steps so far; nil if there is none.
func (c *change) port(link string) *network.GuardedPort {
	if p, ok := c.ports[link]; ok {
		return p
	}
	if p, ok := c.before.ports[link]; ok {
		return &p
	}
	return nil
}

func (c *change) guard(p network.GuardedPort) error {
	p.Addresses, p.Loopback = slices.Clone(p.Addresses), slices.Clone(p.Loopback)
	now, err := elements(p)
	if err != nil {
		return err
	}
	s := step{add: now}
	if old := c.port(p.Link); old != nil {
		was, err := elements(*old)
		if err != nil {
			return err
		}
		s.del = without(was, now)
	}
	c.ports[p.Link] = &p
	c.steps = append(c.steps, sorted(s))
	return nil
}

func (c *change) unguard(link string) error {
	old := c.port(link)
	if old == nil {
		return nil
	}
	was, err := elements(*old)
	if err != nil {
		return err
	}
	c.ports[link] = nil
	c.steps = append(c.steps, sorted(step{del: was}))
	return nil
}

// keepApart replaces the peers of a bridge; there are the elements of the table apart.
func (c *change) keepApart(bridge string, peers []string, there []element) error {
	now, err := hosting(bridge, peers)
	if err != nil {
		return err
	}
	was := slices.DeleteFunc(slices.Clone(there), func(e element) bool {
		return e.place != apart || len(e.key) < nameLen || text(e.key) != bridge
	})
	if _, again := c.hosted[bridge]; again {
		// An earlier step of this change has written them.
		was, _ = hosting(bridge, c.hosted[bridge])
	}
	c.hosted[bridge] = slices.Clone(peers)
	c.steps = append(c.steps, sorted(step{del: without(was, now), add: now}))
	return nil
}

// after is the state with the change.
func (c *change) after() state {
	s := state{maps.Clone(c.before.ports), maps.Clone(c.before.hosted)}
	c.commit(&s)
	return s
}

func (c *change) commit(s *state) {
	if s.ports == nil {
		s.ports, s.hosted = map[string]network.GuardedPort{}, map[string][]string{}
	}
	for l, p := range c.ports {
		if p == nil {
			delete(s.ports, l)
		} else {
			s.ports[l] = *p
		}
	}
	maps.Copy(s.hosted, c.hosted)
}

// sorted puts the elements of one set together, each once: they share a message.
func sorted(s step) step {
	for _, l := range []*[]element{&s.del, &s.add} {
		slices.SortFunc(*l, func(a, b element) int {
			return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.set, b.set), cmp.Compare(a.key, b.key))
		})
		*l = slices.Compact(*l)
	}
	return s
}

// merge makes one step of many that only add.
func merge(steps []step) []step {
	var all step
	for _, s := range steps {
		all.add = append(all.add, s.add...)
	}
	return []step{sorted(all)}
}
