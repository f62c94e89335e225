package udp

import (
	"testing"

	"padis.io/padis/executor/lb/bfd"
	"padis.io/padis/executor/lb/bgp/routers"
)

// What cannot be watched says why, and is watched as soon as it can.
func TestProblems(t *testing.T) {
	l := routers.New(t)
	ns := l.Host(11)
	a, b := start(t, l, ns), start(t, l, l.Host(12))
	a.watch(bfd.Peer{Address: addr("10.0.0.12"), Local: addr("10.0.0.99")})
	a.until(bfd.Down, "send from 10.0.0.99: cannot assign requested address: is it an address of this host?")
	l.In(ns, "ip", "address", "add", "10.0.0.99/24", "dev", "eth0")
	a.until(bfd.Down, whyRefused)
	// Watched by another address than it watches from.
	b.watch(bfd.Peer{Address: addr("10.0.0.11")})
	a.until(bfd.Down, bfd.WhySilent)
	b.watch(bfd.Peer{Address: addr("10.0.0.99")})
	a.until(bfd.Up, "")
	b.until(bfd.Up, "")

	a.watch(bfd.Peer{Address: addr("192.0.2.1")})
	l.In(ns, "ip", "route", "del", "default")
	a.watch(bfd.Peer{Address: addr("192.0.2.2")})
	a.until(bfd.Down, "reach 192.0.2.2: network is unreachable: is there a route?")

	if e := a.try(demand{SetWatch: true, Watch: []bfd.Peer{{Address: addr("10.0.0.12")}, {Address: addr("10.0.0.12")}}}).Error; e == "" {
		t.Error("a peer that is named twice was taken")
	}
}

// Packets from beyond the link, with authentication, or broken, do not count, and it is said.
func TestForged(t *testing.T) {
	l := routers.New(t)
	a, b := start(t, l, l.Host(11)), start(t, l, l.Host(12))
	const (
		down   = "204003180000000100000000000f4240000f424000000000"
		signed = "2044031f0000000100000000000f4240000f42400000000001070170617373"
		short  = "2040031800000001"
	)
	for own, other := range map[string]string{"10.0.0.11": "10.0.0.12", "fd00::b": "fd00::c"} {
		to := addr(own)
		a.watch(bfd.Peer{Address: addr(other)})
		a.until(bfd.Down, "")
		b.ask(demand{Forge: &forged{to, 254, down}})
		a.until(bfd.Down, whyFar)
		b.ask(demand{Forge: &forged{to, 255, signed}})
		a.until(bfd.Down, bfd.ErrAuthentication.Error())
		b.ask(demand{Forge: &forged{to, 255, short}})
		a.until(bfd.Down, bfd.ErrShort.Error())
		b.ask(demand{Forge: &forged{to, 255, down}})
		a.until(bfd.Init, "")
		b.watch(bfd.Peer{Address: to})
		before := a.until(bfd.Up, "")
		for _, bytes := range []string{down, signed, short} {
			b.ask(demand{Forge: &forged{to, 1, bytes}})
		}
		b.ask(demand{Forge: &forged{to, 255, signed}})
		// They have been read when a session that was set after them is there.
		a.watch(bfd.Peer{Address: addr(other)}, bfd.Peer{Address: addr("10.0.0.77")})
		if after := a.ask(demand{}).Status; after[0].State != bfd.Up || !after[0].Since.Equal(before[0].Since) {
			t.Errorf("forged packets ended the session: %+v", after[0])
		}
		b.watch()
	}
}
