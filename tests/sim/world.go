package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// epoch is when every simulated history begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Options say what happens in a history.
type Options struct {
	Seed uint64
	// Chaos is how long faults happen at most; Run takes a minute for zero, a script none.
	Chaos time.Duration
	// Settle is how long the world may take to converge after that; default 12 min.
	Settle time.Duration
	// Rude executors do not probe, which the invariants must notice.
	Rude bool
	// Keep is the number of trace lines that are kept; default 400, negative for all.
	Keep int
}

// Result is how a history went.
type Result struct {
	Seed uint64
	// Hash is over all lines of the trace.
	Hash uint64
	// Violations are empty if all was well.
	Violations []string
	// Trace is the last part of what happened.
	Trace []string
	// Events were processed, in Virtual time.
	Events  int
	Virtual time.Duration
	// Faults and Launches that happened.
	Faults, Launches int
}

// World is everything there is.
type World struct {
	opt    Options
	rng    *rand.Rand
	now    time.Time
	queue  events
	seq    uint64
	chaos  bool
	result Result
	hash   hasher

	store *store
	sched *sched
	mesos *master
	hosts []*host
	user  *user
	truth *truth
	// version of the executor that the scheduler offers.
	version int
	// settled since this time; zero while it is not.
	settled time.Time
	over    bool
}

type hasher interface {
	Write(p []byte) (int, error)
	Sum64() uint64
}

type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type events []event

func (q events) Len() int      { return len(q) }
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q events) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q *events) Push(x any) { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1].do = nil
	*q = old[:len(old)-1]
	return e
}

// newWorld makes an empty world; hosts and users are added by the caller.
func newWorld(opt Options) *World {
	if opt.Settle == 0 {
		opt.Settle = 12 * time.Minute
	}
	if opt.Keep == 0 {
		opt.Keep = 400
	}
	w := &World{opt: opt, rng: rand.New(rand.NewPCG(opt.Seed, 0x9e3779b97f4a7c15)), now: epoch, hash: fnv.New64a(), chaos: opt.Chaos > 0}
	w.result.Seed = opt.Seed
	w.truth = newTruth(w)
	w.store = newStore(w)
	w.mesos = newMaster(w)
	w.sched = newSched(w)
	w.user = newUser(w)
	return w
}

// after does something later.
func (w *World) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, do})
}

// step processes one event; false when there is none or the end of time has come.
func (w *World) step(until time.Time) bool {
	if len(w.queue) == 0 || w.queue[0].at.After(until) || w.over {
		return false
	}
	e := heap.Pop(&w.queue).(event)
	w.now = e.at
	e.do()
	w.result.Events++
	return true
}

// advance lets a span of time pass.
func (w *World) advance(d time.Duration) {
	until := w.now.Add(d)
	for w.step(until) {
	}
	if !w.over {
		w.now = until
	}
}

// note writes a line of the trace.
func (w *World) note(format string, args ...any) {
	line := fmt.Sprintf("%9.3f ", w.now.Sub(epoch).Seconds()) + fmt.Sprintf(format, args...)
	_, _ = w.hash.Write([]byte(line))
	w.result.Trace = append(w.result.Trace, line)
	if k := w.opt.Keep; k > 0 && len(w.result.Trace) > 2*k {
		w.result.Trace = append(w.result.Trace[:0], w.result.Trace[len(w.result.Trace)-k:]...)
	}
}

// violate records that an invariant does not hold and ends the history.
func (w *World) violate(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	w.note("VIOLATION %s", line)
	w.result.Violations = append(w.result.Violations, line)
	w.over = true
}

// fault notes a fault.
func (w *World) fault(format string, args ...any) {
	w.result.Faults++
	w.note("FAULT "+format, args...)
}

// chance is true with probability p while faults happen.
func (w *World) chance(p float64) bool { return w.chaos && w.rng.Float64() < p }

// between is a random span.
func (w *World) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)+1))
}

// pipe is a connection: what goes in comes out in the order in which it went in.
type pipe struct{ last time.Time }

// send lets something come out of the pipe.
func (p *pipe) send(w *World, do func()) {
	d := w.between(500*time.Microsecond, 3*time.Millisecond)
	if w.chance(0.01) {
		d = w.between(100*time.Millisecond, 4*time.Second)
	}
	at := w.now.Add(d)
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at
	w.after(at.Sub(w.now), do)
}

// finish completes the result.
func (w *World) finish() Result {
	w.result.Hash = w.hash.Sum64()
	w.result.Virtual = w.now.Sub(epoch)
	return w.result
}
