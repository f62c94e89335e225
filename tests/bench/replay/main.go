// Command replay sends packets of 1,000,000 flows through a model of directors and real servers, frame by frame with the code
// that decides in executor/lb, while real servers are added and drained 100 times and 8 directors become 7. It counts the
// flows of live real servers that reach another server than the one that has their socket.
//
// For comparison it counts the flows that routers send to another director when 8 become 7: what directors with tables of
// their own lose.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`. Exit status 1 if a flow has moved.
package main

import (
	"flag"
	"fmt"
	"os"

	"padis.io/padis/executor/lb"
)

func main() {
	var c config
	flag.IntVar(&c.flows, "flows", 1_000_000, "number of flows")
	flag.IntVar(&c.changes, "changes", 100, "number of times that a real server is added or drained")
	flag.IntVar(&c.servers, "servers", 50, "number of real servers at first")
	flag.IntVar(&c.slots, "slots", lb.DefaultTableSize, "slots of the table, a prime")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of addresses, ports and changes")
	flag.Parse()
	r, err := replay(c, func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-replay:", err)
		os.Exit(1)
	}
	for _, f := range []struct {
		name, unit string
		value      float64
	}{
		{"replay_flows_moved", "flows", float64(r.moved)},
		{"replay_flows", "flows", float64(c.flows)},
		{"replay_moved_modulo", "flows", float64(r.routed["modulo"])},
		{"replay_moved_threshold", "flows", float64(r.routed["threshold"])},
		{"replay_moved_resilient", "flows", float64(r.routed["resilient"])},
		{"replay_packets", "packets", float64(r.packets)},
		{"replay_hops_relayed", "hops", float64(r.relayed)},
		{"replay_packets_repeated", "packets", float64(r.repeated)},
		{"replay_hops_most", "hops", float64(r.hops)},
		{"replay_chain_mean", "servers", r.chain},
	} {
		fmt.Printf("figure: %s %.2f %s\n", f.name, f.value, f.unit)
	}
	if r.moved > 0 {
		os.Exit(1)
	}
}
