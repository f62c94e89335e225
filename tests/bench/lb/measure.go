package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// measure runs everything in rounds. The thread stays on its processor's caches as far as the machine lets it.
func (b *bench) measure() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for round := range b.rounds + 1 {
		for _, m := range b.all {
			ns, err := m.once(b.repeat)
			if err != nil {
				return err
			}
			if round > 0 { // the first only warms
				m.ns = append(m.ns, ns)
			}
		}
	}
	return nil
}

func (m *measurement) once(repeat int) (float64, error) {
	got, took, err := m.program.Benchmark(m.frame, repeat, nil)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", m.name, err)
	}
	if !m.any && got != m.wants {
		return 0, fmt.Errorf("%s: the program returned %d, want %d", m.name, int32(got), int32(m.wants))
	}
	return float64(took) / float64(time.Nanosecond), nil
}

// cost is the median over the rounds of what the program costs.
func (m *measurement) cost() float64 {
	each := slices.Clone(m.ns)
	if m.above != nil {
		for i := range each {
			each[i] += m.floor.ns[i] - m.above.ns[i]
		}
	}
	slices.SortFunc(each, cmp.Compare[float64])
	return each[len(each)/2]
}

func (b *bench) print() {
	for _, v := range b.verdicts {
		fmt.Println(v)
	}
	fmt.Printf("state of %d services put in force in %.0f ms\n", manyVIPs, float64(b.set.Milliseconds()))
	figures := slices.DeleteFunc(slices.Clone(b.all), func(m *measurement) bool { return m.name == "" })
	slices.SortStableFunc(figures, func(x, y *measurement) int { return strings.Compare(x.name, y.name) })
	for _, m := range figures {
		fmt.Printf("figure: %s %.1f ns\n", m.name, m.cost())
	}
	fmt.Printf("figure: set_1000_vips_ms %.0f ms\n", float64(b.set.Milliseconds()))
}
