package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"padis.io/padis/executor/lb"
)

// replay plays all changes. After each one it sends packets while some hosts are late, while some directors are, and when all
// have the change; then the flows of servers that died are opened anew.
func replay(c config, say func(string, ...any)) (result, error) {
	total := result{routed: map[string]int{}}
	f, v, err := begin(c)
	if err != nil {
		return total, err
	}
	random := rand.New(rand.NewPCG(c.seed, 6))
	for i := range c.changes {
		f.change(random, i)
		if v, err = f.next(v); err != nil {
			return total, err
		}
		router := i % len(routers)
		f.lateHost, f.lateDirector = func(n int) bool { return n%2 == i%2 }, func(int) bool { return true }
		total.add(f.check(i%8, 8, router, false))
		f.lateHost, f.lateDirector = nobodyIsLate, func(n int) bool { return n%2 == i%2 }
		total.add(f.check((i+4)%8, 8, router, false))
		if i == c.changes/2 { // in the middle of this change
			f.kill(&total)
			for router := range routers {
				total.add(f.check(0, 1, router, false))
			}
		}
		f.lateDirector = nobodyIsLate
		total.add(f.check(0, 1, router, true))
		f.before = f.now
		if err := f.open(); err != nil {
			return total, err
		}
		if i%20 == 19 {
			say("%d changes: %d flows moved; %d packets, relayed %d times", i+1, total.moved, total.packets, total.relayed)
		}
	}
	total.chain = float64(v.four.Entries()+v.six.Entries()) / 2 / float64(c.slots)
	return total, nil
}

// begin has all servers serving, and all flows open.
func begin(c config) (*farm, version, error) {
	random := rand.New(rand.NewPCG(c.seed, 5))
	f := &farm{lateHost: nobodyIsLate, lateDirector: nobodyIsLate, holder: make([]int, c.flows), slots: c.slots}
	for n := range c.servers {
		f.servers, f.left = append(f.servers, newServer(n)), append(f.left, 0)
	}
	for n := range c.flows {
		f.flows, f.holder[n] = append(f.flows, flow(random, n)), nobody
	}
	for n := range directors {
		f.alive = append(f.alive, n)
	}
	v, err := f.next(version{})
	if err != nil {
		return nil, v, err
	}
	f.before = f.now
	return f, v, f.open()
}

// change lets drains go on, and adds a server or drains one, in turn.
func (f *farm) change(random *rand.Rand, i int) {
	var serving []int
	for n := range f.servers {
		switch s := &f.servers[n]; {
		case s.State == lb.Draining && f.left[n] == 0:
			s.State = lb.Dead
		case s.State == lb.Draining:
			f.left[n]--
		case s.State == lb.Serving:
			serving = append(serving, n)
		}
	}
	if i%2 == 0 {
		f.servers, f.left = append(f.servers, newServer(len(f.servers))), append(f.left, 0)
		return
	}
	n := serving[random.IntN(len(serving))]
	f.servers[n].State, f.left[n] = lb.Draining, drain
}

func (f *farm) next(v version) (version, error) {
	s := lb.Service{VIP: vip4, Protocol: lb.TCP, Ports: lb.Ports{First: 443, Last: 443}, TableSize: uint32(f.slots)}
	var err error
	if v.four, err = lb.Next(v.four, s, f.servers); err != nil {
		return v, err
	}
	s.VIP = vip6
	if v.six, err = lb.Next(v.six, s, f.servers); err != nil {
		return v, err
	}
	f.now, err = v.tables()
	return v, err
}

// open opens the flows that have no live server, by a SYN.
func (f *farm) open() error {
	room := make([]byte, 0, 128)
	for n, s := range f.holder {
		if s != nobody && f.servers[s].State != lb.Dead {
			continue
		}
		server, v, _ := f.send(room, n, f.alive[n%len(f.alive)], syn)
		if v.Reason != lb.NewFlow {
			return fmt.Errorf("flow %v cannot be opened: %s", f.flows[n], v)
		}
		f.holder[n] = server
	}
	return nil
}

// kill takes a director away, and counts the flows that each router then sends to another than before.
func (f *farm) kill(r *result) {
	before := f.alive
	f.alive = slices.DeleteFunc(slices.Clone(before), func(d int) bool { return d == killed })
	for _, router := range routers {
		for n := range f.flows {
			if h := mix(uint64(n)); router.choose(h, before) != router.choose(h, f.alive) {
				r.routed[router.name]++
			}
		}
	}
}
