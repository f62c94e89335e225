package speaker

import (
	"io"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/child"
	"padis.io/padis/executor/lb/bgp"
)

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
	a := announcer{out: out, log: log}
	orders, over := child.Orders[State](in)
	for {
		var changed <-chan struct{}
		if a.speaker != nil {
			changed = a.speaker.Changed()
		}
		select {
		case o := <-orders:
			if a.speaker != nil && o.Body.RouterID != a.routerID && !o.Body.idle() {
				return exitAgain
			}
			a.obey(o)
		case <-changed:
		case err := <-over:
			if err == nil {
				return exitOK
			}
			log.Error("the executor's orders cannot be read", zap.Error(err))
			return exitFailed
		}
		if err := a.report(); err != nil {
			return exitFailed // the executor is gone
		}
	}
}

type announcer struct {
	out io.Writer
	log *zap.Logger

	speaker  *bgp.Speaker
	routerID netip.Addr
	order    child.Frame[State]
	problems map[string]map[netip.Addr]string
	failed   string
}

func (a *announcer) obey(o child.Frame[State]) {
	a.order, a.failed = o, ""
	p := o.Body.merge()
	a.problems = p.problems
	if a.speaker == nil {
		if o.Body.idle() {
			return
		}
		s, err := bgp.New(bgp.Config{ASN: firstASN, RouterID: o.Body.RouterID}, a.log)
		if err != nil {
			a.failed = err.Error()
			return
		}
		a.speaker, a.routerID = s, o.Body.RouterID
	}
	if err := a.speaker.Set(p.State); err != nil {
		a.failed = err.Error()
	}
}

func (a *announcer) report() error {
	var all []bgp.Session
	if a.speaker != nil {
		all = a.speaker.Sessions()
	}
	for i := range all {
		all[i].Since = all[i].Since.Round(time.Millisecond)
	}
	return child.Tell(a.out, a.order.Generation, status{Error: a.failed, Sessions: a.order.Body.sessions(a.problems, all, a.failed)})
}
