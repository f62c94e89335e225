package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/tests/bench/bed"
)

const (
	// workers attach and detach at the same time.
	workers = 16
	// rounds are the parts of the time for which many are measured; Padis and CNI take turns.
	rounds = 5
)

// many measures how many attaches with their detaches are done in a second by all workers together. Namespaces are made
// before a round, and dropped as soon as their instance is detached: what the kernel does with the pair then is part of it.
func (m *machine) many() ([]figure, error) {
	perSecond := make([][]float64, len(m.lanes))
	for range rounds {
		for i, l := range m.lanes {
			n, err := l.round(time.Duration(m.seconds) * time.Second / rounds)
			if err != nil {
				return nil, fmt.Errorf("%s, %d at a time: %w", l.name, workers, err)
			}
			perSecond[i] = append(perSecond[i], n)
		}
	}
	var out []figure
	for i, l := range m.lanes {
		slices.Sort(perSecond[i])
		out = append(out, figure{l.prefix() + "attach_detach_per_second_16way", "1/s", perSecond[i][rounds/2]})
	}
	return out, nil
}

// round returns what it did in a second.
func (l *measured) round(length time.Duration) (float64, error) {
	spaces := make(chan int, 600*int(length/time.Second+1))
	for range cap(spaces) {
		ns, err := bed.NewNamespace()
		if err != nil {
			return 0, err
		}
		spaces <- ns
	}
	close(spaces)
	var done atomic.Int64
	var failed sync.Map
	var all sync.WaitGroup
	begun := time.Now()
	for worker := range workers {
		all.Go(func() {
			for ns := range spaces {
				number := int(l.number.Add(1))
				_, err := l.lane.attach(ns, number)
				if err == nil {
					err = l.lane.detach(ns, number)
				}
				unix.Close(ns)
				if err != nil {
					failed.Store(worker, err)
					return
				}
				if done.Add(1); time.Since(begun) > length {
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	for ns := range spaces {
		unix.Close(ns)
	}
	var err error
	failed.Range(func(_, e any) bool { err = errors.Join(err, e.(error)); return true })
	return float64(done.Load()) / took.Seconds(), errors.Join(err, settle())
}

func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
