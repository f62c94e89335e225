package sim

import (
	"fmt"
	"strconv"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Run lives through one history: a random world, faults for a while, then peace, until all is as it is wanted.
func Run(opt Options) Result {
	if opt.Chaos == 0 {
		opt.Chaos = time.Minute
	}
	w := newWorld(opt)
	w.random()
	w.begin()
	w.advance(w.between(opt.Chaos/4, opt.Chaos))
	if !w.over {
		w.peace()
		w.settle()
	}
	return w.finish()
}

// random makes hosts, pools, tenants and the first apps.
func (w *World) random() {
	least, grain := int64(2000), int64(500)
	if w.rng.IntN(4) == 0 { // a narrow world: its hosts are often full to the last CPU, and offer nothing at all
		least, grain = 700, 200
	}
	for i := range 2 + w.rng.IntN(4) {
		w.addHost(map[string]string{"rack": "r" + strconv.Itoa(i%3+1)}, mesos.Amounts{
			CPUMilli: least + grain*int64(w.rng.IntN(5)), MemoryMilli: 1000 * (1024 + 256*int64(w.rng.IntN(5))), DiskMilli: 10000 * 1000,
		})
	}
	c := w.user.cluster
	for i := range 1 + w.rng.IntN(2) {
		n := strconv.Itoa(i + 1)
		network := &padisv1.Network{Name: "net" + n, Driver: "bridge", Bridge: "padis" + n}
		switch w.rng.IntN(6) {
		case 0:
			network.Driver, network.Vni, network.Parent = "vxlan", int32(100+i), "eth0"
		case 1:
			network.Driver, network.Vni = "vxlan", int32(100+i)
		case 2:
			network.Bandwidth = &padisv1.Bandwidth{Ingress: 1e9, Egress: 1e8}
		}
		c.Networks = append(c.Networks, network)
		c.Pools = append(c.Pools, &padisv1.Pool{Name: "pool" + n, Network: "net" + n, Cidr: "10.0." + n + ".0/24", Gateway: "10.0." + n + ".1", ReuseDelayMs: []int64{0, 0, 3000, 15000}[w.rng.IntN(4)]})
	}
	c.Networks = append(c.Networks, &padisv1.Network{Name: "host", Driver: "host"})
	for _, h := range w.hosts {
		if w.rng.IntN(8) == 0 {
			h.stray = "10.0.1." + strconv.Itoa(10+w.rng.IntN(20))
		}
	}
	for i := range w.rng.IntN(4) {
		t := &padisv1.Tenant{Name: "t" + strconv.Itoa(i+1)}
		if i > 0 && w.rng.IntN(2) == 0 {
			t.NotColocatedWith = []string{"t1"}
		}
		if w.rng.IntN(6) == 0 {
			t.Dedicated = []*padisv1.AgentSelector{{Attribute: "hostname", Value: "host" + strconv.Itoa(1+w.rng.IntN(len(w.hosts)))}}
		}
		c.Tenants = append(c.Tenants, t)
	}
	for range 1 + w.rng.IntN(3) {
		w.user.create()
	}
	if w.rng.IntN(2) == 0 {
		w.user.createBalancer()
	}
}

// begin starts everything.
func (w *World) begin() {
	w.mesos.run()
	w.mesos.poll()
	w.sched.start()
	w.user.resync()
	if w.chaos {
		w.mischief()
		w.user.act()
	}
}

// calm is how long everything must be as it is wanted.
const calm = 4 * time.Second

// settle waits until all is as it is wanted, and checks that it stays so.
func (w *World) settle() {
	end := w.now.Add(w.opt.Settle)
	why := ""
	for w.now.Before(end) {
		w.advance(500 * time.Millisecond)
		if w.truth.watch(); w.over {
			return
		}
		if why = w.user.unmet(); why != "" {
			w.settled = time.Time{}
			continue
		}
		if w.settled.IsZero() {
			w.settled = w.now
		}
		if w.now.Sub(w.settled) >= calm {
			return
		}
	}
	w.violate("%s after the faults ended: %s", w.opt.Settle, why)
}

func agentID(h *host, n int) string { return fmt.Sprintf("A%d-%d", h.index+1, n) }
