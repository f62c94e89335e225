package director

import (
	"context"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/director/wire"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Between attempts to reach the executor, which may be about to be replaced.
const firstPause, lastPause = 20 * time.Millisecond, 500 * time.Millisecond

// link is the director's end of its executor's socket. Of what is said, either way, only the newest counts.
type link struct {
	path string
	log  *zap.Logger
	// orders has room for one.
	orders chan *padisv1.Balance

	mu      sync.Mutex
	state   *padisv1.DirectorState
	changed chan struct{}
}

func newLink(path string, log *zap.Logger) *link {
	return &link{path: path, log: log, orders: make(chan *padisv1.Balance, 1), changed: make(chan struct{})}
}

// say has the executor know the state, as soon as there is one. The state must not be changed any more.
func (l *link) say(s *padisv1.DirectorState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) current() (*padisv1.DirectorState, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed
}

// run holds the connection until ctx ends.
func (l *link) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		c, err := new(net.Dialer).DialContext(ctx, "unix", l.path)
		if err == nil {
			began := time.Now()
			l.log.Info("connected to the executor")
			err = l.talk(ctx, c)
			if ctx.Err() != nil {
				return
			}
			l.log.Info("the executor is gone; what is in force stays", zap.Error(err))
			if time.Since(began) > time.Second {
				pause = firstPause
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// talk returns when the connection is of no use any more.
func (l *link) talk(ctx context.Context, c net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	writer.Add(1)
	go func() {
		defer writer.Done()
		defer c.Close()
		var said *padisv1.DirectorState
		for {
			s, changed := l.current()
			if s != said {
				if err := wire.Write(c, s); err != nil {
					return // the reader says why
				}
				said = s
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		b := new(padisv1.Balance)
		if err := wire.Read(c, b); err != nil {
			return err
		}
		select {
		case <-l.orders: // an older one that nobody has taken
		default:
		}
		l.orders <- b
	}
}

// same tells whether nothing new is to be said.
func (l *link) same(s *padisv1.DirectorState) bool {
	was, _ := l.current()
	return was != nil && proto.Equal(was, s)
}
