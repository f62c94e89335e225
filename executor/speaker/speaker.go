package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
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

// Speaker is the executor's side: it keeps a child while there is somebody to talk to.
type Speaker struct {
	exe  string
	log  *zap.Logger
	done chan struct{}

	mu sync.Mutex
	// What was ordered last, and what the child said last. They are of one child if applied is not less than its first.
	order    order
	sessions []Session
	failed   string
	applied  uint64
	// Closed and replaced when applied grows.
	grown chan struct{}
	// Has room for one: there is a new order.
	ordered chan struct{}
	changed chan struct{}
}

// Start returns at once. exe is the executor's own binary, which is run as `exe speaker`; ctx ends the child, and routers
// keep the routes for RestartTime then: who wants them gone sets an empty State, and waits for it, before.
func Start(ctx context.Context, exe string, log *zap.Logger) *Speaker {
	s := &Speaker{exe: exe, log: log, done: make(chan struct{}), grown: make(chan struct{}),
		ordered: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	go s.run(ctx)
	return s
}

// Done is closed when the child is gone after ctx ended.
func (s *Speaker) Done() <-chan struct{} { return s.done }

// Changed receives after Sessions changed; several changes may be one.
func (s *Speaker) Changed() <-chan struct{} { return s.changed }

// Set says what shall be announced from now on, and returns the generation to Wait for.
func (s *Speaker) Set(st State) uint64 {
	st.Networks = slices.Clone(st.Networks)
	for i := range st.Networks {
		n := &st.Networks[i]
		n.Peers, n.Addresses = slices.Clone(n.Peers), slices.Clone(n.Addresses)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = order{s.order.Generation + 1, st}
	select {
	case s.ordered <- struct{}{}:
	default:
	}
	return s.order.Generation
}

// Wait returns when the State of that generation, or a later one, is on its way to all routers that have a session. What
// was withdrawn is then not asked for any more, but for packets on their way. The error is that of ctx.
func (s *Speaker) Wait(ctx context.Context, generation uint64) error {
	for {
		s.mu.Lock()
		applied, grown, failed := s.applied, s.grown, s.failed
		s.mu.Unlock()
		if applied >= generation {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("speaker: generation %d is not announced yet (%s): %w", generation, failed, ctx.Err())
		}
	}
}

// Sessions tells for each network and router how it stands, in their order. While there is no child, none is established.
func (s *Speaker) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != "" {
		return s.order.State.sessions(nil, nil, s.failed)
	}
	return slices.Clone(s.sessions)
}

func (s *Speaker) current() order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order
}

// heard takes in what the child says; failed, if not empty, is why there is no child.
func (s *Speaker) heard(st status, failed string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions, s.failed = st.Sessions, failed
	if st.Generation > s.applied {
		s.applied = st.Generation
		close(s.grown)
		s.grown = make(chan struct{})
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Speaker) run(ctx context.Context) {
	defer close(s.done)
	delay := firstDelay
	for {
		select {
		case <-s.ordered:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			o := s.current()
			if o.State.idle() {
				s.heard(status{Generation: o.Generation}, "")
				break
			}
			began := time.Now()
			err := s.child(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			if time.Since(began) >= stable {
				delay = firstDelay
			}
			message := fmt.Sprintf("the process that announces ended (%v) and starts again in %v; routers keep the routes for %v", err, delay, RestartTime)
			s.heard(status{}, message)
			s.log.Warn("the BGP speaker ended", zap.Error(err), zap.Duration("startsIn", delay))
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
			delay = min(2*delay, maxDelay)
		}
	}
}

// child runs one child. It returns nil if that is not needed any more.
func (s *Speaker) child(ctx context.Context) error {
	cmd := exec.Command(s.exe, Verb)
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
	answers, ended, over := make(chan status, 1), make(chan error, 1), make(chan struct{})
	go func() {
		ended <- listen(out, answers)
		close(over)
	}()
	err = s.talk(ctx, in, answers, ended, hung)
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
func listen(out io.Reader, answers chan status) error {
	for {
		var st status
		if err := read(out, &st); err != nil {
			return err
		}
		select {
		case <-answers: // is outdated
		default:
		}
		answers <- st
	}
}

// talk gives the child orders, one at a time, until there are no peers any more (nil), ctx ends (nil), or the child does.
func (s *Speaker) talk(ctx context.Context, in io.Writer, answers <-chan status, ended <-chan error, hung *time.Timer) error {
	var sent order
	send := func() error {
		sent = s.current()
		hung.Reset(answerWait)
		return write(in, sent)
	}
	if err := send(); err != nil {
		return err
	}
	for {
		select {
		case st := <-answers:
			s.heard(st, "")
			if st.Generation < sent.Generation {
				continue
			}
			hung.Stop()
			if sent.State.idle() {
				return nil
			}
		case <-s.ordered:
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
