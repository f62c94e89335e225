package speaker

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/lb/bgp"
)

// Verb is how the executor's binary is told to be the child.
const Verb = "speaker"

// Exit statuses of the child.
const (
	exitOK = iota
	exitFailed
	// What a speaker cannot change while it runs has changed.
	exitAgain
)

// firstASN is used by no session: each has that of its network.
const firstASN = 64512

// Main is the child. It does what orders on in say and answers on out, until in ends: then it ends without a word to the
// routers, so that they keep the routes for the next child. It returns the exit status, upon which the process has to end.
func Main(in io.Reader, out io.Writer, log *zap.Logger) int {
	c := child{out: out, log: log}
	orders, failed := make(chan order), make(chan error, 1)
	go func() {
		for {
			var o order
			if err := read(in, &o); err != nil {
				failed <- err
				return
			}
			orders <- o
		}
	}()
	for {
		var changed <-chan struct{}
		if c.speaker != nil {
			changed = c.speaker.Changed()
		}
		select {
		case o := <-orders:
			if c.speaker != nil && o.State.RouterID != c.routerID && !o.State.idle() {
				return exitAgain
			}
			c.obey(o)
		case <-changed:
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return exitOK
			}
			log.Error("the executor's orders cannot be read", zap.Error(err))
			return exitFailed
		}
		if err := c.report(); err != nil {
			return exitFailed // the executor is gone
		}
	}
}

type child struct {
	out io.Writer
	log *zap.Logger

	speaker  *bgp.Speaker
	routerID netip.Addr
	order    order
	problems map[string]map[netip.Addr]string
	failed   string
}

func (c *child) obey(o order) {
	c.order, c.failed = o, ""
	p := o.State.merge()
	c.problems = p.problems
	if c.speaker == nil {
		if o.State.idle() {
			return
		}
		s, err := bgp.New(bgp.Config{ASN: firstASN, RouterID: o.State.RouterID}, c.log)
		if err != nil {
			c.failed = err.Error()
			return
		}
		c.speaker, c.routerID = s, o.State.RouterID
	}
	if err := c.speaker.Set(p.State); err != nil {
		c.failed = err.Error()
	}
}

func (c *child) report() error {
	var all []bgp.Session
	if c.speaker != nil {
		all = c.speaker.Sessions()
	}
	for i := range all {
		all[i].Since = all[i].Since.Round(time.Millisecond)
	}
	return write(c.out, status{Generation: c.order.Generation, Error: c.failed,
		Sessions: c.order.State.sessions(c.problems, all, c.failed)})
}
