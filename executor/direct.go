package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	talk "padis.io/padis/executor/director/wire"
	"padis.io/padis/executor/instance"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// order takes what the scheduler says for the directors of a load balancer, and hands it to those that are here. It tells whether
// it was new.
func (e *Executor) order(b *padisv1.Balance) bool {
	if have := e.orders[b.GetUid()]; have != nil && (have.GetNumber() > b.GetNumber() || proto.Equal(have, b)) {
		return false
	}
	e.orders[b.GetUid()] = b
	for _, l := range e.lives {
		if l.plan.Launch.GetAppUid() == b.GetUid() && l.state.Phase > instance.Creating {
			e.brief(l)
		}
	}
	return true
}

// directs tells whether a director of a load balancer is here.
func (e *Executor) directs(uid string) bool {
	for _, l := range e.lives {
		if l.plan.Launch.GetAppUid() == uid && l.plan.Launch.GetTemplate().GetDirector() {
			return true
		}
	}
	return false
}

// brief hands a director what its load balancer shall be. l.director is there once it was created.
func (e *Executor) brief(l *life) {
	if l.director == nil {
		return
	}
	if b := e.orders[l.plan.Launch.GetAppUid()]; b != nil && slices.Contains(b.GetDirector().GetTasks(), l.plan.TaskID) {
		l.director.give(b)
	}
}

// reported takes what a director says of itself.
func (l *life) reported(s *padisv1.DirectorState) {
	s.TaskId = l.plan.TaskID
	l.executor.post(func(now time.Time) {
		if l.executor.lives[l.plan.TaskID] != l || proto.Equal(l.directed, s) {
			return
		}
		answer := l.directed.GetNumber() != s.GetNumber()
		if l.directed = s; answer { // the scheduler waits for it
			l.executor.tell(now)
		} else {
			l.executor.tellBalances(now)
		}
	})
}

// director is the executor's end of what it has to say to one.
type director struct {
	log      *zap.Logger
	path     string
	listener net.Listener
	heard    func(*padisv1.DirectorState)

	mu     sync.Mutex
	newest *padisv1.Balance
	// given is closed and replaced when there is a newer one; over is closed at the end.
	given chan struct{}
	over  chan struct{}
}

// listenForDirector makes the socket in the work directory of a director. heard is called with whatever it says.
func listenForDirector(work string, log *zap.Logger, heard func(*padisv1.DirectorState)) (*director, error) {
	d := &director{log: log, path: filepath.Join(work, talk.Socket), heard: heard, given: make(chan struct{}), over: make(chan struct{})}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket of the director: %w", err)
	}
	// The whole path may be too long for the address of a socket.
	dir, err := os.Open(work)
	if err != nil {
		return nil, fmt.Errorf("socket of the director: %w", err)
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), talk.Socket)})
	if err != nil {
		return nil, fmt.Errorf("socket of the director: %w", err)
	}
	l.SetUnlinkOnClose(false) // by that path it would not be found
	d.listener = l
	go d.accept()
	return d, nil
}

// give has the director know the newest order, now or when it connects.
func (d *director) give(b *padisv1.Balance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.newest = b
	close(d.given)
	d.given = make(chan struct{})
}

func (d *director) current() (*padisv1.Balance, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.newest, d.given
}

func (d *director) close() {
	close(d.over)
	_ = d.listener.Close()
	_ = os.Remove(d.path)
}

func (d *director) accept() {
	for {
		c, err := d.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			d.log.Warn("a director could not be let in", zap.Error(err))
			select {
			case <-d.over:
				return
			case <-time.After(killRetry):
			}
			continue
		}
		go d.serve(c)
	}
}

// serve talks to a director until either side ends.
func (d *director) serve(c net.Conn) {
	defer c.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var s padisv1.DirectorState
			if err := talk.Read(c, &s); err != nil {
				return // its end, or ours, is noticed where its process is
			}
			d.heard(&s)
		}
	}()
	for {
		b, given := d.current()
		if b != nil {
			if err := talk.Write(c, b); err != nil {
				d.log.Warn("a director was not told", zap.Error(err))
				return
			}
		}
		select {
		case <-given:
		case <-gone:
			return
		case <-d.over:
			return
		}
	}
}
