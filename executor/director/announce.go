package director

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/lb/bfd/udp"
	"padis.io/padis/executor/lb/bgp"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// announcer keeps BGP and BFD.
type announcer struct {
	o       Options
	speaker *bgp.Speaker
	watch   *udp.Sessions
	routers routerSet
	ordered bool
	// What was told last; told is false if that failed, or the routers are others since.
	vips   []netip.Addr
	told   bool
	failed string
	again  time.Time
	// leaving: routers are asked to prefer others.
	leaving bool
}

// order says which routers there are, from the next set on.
func (a *announcer) order(asked *padisv1.Announcement) {
	a.routers, a.ordered, a.told, a.again = readRouters(asked, a.o.Own), true, false, time.Time{}
}

// set makes these VIPs what is announced. If it cannot be done it is tried again at the time returned.
func (a *announcer) set(vips []netip.Addr) (again time.Time) {
	if a.told && slices.Equal(a.vips, vips) || !a.ordered {
		return time.Time{}
	}
	if slices.Equal(a.vips, vips) && time.Now().Before(a.again) {
		return a.again
	}
	a.vips = vips
	if err := a.tell(vips); err != nil {
		if a.failed != err.Error() {
			a.o.Log.Error("routers cannot be told what they should be", zap.Error(err))
		}
		a.failed, a.told, a.again = err.Error(), false, time.Now().Add(retry)
		return a.again
	}
	a.failed, a.told, a.again = "", true, time.Time{}
	return time.Time{}
}

func (a *announcer) tell(vips []netip.Addr) error {
	if a.speaker == nil {
		if len(a.routers.peers) == 0 {
			return nil
		}
		// Each peer has the autonomous system as its LocalASN, so that it may change later.
		s, err := bgp.New(bgp.Config{ASN: a.routers.asked.GetAsn(), RouterID: routerID(a.o.Own, a.o.Instance)}, a.o.Log)
		if err != nil {
			return err
		}
		a.speaker = s
		if a.leaving {
			if err := s.Drain(true); err != nil {
				return err
			}
		}
	}
	if err := a.speaker.Set(a.routers.state(vips)); err != nil {
		return err
	}
	if err := a.watch.Set(a.routers.watched); err != nil {
		return fmt.Errorf("bfd: %w", err)
	}
	return nil
}

func (a *announcer) drain() {
	a.leaving = true
	if a.speaker == nil {
		return
	}
	if err := a.speaker.Drain(true); err != nil {
		a.o.Log.Warn("routers could not be asked to prefer others", zap.Error(err))
		a.told = false
	}
}

// changed receives after sessions changed.
func (a *announcer) changed() <-chan struct{} {
	if a.speaker == nil {
		return nil
	}
	return a.speaker.Changed()
}

func (a *announcer) sessions() []*padisv1.DirectorSession {
	var all []bgp.Session
	if a.speaker != nil {
		all = a.speaker.Sessions()
	}
	return a.routers.sessions(all, a.watch.State, a.failed)
}

func (a *announcer) established() bool {
	return slices.ContainsFunc(a.sessions(), (*padisv1.DirectorSession).GetEstablished)
}

// close ends BFD first: routers are told that it is switched off, which is no death to them.
func (a *announcer) close() {
	a.watch.Close()
	if a.speaker != nil {
		a.speaker.Close(true)
	}
}
