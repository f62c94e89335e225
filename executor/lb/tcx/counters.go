package tcx

import (
	"fmt"

	"github.com/cilium/ebpf"

	"padis.io/padis/executor/lb"
)

// reasons is how many there are: those of executor/lb.
const reasons = int(lb.Disagreed) + 1

// counter is struct counter of bpf/state.h.
type counter struct {
	Bytes   uint64
	Packets [reasons]uint64
}

// Count is how many packets were treated for which reason, since the service is in force, and the bytes of all of them: of
// their frames.
type Count struct {
	Bytes   uint64
	Packets map[lb.Reason]uint64
}

// Counters are the counts of the services, and of what belongs to none (frames for others, no service, malformed ...).
type Counters struct {
	Services map[Listener]Count
	Rest     Count
}

// Counters reads them. Those of a service begin again when it is taken away and put in force again.
func (d *Dataplane) Counters() (Counters, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.plan == nil {
		return Counters{}, errClosed
	}
	rest, err := d.count(0)
	if err != nil {
		return Counters{}, err
	}
	c := Counters{Services: make(map[Listener]Count, len(d.plan.services)), Rest: rest}
	for l, p := range d.plan.services {
		if c.Services[l], err = d.count(p.cell.counter); err != nil {
			return Counters{}, err
		}
	}
	return c, nil
}

func (d *Dataplane) count(i uint32) (Count, error) {
	cpus := make([]counter, ebpf.MustPossibleCPU())
	if err := d.maps[directorMapCounters].Lookup(i, &cpus); err != nil {
		return Count{}, fmt.Errorf("read counter %d: %w", i, err)
	}
	c := Count{Packets: map[lb.Reason]uint64{}}
	for _, cpu := range cpus {
		c.Bytes += cpu.Bytes
		for r, n := range cpu.Packets {
			if n > 0 {
				c.Packets[lb.Reason(r)] += n
			}
		}
	}
	return c, nil
}
