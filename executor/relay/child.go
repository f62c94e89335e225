package relay

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/child"
	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/tcx"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Exit statuses of the child.
const (
	exitOK = iota
	exitFailed
)

// Main is the child. It does what orders on in say and answers on out, until in ends: then it ends, and what it has put in
// force goes on. It returns the exit status, upon which the process has to end.
func Main(in io.Reader, out io.Writer, log *zap.Logger) int {
	r := relay{log: log, known: map[string]*balance{}, ports: map[int]Port{}}
	orders, over := child.Orders[State](in)
	for {
		select {
		case o := <-orders:
			if err := child.Tell(out, o.Generation, status{r.obey(o.Body)}); err != nil {
				return exitFailed // the executor is gone
			}
		case err := <-over:
			if err == nil {
				return exitOK
			}
			log.Error("the executor's orders cannot be read", zap.Error(err))
			return exitFailed
		}
	}
}

// leastServices is how many services a dataplane has room for at first.
const leastServices = 64

type relay struct {
	log       *zap.Logger
	known     map[string]*balance
	dataplane *tcx.Dataplane
	room      int
	pinned    bool
	ports     map[int]Port
}

// balance is what a child knows of a LoadBalancer.
type balance struct {
	number int64
	// order is the newest that could be read.
	order  *plan.Order
	failed string
}

// obey puts a State in force, and tells what became of each Balance.
func (r *relay) obey(s State) map[string]Done {
	r.read(s.Balances)
	generations := r.generations()
	failed := r.force(s, generations)
	if failed != nil {
		r.log.Error("what belongs to other real servers is not sent on", zap.Error(failed))
	}
	out := map[string]Done{}
	for uid, b := range r.known {
		d := Done{b.number, b.failed}
		if failed != nil {
			d.Error = failed.Error()
		}
		out[uid] = d
	}
	return out
}

// read takes in the Balances that are new. One that is wrong leaves the one before in force.
func (r *relay) read(all []Balance) {
	listed := map[string]bool{}
	for _, b := range all {
		listed[b.UID] = true
		have := r.known[b.UID]
		if have == nil {
			have = &balance{}
			r.known[b.UID] = have
		}
		if b.Number == have.number && len(b.Body) == 0 {
			continue
		}
		order, err := decode(b.Body, have.order)
		have.number, have.failed = b.Number, ""
		if err != nil {
			have.failed = err.Error()
			r.log.Error("the table of a load balancer cannot be read", zap.String("uid", b.UID), zap.Int64("number", b.Number), zap.Error(err))
			continue
		}
		have.order = order
	}
	maps.DeleteFunc(r.known, func(uid string, _ *balance) bool { return !listed[uid] })
}

// decode reads a Balance as directors do. Datagrams are not relayed.
func decode(body []byte, before *plan.Order) (*plan.Order, error) {
	var b padisv1.Balance
	if err := padisv1.Decode(body, &b); err != nil {
		return nil, err
	}
	b.Director, b.Udp = &padisv1.DirectorOrder{}, nil
	return plan.Read(&b, before)
}

// generations are the tables of all services, in the order of uids. A load balancer that claims the port of another is left out.
func (r *relay) generations() []*lb.Generation {
	var out []*lb.Generation
	for _, uid := range slices.Sorted(maps.Keys(r.known)) {
		b := r.known[uid]
		if b.order == nil {
			continue
		}
		own := make([]*lb.Generation, 0, len(b.order.Forwardings))
		for _, f := range b.order.Forwardings {
			own = append(own, f.Generation)
		}
		both := slices.Concat(out, own)
		if _, err := lb.NewTables(both...); err != nil {
			b.failed = fmt.Sprintf("%s/%s: %v", b.order.Namespace, b.order.Name, err)
			continue
		}
		out = both
	}
	return out
}

// force puts these tables in force at these ports.
func (r *relay) force(s State, generations []*lb.Generation) error {
	if len(s.Ports) == 0 {
		return r.rest(s)
	}
	if err := r.load(s, len(generations)); err != nil {
		return fmt.Errorf("%w; directors still reach the real servers of this host, but a change may break connections", err)
	}
	// Before the first port: what is taken over goes on with the tables that are in force then.
	if err := r.dataplane.Set(generations...); err != nil {
		return err
	}
	wanted := map[int]bool{}
	var failed []error
	for _, p := range s.Ports {
		wanted[p.Index] = true
		if r.ports[p.Index] == p {
			continue
		}
		err := r.dataplane.AttachPort(tcx.Port{Index: p.Index, MAC: lb.MAC(p.MAC), Netns: p.Netns, Out: p.Out})
		switch {
		case errors.Is(err, unix.ENODEV):
			// It went meanwhile, and the executor will say so.
		case err != nil:
			failed = append(failed, err)
		default:
			r.ports[p.Index] = p
		}
	}
	if !s.Partial {
		failed = append(failed, r.drop(s, wanted))
	}
	return errors.Join(failed...)
}

// load makes room for so many services.
func (r *relay) load(s State, services int) error {
	if r.dataplane != nil && services <= r.room {
		return nil
	}
	room := max(leastServices, 1<<bits.Len(uint(max(services, 1)-1)))
	o := tcx.Options{Mode: tcx.Relay, Services: room}
	pinned := true
	if err := s.Pins.prepare(); err != nil {
		r.log.Warn("what is relayed would end with this process", zap.Error(err))
		pinned = false
	}
	if pinned {
		o.Pin = s.Pins.Dir
	}
	if r.dataplane != nil && !r.pinned {
		// Nothing could take it over.
		r.close()
	}
	d, err := tcx.Load(o)
	if err != nil {
		return err
	}
	r.close()
	r.dataplane, r.room, r.pinned = d, room, pinned
	return nil
}

// close lets go of the dataplane; what is pinned goes on.
func (r *relay) close() {
	if r.dataplane == nil {
		return
	}
	if err := r.dataplane.Close(); err != nil {
		r.log.Warn("something was left of what was relayed", zap.Error(err))
	}
	r.dataplane = nil
	clear(r.ports)
}

// drop takes the relay from all ports but these, also from those of processes before.
func (r *relay) drop(s State, wanted map[int]bool) error {
	var failed []error
	for index := range r.ports {
		if !wanted[index] {
			failed = append(failed, r.dataplane.Detach(index))
			delete(r.ports, index)
		}
	}
	entries, err := os.ReadDir(s.Pins.Dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return errors.Join(append(failed, err)...)
	}
	for _, e := range entries {
		index, err := strconv.Atoi(e.Name()[strings.LastIndexByte(e.Name(), '-')+1:])
		if err == nil && wanted[index] {
			continue
		}
		// The link ends with its last name.
		if err := os.Remove(filepath.Join(s.Pins.Dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// rest relays nothing any more.
func (r *relay) rest(s State) error {
	if s.Partial {
		return nil
	}
	err := r.drop(s, nil)
	r.close()
	return cmp.Or(err, s.Pins.remove())
}

// prepare makes the folder, and the file system if need be.
func (p Pins) prepare() error {
	if p.Mount != "" && !isBPF(p.Mount) {
		if err := os.MkdirAll(p.Mount, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("bpf", p.Mount, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fmt.Errorf("mount a BPF file system at %s: %w; mount one at %s (mount -t bpf bpf %[3]s)", p.Mount, err, hostBPF)
		}
	}
	return os.MkdirAll(p.Dir, 0o700)
}

// remove takes the empty folder away, and with the last one the file system that was mounted for it.
func (p Pins) remove() error {
	if err := os.Remove(p.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if p.Mount == "" || !isBPF(p.Mount) {
		return nil
	}
	entries, err := os.ReadDir(p.Mount)
	// The kernel puts files of its own there.
	if err != nil || slices.ContainsFunc(entries, fs.DirEntry.IsDir) {
		return err
	}
	if err := unix.Unmount(p.Mount, 0); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %w", p.Mount, err)
	}
	return nil
}
