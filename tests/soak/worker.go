package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/ledger"
	"padis.io/padis/scheduler/record"
	"padis.io/padis/tests/bench/bed"
)

// Words of the worker to its parent, one byte each.
const (
	sayCycle = 'c'
	sayAdopt = 'a'
)

// worker is the process that is killed: control plane and executors of both hosts.
type worker struct {
	options
	control *bed.Control
	hosts   map[string]*bed.Host
	// draining: standard input has ended, no new instances.
	draining atomic.Bool
	// full: the kernel is behind with taking away what ended; a bridge has 1023 ports.
	full atomic.Bool
}

// instance of a slot.
type instance struct {
	host *bed.Host
	task string
	ns   int
	w    network.Wanted
}

// work attaches and detaches until standard input ends, then finishes what is under way.
func work(o options) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	ctx := context.Background()
	l, err := ledger.Open(ctx, ledger.Config{Endpoints: []string{o.endpoint()}, DialTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer l.Close()
	known, err := l.Load(ctx)
	if err != nil {
		return err
	}
	wk := &worker{options: o, hosts: map[string]*bed.Host{}}
	wk.control = bed.NewControl(bed.Cluster(cidr), known.Leases, l, func() int64 { return time.Now().UnixMilli() })
	defer wk.control.Close()
	for _, name := range hostnames {
		if err := wk.inHost(name, func() (err error) {
			wk.hosts[name], err = bed.OpenHost(owner, name, filepath.Join(o.dir, "executor-"+name))
			return err
		}); err != nil {
			return err
		}
	}
	survivors, err := wk.reconcile(known)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		wk.draining.Store(true)
	}()
	go wk.look()
	failed := make(chan error, slots)
	var all sync.WaitGroup
	for i := range slots {
		all.Go(func() { failed <- wk.slot(i, survivors[i]) })
	}
	all.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// reconcile brings together what the ledger says and what is on the hosts, as a scheduler and executors do that start
// again. It returns the instances that outlived the last worker, attached, by slot.
func (wk *worker) reconcile(known record.Snapshot) (map[int]*instance, error) {
	survivors, live := map[int]*instance{}, map[string]bool{}
	holders := map[int]bool{}
	var over []int
	for _, r := range known.Instances {
		index := int(r.GetSlot())
		holders[index] = true
		ns, ok := wk.open(r.GetTaskId())
		if !ok {
			over = append(over, index)
			_ = bed.Unpin(filepath.Join(wk.pins(), r.GetTaskId())) // pinned half, or not at all
			continue
		}
		l, err := wk.control.Launch(index)
		if err != nil {
			return nil, err
		}
		i, err := wk.instance(wk.hosts[r.GetHostname()], r.GetTaskId(), ns, l)
		if err != nil {
			return nil, err
		}
		survivors[index] = i
		live[i.w.Interfaces[0].Host] = true
	}
	for _, l := range known.Leases {
		if !holders[int(l.GetSlot())] {
			return nil, fmt.Errorf("%s is leased to slot %d, of which there is no instance", l.GetAddress(), l.GetSlot())
		}
	}
	for _, h := range wk.hosts {
		removed, err := h.Sweep(live)
		if err != nil {
			return nil, fmt.Errorf("sweep %s: %w", h.Name, err)
		}
		for _, name := range removed {
			if live[name] {
				return nil, fmt.Errorf("sweep %s: %s was removed, which is alive", h.Name, name)
			}
		}
	}
	// Nobody has their addresses now.
	for _, index := range over {
		if err := wk.control.Release(index); err != nil {
			return nil, err
		}
	}
	for _, i := range survivors {
		if err := i.adopt(); err != nil {
			return nil, err
		}
		say(sayAdopt)
	}
	return survivors, nil
}

// adopt attaches again; after that nothing is left to do.
func (i *instance) adopt() error {
	if err := i.host.Attach(i.ns, i.w); err != nil {
		return fmt.Errorf("adopt %s: %w", i.task, err)
	}
	ops, err := i.host.Check(i.ns, i.w)
	if err == nil && len(ops) > 0 {
		err = fmt.Errorf("attached, but there is more to do: %s", ops)
	}
	if err != nil {
		return fmt.Errorf("adopt %s: %w", i.task, err)
	}
	return nil
}

func (wk *worker) instance(h *bed.Host, task string, ns int, l *padisv1.Launch) (*instance, error) {
	w, err := network.Want(h.Owner, task, h.Name, l)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", task, err)
	}
	return &instance{h, task, ns, w}, nil
}

// slot goes on with what is there, then with new instances.
func (wk *worker) slot(index int, there *instance) error {
	for {
		if there == nil {
			if wk.draining.Load() {
				return nil
			}
			if wk.full.Load() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			var err error
			if there, err = wk.begin(index); err != nil {
				return fmt.Errorf("slot %d: attach: %w", index, err)
			}
		}
		if rand.IntN(4) == 0 {
			time.Sleep(rand.N(20 * time.Millisecond))
		}
		if err := wk.end(index, there); err != nil {
			return fmt.Errorf("slot %d: detach: %w", index, err)
		}
		there = nil
		say(sayCycle)
	}
}

// begin leases, makes a namespace, which outlives this process or does not, and attaches.
func (wk *worker) begin(index int) (*instance, error) {
	h := wk.hosts[hostnames[rand.IntN(len(hostnames))]]
	attempt := time.Now().UnixNano() // used once
	l, err := wk.control.Lease(index, attempt, h.Name)
	if err != nil {
		return nil, err
	}
	ns, err := bed.NewNamespace()
	if err != nil {
		return nil, err
	}
	i, err := wk.instance(h, bed.Task(index, attempt), ns, l)
	if err != nil {
		return nil, err
	}
	if rand.IntN(2) == 0 {
		if err := bed.Pin(ns, filepath.Join(wk.pins(), i.task)); err != nil {
			return nil, err
		}
	}
	return i, h.Attach(ns, i.w)
}

// end detaches, lets the namespace go, and then the lease.
func (wk *worker) end(index int, i *instance) error {
	if err := i.host.Detach(i.ns, i.w); err != nil {
		return err
	}
	unix.Close(i.ns)
	if err := bed.Unpin(filepath.Join(wk.pins(), i.task)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return wk.control.Release(index)
}

// look keeps an eye on how far the kernel is behind.
func (wk *worker) look() {
	for {
		most := 0
		for _, name := range hostnames {
			_ = wk.inHost(name, func() error {
				links, err := net.Interfaces()
				most = max(most, len(links))
				return err
			})
		}
		wk.full.Store(most > 600)
		time.Sleep(200 * time.Millisecond)
	}
}

var mouth sync.Mutex

func say(word byte) {
	mouth.Lock()
	defer mouth.Unlock()
	_, _ = os.Stdout.Write([]byte{word})
}
