// Package child keeps a process of the executor's own binary for what would make the executor large, or might hurt it: it gets
// orders over a pipe, each of them whole, and says how it stands with the newest. Edge: talks to processes.
//
// A child that ends, for whatever reason, is started again with the newest order; one that has nothing to do ends. When the
// executor ends, so do the orders, and with them the child.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	firstDelay, maxDelay = 100 * time.Millisecond, 30 * time.Second
	// A child that ran for as long starts again at once.
	stable = time.Minute
	// A child that answers no order for as long is ended.
	answerWait = 30 * time.Second
	// How long a child may take to end by itself.
	endWait = 2 * time.Second
)

// Job is what a child is for.
type Job[O, S any] struct {
	// Exe is the executor's own binary, which is run as `exe Verb`.
	Exe, Verb string
	// Idle tells that an order needs no child.
	Idle func(O) bool
	// Trim is what of an order a child must be told that was told the one before already; the first time that is the zero
	// value. Nil: all of it.
	Trim func(order, before O) O
	// Without says what it means that there is no child for now.
	Without string
	Log     *zap.Logger
}

// Keeper keeps a child while there is something for it to do. Its methods may be called at the same time.
type Keeper[O, S any] struct {
	job  Job[O, S]
	done chan struct{}

	mu sync.Mutex
	// What was ordered last, and what the child said last. They are of one child if applied is not less than its first.
	order   Frame[O]
	status  S
	failed  string
	applied uint64
	// Closed and replaced when applied grows.
	grown chan struct{}
	// Has room for one: there is a new order.
	ordered chan struct{}
	changed chan struct{}
}

// Keep returns at once. ctx ends the child.
func Keep[O, S any](ctx context.Context, j Job[O, S]) *Keeper[O, S] {
	k := &Keeper[O, S]{job: j, done: make(chan struct{}), grown: make(chan struct{}), ordered: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	go k.run(ctx)
	return k
}

// Done is closed when the child is gone after ctx ended.
func (k *Keeper[O, S]) Done() <-chan struct{} { return k.done }

// Changed receives after what State tells has changed; several changes may be one.
func (k *Keeper[O, S]) Changed() <-chan struct{} { return k.changed }

// Set gives an order, which must not be changed afterwards, and returns the generation to Wait for.
func (k *Keeper[O, S]) Set(order O) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.order = Frame[O]{k.order.Generation + 1, order}
	select {
	case k.ordered <- struct{}{}:
	default:
	}
	return k.order.Generation
}

// State is the newest order, the newest word of the child, and why there is none if there should be.
func (k *Keeper[O, S]) State() (order O, status S, failed string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.order.Body, k.status, k.failed
}

// Wait returns when the order of that generation, or a later one, is carried out. The error is that of ctx.
func (k *Keeper[O, S]) Wait(ctx context.Context, generation uint64) error {
	for {
		k.mu.Lock()
		applied, grown, failed := k.applied, k.grown, k.failed
		k.mu.Unlock()
		if applied >= generation {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			if failed != "" {
				return fmt.Errorf("%w (%s)", ctx.Err(), failed)
			}
			return ctx.Err()
		}
	}
}

func (k *Keeper[O, S]) current() Frame[O] {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.order
}

// heard takes in what the child says; failed, if not empty, is why there is no child.
func (k *Keeper[O, S]) heard(f Frame[S], failed string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status, k.failed = f.Body, failed
	if f.Generation > k.applied {
		k.applied = f.Generation
		close(k.grown)
		k.grown = make(chan struct{})
	}
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *Keeper[O, S]) run(ctx context.Context) {
	defer close(k.done)
	delay := firstDelay
	for {
		select {
		case <-k.ordered:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			o := k.current()
			if k.job.Idle(o.Body) {
				k.heard(Frame[S]{Generation: o.Generation}, "")
				break
			}
			began := time.Now()
			err := k.child(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			if time.Since(began) >= stable {
				delay = firstDelay
			}
			k.heard(Frame[S]{}, fmt.Sprintf("the process %q ended (%v) and starts again in %v; %s", k.job.Verb, err, delay, k.job.Without))
			k.job.Log.Warn("a process of the executor ended", zap.String("verb", k.job.Verb), zap.Error(err), zap.Duration("startsIn", delay))
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
			delay = min(2*delay, maxDelay)
		}
	}
}

// child runs one child. It returns nil if that is not needed any more.
func (k *Keeper[O, S]) child(ctx context.Context) error {
	cmd := exec.Command(k.job.Exe, k.job.Verb)
	cmd.Stderr = os.Stderr
	// Signals for the executor are not for it: it ends when its orders end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
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
	hung := time.AfterFunc(answerWait, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	answers, ended, over := make(chan Frame[S], 1), make(chan error, 1), make(chan struct{})
	go func() {
		ended <- listen(out, answers)
		close(over)
	}()
	err = k.talk(ctx, in, answers, ended, hung)
	_ = in.Close()
	hung.Reset(endWait)
	<-over
	if exit := cmd.Wait(); err != nil && exit != nil {
		err = exit
	}
	return err
}

// listen keeps the last answer in answers until the child ends. It never waits for who takes them, so that the child never
// waits either.
func listen[S any](out io.Reader, answers chan Frame[S]) error {
	for {
		var f Frame[S]
		if err := read(out, &f); err != nil {
			return err
		}
		select {
		case <-answers: // is outdated
		default:
		}
		answers <- f
	}
}

// talk gives the child orders, one at a time, until there is nothing to do any more (nil), ctx ends (nil), or the child does.
func (k *Keeper[O, S]) talk(ctx context.Context, in io.Writer, answers <-chan Frame[S], ended <-chan error, hung *time.Timer) error {
	var sent Frame[O]
	send := func() error {
		before := sent.Body
		sent = k.current()
		hung.Reset(answerWait)
		f := sent
		if k.job.Trim != nil {
			f.Body = k.job.Trim(sent.Body, before)
		}
		return write(in, f)
	}
	if err := send(); err != nil {
		return err
	}
	for {
		select {
		case f := <-answers:
			k.heard(f, "")
			if f.Generation < sent.Generation {
				continue
			}
			hung.Stop()
			if k.job.Idle(sent.Body) {
				return nil
			}
		case <-k.ordered:
			if err := send(); err != nil {
				return err
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				err = errors.New("it ended by itself")
			}
			return err
		case <-ctx.Done():
			return nil
		}
	}
}
