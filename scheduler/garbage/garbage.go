// Package garbage says how much garbage of the control plane may wait to be collected. Most of its memory is caches that live for
// ever, so that little is allowed; but while much is declared at once, a heap that is small is not collected many times a second
// for the sake of some megabytes: on two cores that takes as long as the work itself. Edge: talks to the Go runtime.
package garbage

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// Calm is the garbage that may wait, in percent of what is in use.
	Calm = 40
	// Of much in use less may wait while the process is calm: no more than large bytes, but smallest percent.
	large, smallest = 192 << 20, 15
	// least is how much may wait in bytes, however little is in use, while the process is busy. At its start everybody is, and what
	// is left between garbage then is never in one piece again: less, for that long.
	least, leastAtStart = 256 << 20, 32 << 20
	start               = 3 * time.Second
	// most bounds the percentage.
	most = 800
	// beat is how often it is looked whether the process is busy, and patience for how many beats it is taken for busy.
	beat, patience = 100 * time.Millisecond, 20
)

// pacer knows whether the process is busy: it is for a while after garbage was collected twice within few beats.
type pacer struct {
	cycles uint64
	// beats is the number of beats, since that of those since the last collection, left that for which the process is busy.
	beats, since, left int
}

// next gives the percentage after a beat, at the end of which there were that many collections, the last of which left live bytes.
func (p *pacer) next(cycles, live uint64) int {
	p.beats++
	p.since++
	if cycles != p.cycles {
		if cycles-p.cycles > 1 || p.since <= patience {
			p.left = patience + 1
		}
		p.cycles, p.since = cycles, 0
	}
	p.left = max(0, p.left-1)
	live = max(live, 1)
	switch {
	case p.left == 0:
		return int(min(Calm, max(large*100/live, smallest)))
	case p.beats < int(start/beat):
		return int(min(max(Calm, leastAtStart*100/live), most))
	}
	return int(min(max(Calm, least*100/live), most))
}

// Pace sets the percentage until ctx ends, and calls calm whenever the process has been busy and is no more.
func Pace(ctx context.Context, calm func()) {
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var p pacer
	now := Calm
	debug.SetGCPercent(now)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		// Setting it stops the world for a moment.
		if next := p.next(samples[0].Value.Uint64(), samples[1].Value.Uint64()); next != now {
			now = next
			debug.SetGCPercent(now)
		}
		if p.left == 1 {
			// What was in use while it was busy is of use to others from now on.
			debug.FreeOSMemory()
			calm()
		}
	}
}
