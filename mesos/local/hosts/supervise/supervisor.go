package supervise

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Service is a child that shall always run.
type Service struct {
	Name string
	// Stages are stopped one after the other, in ascending order.
	Stage int
	// Command is asked before each start.
	Command func() (Command, error)
	// Started, if set, is called after each attempt to start: to release what Command opened and, when err is nil, to
	// finish the child's surroundings. The child is killed when it returns an error.
	Started func(pid int, err error) error
	Backoff Backoff
	// Grace is the time between SIGTERM and SIGKILL when the service is stopped.
	Grace time.Duration
}

// Kind says what happened to a service.
type Kind string

// The kinds of Event.
const (
	Started Kind = "started"
	Ended   Kind = "ended"
	Stopped Kind = "stopped"
)

// Event is what happened to a service.
type Event struct {
	Service string
	Kind    Kind
	// Process id, for Started.
	Pid int
	// How it ended or why it did not start, for Ended and Stopped.
	Detail string
	// Delay before the next start, for Ended.
	RetryIn time.Duration
}

// child is what the Supervisor needs of a Process.
type child interface {
	Pid() int
	Done() <-chan struct{}
	Status() syscall.WaitStatus
	Signal(syscall.Signal) error
}

// Supervisor keeps services running.
type Supervisor struct {
	start  func(Command) (child, error)
	notify func(Event)

	mu      sync.Mutex
	running []*running
	closed  bool
}

type running struct {
	stage  int
	cancel context.CancelFunc
	done   chan struct{}
}

// New returns a Supervisor whose children r starts. notify is called from several goroutines and must not block long.
func New(r *Reaper, notify func(Event)) *Supervisor {
	return &Supervisor{
		notify: notify,
		start: func(c Command) (child, error) {
			p, err := r.Start(c)
			if err != nil {
				return nil, err
			}
			return p, nil
		},
	}
}

// Add starts a service and keeps it running until Stop. After Stop it does nothing.
func (s *Supervisor) Add(service Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	entry := &running{stage: service.Stage, cancel: cancel, done: make(chan struct{})}
	s.running = append(s.running, entry)
	go func() {
		defer close(entry.done)
		s.keep(ctx, service)
	}()
}

// Stop ends all services, stage by stage, and returns when the last one is gone.
func (s *Supervisor) Stop() {
	s.mu.Lock()
	s.closed = true
	all := slices.Clone(s.running)
	s.mu.Unlock()
	slices.SortStableFunc(all, func(a, b *running) int { return a.stage - b.stage })
	for len(all) > 0 {
		stage := all[0].stage
		end := slices.IndexFunc(all, func(r *running) bool { return r.stage != stage })
		if end < 0 {
			end = len(all)
		}
		for _, r := range all[:end] {
			r.cancel()
		}
		for _, r := range all[:end] {
			<-r.done
		}
		all = all[end:]
	}
}

// keep starts the service again and again until ctx ends.
func (s *Supervisor) keep(ctx context.Context, service Service) {
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		detail, ended := s.once(ctx, service)
		if !ended {
			s.notify(Event{Service: service.Name, Kind: Stopped, Detail: detail})
			return
		}
		var delay time.Duration
		failures, delay = service.Backoff.Next(failures, time.Since(began))
		s.notify(Event{Service: service.Name, Kind: Ended, Detail: detail, RetryIn: delay})
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// once runs the service one time. ended is false when ctx made it end.
func (s *Supervisor) once(ctx context.Context, service Service) (detail string, ended bool) {
	command, err := service.Command()
	if err != nil {
		return err.Error(), true
	}
	process, err := s.start(command)
	pid := 0
	if err == nil {
		pid = process.Pid()
	}
	if service.Started != nil {
		if wireErr := service.Started(pid, err); wireErr != nil && err == nil {
			s.end(process, 0)
			return wireErr.Error(), true
		}
	}
	if err != nil {
		return err.Error(), true
	}
	s.notify(Event{Service: service.Name, Kind: Started, Pid: pid})
	select {
	case <-process.Done():
		return Describe(process.Status()), true
	case <-ctx.Done():
		s.end(process, service.Grace)
		return Describe(process.Status()), false
	}
}

// end stops a process: SIGTERM, and SIGKILL after the grace period. Errors of the signals do not matter: the wait
// decides, and only the kernel can make it long.
func (s *Supervisor) end(process child, grace time.Duration) {
	if grace > 0 {
		_ = process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-process.Done():
			return
		case <-timer.C:
		}
	}
	_ = process.Signal(syscall.SIGKILL)
	<-process.Done()
}
