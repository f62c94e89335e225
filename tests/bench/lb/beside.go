package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"padis.io/padis/executor/lb"
)

// beside measures the floor, programs that only pass, and the object that is given.
func (b *bench) beside() error {
	spec, err := loadFeed()
	if err != nil {
		return err
	}
	var hot flow
	frame := hot.frame(lb.MAC{2}, flagACK)
	for _, w := range ways {
		p, err := ebpf.NewProgram(spec.Programs[w.passName])
		if err != nil {
			return err
		}
		b.keep(p)
		name := "floor_ns"
		if w.name != "xdp" {
			name = w.name + "_floor_ns"
		}
		b.add(&measurement{name: name, program: p, frame: frame, wants: w.pass})
	}
	if b.baseline == "" {
		return nil
	}
	return b.other()
}

// other loads the object as it is. If its maps are those of Katran's balancer, they get one VIP with one real server.
func (b *bench) other() error {
	spec, err := ebpf.LoadCollectionSpec(b.baseline)
	if err != nil {
		return fmt.Errorf("baseline %s: %w", b.baseline, err)
	}
	name, err := b.choose(spec)
	if err != nil {
		return err
	}
	chosen := spec.Programs[name]
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return fmt.Errorf("baseline %s: %w", b.baseline, err)
	}
	program := c.Programs[name]
	b.keep(program)
	for _, m := range c.Maps {
		b.keep(m)
	}
	hot := flow{Src: [4]byte{192, 0, 2, 1}, Dst: vip(0).As4(), Sport: [2]byte{0x9c, 0x40}, Dport: [2]byte{0, 80}}
	if err := katran(c, hot); err != nil {
		return fmt.Errorf("baseline %s: maps of Katran: %w", b.baseline, err)
	}
	own := lb.MAC{2, 0x42, 10, 0, 0, 9}
	frame := hot.frame(own, flagACK)
	verdict, once, err := program.Test(frame)
	if err != nil {
		return fmt.Errorf("baseline %s, program %s: %w", b.baseline, name, err)
	}
	b.verdicts = append(b.verdicts, fmt.Sprintf("baseline %s, program %s, returns %d on its frame", b.baseline, name, int32(verdict)))
	again, twice, err := program.Test(once)
	if err == nil && again == verdict && len(twice) == len(once) && bytes.Equal(twice, once) {
		b.add(&measurement{name: "baseline_ns_hit_hot", program: program, frame: frame, any: true})
		return nil
	}
	// What it did to the frame would make another packet of the next run: the feed makes the same one of it each time.
	w := ways[0]
	if chosen.Type == ebpf.SchedCLS {
		w = ways[1]
	}
	w.like, w.forward = *chosen, verdict
	return b.fed(w, "baseline_ns_hit_hot", program, &farm{own: own}, slices.Repeat([]flow{hot}, flows))
}

func (b *bench) choose(spec *ebpf.CollectionSpec) (string, error) {
	if b.named != "" {
		if spec.Programs[b.named] == nil {
			return "", fmt.Errorf("baseline %s has no program %q", b.baseline, b.named)
		}
		return b.named, nil
	}
	var names []string
	for _, kind := range []ebpf.ProgramType{ebpf.XDP, ebpf.SchedCLS} {
		for name, p := range spec.Programs {
			if p.Type == kind {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			return slices.Min(names), nil
		}
	}
	return "", fmt.Errorf("baseline %s has neither an XDP nor a tc program", b.baseline)
}

// katran fills the maps of Katran's balancer, if the object has them: VIP number 0, all of whose ring is real server 1.
func katran(c *ebpf.Collection, hot flow) error {
	const ring = 65537
	vips, rings, reals, control := c.Maps["vip_map"], c.Maps["ch_rings"], c.Maps["reals"], c.Maps["ctl_array"]
	if vips == nil || rings == nil || reals == nil || control == nil {
		return nil
	}
	key := make([]byte, vips.KeySize())
	copy(key, hot.Dst[:])
	copy(key[16:], hot.Dport[:])
	key[18] = lb.TCP
	if err := vips.Put(key, make([]byte, vips.ValueSize())); err != nil {
		return err
	}
	real := make([]byte, reals.ValueSize())
	copy(real, []byte{10, 1, 0, 1})
	if err := reals.Put(uint32(1), real); err != nil {
		return err
	}
	mac := make([]byte, control.ValueSize())
	copy(mac, []byte{2, 0x42, 10, 0, 0, 1})
	if err := control.Put(uint32(0), mac); err != nil {
		return err
	}
	for i := range uint32(ring) {
		if err := rings.Put(i, uint32(1)); err != nil {
			return err
		}
	}
	return nil
}
