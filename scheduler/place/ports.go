package place

import (
	"cmp"
	"slices"
	"strings"

	"padis.io/padis/scheduler/record"
)

// listener is a slot that has a port of a host.
type listener struct {
	slot record.Slot
	port Port
}

// canonical is the form in which ports are compared.
func (p Port) canonical() Port {
	return Port{Protocol: strings.ToLower(cmp.Or(p.Protocol, "tcp")), Number: p.Number}
}

// listen enters the ports that a slot has on the host of an agent.
func (w *world) listen(slot record.Slot, ports []Port, at int) {
	for _, p := range ports {
		host := w.hosts.of[at]
		w.listeners[host] = append(w.listeners[host], listener{slot, p.canonical()})
	}
}

// taken are the ports of the Want that other slots have on the host of an agent. What its own slot left there is no
// obstacle: it ends, or answers the start of the next one.
func (w *world) taken(want *Want, at int) []Port {
	var out []Port
	for _, p := range want.Ports {
		p = p.canonical()
		if slices.ContainsFunc(w.listeners[w.hosts.of[at]], func(l listener) bool { return l.port == p && l.slot != want.Slot }) {
			out = append(out, p)
		}
	}
	return out
}
