package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"padis.io/padis/api/runtime"
)

// traceQuestion is what the command line asks.
type traceQuestion struct {
	client   netip.Addr
	port     uint16 // 0: whichever
	vip      netip.AddrPort
	protocol string
	name     string
}

// flowTrace is the answer about one flow.
type flowTrace struct {
	client netip.AddrPort
	runtime.Trace
}

// Ports that are tried when the client's is not given.
const (
	firstTried = 40000
	triedPorts = 8
)

// parseTrace reads CLIENT[:PORT] VIP:PORT [NAME].
func parseTrace(args []string, udp bool) (traceQuestion, error) {
	q := traceQuestion{protocol: "tcp"}
	if udp {
		q.protocol = "udp"
	}
	if len(args) > 2 {
		q.name = args[2]
	}
	if whole, err := netip.ParseAddrPort(args[0]); err == nil {
		q.client, q.port = whole.Addr().Unmap(), whole.Port()
		if q.port == 0 {
			return q, usagef("client %q: port 0 is no port of a client; leave it away for any", args[0])
		}
	} else if q.client, err = netip.ParseAddr(strings.Trim(args[0], "[]")); err != nil {
		return q, usagef("client %q: write ADDRESS or ADDRESS:PORT, for IPv6 [ADDRESS]:PORT", args[0])
	}
	q.client = q.client.Unmap()
	vip, err := netip.ParseAddrPort(args[1])
	if err != nil || vip.Port() == 0 {
		return q, usagef("VIP %q: write ADDRESS:PORT, for IPv6 [ADDRESS]:PORT", args[1])
	}
	q.vip = netip.AddrPortFrom(vip.Addr().Unmap(), vip.Port())
	if q.client.Is4() != q.vip.Addr().Is4() {
		return q, usagef("client %v and VIP %v are of different families: a flow has one", q.client, q.vip.Addr())
	}
	return q, nil
}

// clients are the addresses and ports to ask for.
func (q traceQuestion) clients() []netip.AddrPort {
	if q.port != 0 {
		return []netip.AddrPort{netip.AddrPortFrom(q.client, q.port)}
	}
	var out []netip.AddrPort
	for n := range uint16(triedPorts) {
		out = append(out, netip.AddrPortFrom(q.client, firstTried+n))
	}
	return out
}

// printTraces says the way of one flow at length, of several in a table.
func printTraces(out io.Writer, b runtime.BalanceObject, q traceQuestion, traces []flowTrace) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	first := traces[0]
	client := first.client.String()
	if q.port == 0 {
		client = q.client.String()
	}
	fmt.Fprintf(w, "Flow:\t%s %s -> %s\n", q.protocol, client, q.vip)
	fmt.Fprintf(w, "LoadBalancer:\t%s/%s\n", b.Namespace, b.Name)
	if first.Refusal != "" {
		return w.Flush()
	}
	fmt.Fprintf(w, "Listener:\t%s\n", dash(first.Listener))
	directors := dash(strings.Join(first.Directors, ", "))
	if len(first.Directors) > 1 {
		directors += " (whichever the router chooses)"
	}
	fmt.Fprintf(w, "Directors:\t%s\n", directors)
	if q.port == 0 && !sameSlot(traces) {
		fmt.Fprintf(w, "Tables:\t%d\n\nCLIENT PORT\tSLOT\tREAL SERVER\tHOST\tSTATE\tBEFORE\n", first.Number)
		for _, t := range traces {
			owner, before := ownerOf(t.Chain)
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\n", t.client.Port(), t.Slot, dash(owner.Instance), dash(owner.Host), dash(owner.State), dash(before))
		}
		return w.Flush()
	}
	slot := fmt.Sprintf("%d of %d, tables %d", first.Slot, first.Table, first.Number)
	if q.port == 0 {
		slot += ", whatever the client's port"
	}
	fmt.Fprintf(w, "Slot:\t%s\n", slot)
	for n, r := range first.Chain {
		label, more := "Real server:", ""
		if n > 0 {
			label, more = fmt.Sprintf("Before %d:", n), ", keeps what connections of the slot it has"
		}
		fmt.Fprintf(w, "%s\t%s on %s, address %s, %s%s\n", label, r.Instance, dash(r.Host), dash(r.Address), r.State, more)
	}
	return w.Flush()
}

func sameSlot(traces []flowTrace) bool {
	for _, t := range traces {
		if t.Slot != traces[0].Slot {
			return false
		}
	}
	return true
}

// ownerOf is the first of a chain, and the names of the others.
func ownerOf(chain []runtime.BalanceServer) (owner runtime.BalanceServer, before string) {
	var names []string
	for n, r := range chain {
		if n == 0 {
			owner = r
		} else {
			names = append(names, r.Instance)
		}
	}
	return owner, strings.Join(names, " ")
}
