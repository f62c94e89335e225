package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"padis.io/padis/mesos/local/hosts"
)

// between are two of the checks, for which everything ends: so many kills.
const between = 12

// run is the parent: it starts, kills and counts.
type run struct {
	options
	progress
	cycles, adopted, duplicates atomic.Int64
	store                       *exec.Cmd
}

// soak is the whole run, in the machine.
func soak(o options) error {
	if err := hosts.PrivateMounts(o.dir); err != nil {
		return err
	}
	if err := o.world(); err != nil {
		return err
	}
	before, err := o.read()
	if err != nil {
		return err
	}
	r := &run{options: o, progress: before}
	r.cycles.Store(int64(before.Cycles))
	r.adopted.Store(int64(before.Adopted))
	r.duplicates.Store(int64(before.Duplicates))
	stop, err := r.watch()
	if err != nil {
		return err
	}
	if err := r.startStore(); err != nil {
		return err
	}
	err = r.all()
	if stopped := stop(); err == nil {
		err = stopped
	}
	r.note()
	if err := errors.Join(err, o.write(r.progress)); err != nil {
		return err
	}
	fmt.Printf("%d kills of the worker, %d of the store; %d instances outlived one; %d checks\n", r.Kills, r.StoreKills, r.Adopted, r.Checks)
	fmt.Printf("figure: soak_cycles %d 1\nfigure: soak_leaks %d 1\nfigure: soak_duplicates %d 1\n", r.Cycles, r.Leaks, r.Duplicates)
	if r.Leaks+r.Duplicates > 0 {
		return errors.New("something was left behind, or doubled")
	}
	return nil
}

func (r *run) note() {
	r.Cycles, r.Adopted, r.Duplicates = int(r.cycles.Load()), int(r.adopted.Load()), int(r.duplicates.Load())
}

func (r *run) all() error {
	for n := 1; ; n++ {
		last := r.cycles.Load() >= int64(r.options.cycles)
		if last || n%between == 0 {
			if err := r.epoch(true); err != nil {
				return err
			}
			found, err := r.check()
			if err != nil {
				return err
			}
			for _, f := range found {
				fmt.Println("left behind:", f)
			}
			r.Leaks += len(found)
			r.Checks++
			r.note()
			if err := r.write(r.progress); err != nil {
				return err
			}
			fmt.Printf("%d cycles, %d kills, %d leaks, %d duplicates\n", r.Cycles, r.Kills+r.StoreKills, r.Leaks, r.Duplicates)
			if last {
				return nil
			}
			continue
		}
		if err := r.epoch(false); err != nil {
			return err
		}
	}
}

// epoch is the life of one worker: until it is killed, or, when it shall drain, until it has finished.
func (r *run) epoch(drain bool) error {
	cmd := r.child(workerVerb)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		b := bufio.NewReader(out)
		for {
			c, err := b.ReadByte()
			if err != nil {
				return
			}
			switch c {
			case sayCycle:
				r.cycles.Add(1)
			case sayAdopt:
				r.adopted.Add(1)
			}
		}
	}()
	ended := make(chan error, 1)
	go func() {
		<-heard
		ended <- cmd.Wait()
	}()
	early := func(err error) error { return fmt.Errorf("the worker ended by itself: %w\n%s", err, said.String()) }
	wait := func(d time.Duration) error {
		select {
		case err := <-ended:
			return early(err)
		case <-time.After(d):
			return nil
		}
	}
	if rand.IntN(4) == 0 {
		if err := wait(rand.N(2 * time.Second)); err != nil {
			return err
		}
		r.StoreKills++
		if err := r.restartStore(); err != nil {
			return err
		}
	}
	if err := wait(100*time.Millisecond + rand.N(5*time.Second)); err != nil {
		return err
	}
	if drain {
		in.Close()
		select {
		case err := <-ended:
			if err != nil {
				return early(err)
			}
			return nil
		case <-time.After(5 * time.Minute):
			return fmt.Errorf("the worker does not come to an end\n%s", said.String())
		}
	}
	r.Kills++
	_ = cmd.Process.Kill()
	<-ended
	return nil
}

func (r *run) child(verb string) *exec.Cmd {
	return exec.Command("/proc/self/exe", verb, "-dir", r.dir)
}

func (r *run) startStore() error {
	r.store = r.child(storeVerb)
	r.store.Stderr = os.Stderr
	if _, err := r.store.StdinPipe(); err != nil {
		return err
	}
	return r.store.Start()
}

func (r *run) restartStore() error {
	_ = r.store.Process.Kill()
	_ = r.store.Wait()
	return r.startStore()
}

// watch asks on the wire who has each address, all the time.
func (r *run) watch() (stop func() error, err error) {
	cmd := exec.Command(filepath.Join(r.dir, "arpwatch"), "-round", "5ms", "switch0", first+"-"+last)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	heard := make(chan error, 1)
	go func() {
		answers := 0
		b := bufio.NewScanner(out)
		for b.Scan() {
			if strings.HasPrefix(b.Text(), "duplicate ") {
				r.duplicates.Add(1)
			}
			_, _ = fmt.Sscanf(b.Text(), "rounds %d answers %d", new(int), &answers)
			fmt.Println("on the wire:", b.Text())
		}
		err := cmd.Wait()
		if err == nil && answers == 0 {
			err = errors.New("nobody was ever seen on the wire, so that no duplicate could have been")
		}
		heard <- err
	}()
	return func() error {
		return errors.Join(in.(io.Closer).Close(), <-heard)
	}, nil
}
