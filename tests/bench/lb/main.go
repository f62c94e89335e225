// Command lb measures what a director's programs cost per packet, in the kernel and without a network: BPF_PROG_TEST_RUN with
// many repetitions. One hot flow is measured as it is. For many flows another program puts the next flow into the frame before
// each run (bpf/feed.c); what it costs with a program that passes is taken off again, above the cost of that program. Rounds of
// all measurements follow each other, and medians are told, so that other work on the machine meets all alike. Needs root.
// Edge: talks to the kernel by bpf(2).
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

type options struct {
	rounds, repeat  int
	baseline, named string
	servers         int
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 15, "number of times that everything is measured")
	flag.IntVar(&o.repeat, "repeat", 1_000_000, "number of runs of a program in each round")
	flag.IntVar(&o.servers, "servers", 100, "number of real servers of each service")
	flag.StringVar(&o.baseline, "baseline", "", "eBPF object that is measured, too")
	flag.StringVar(&o.named, "baseline-program", "", "program of that object; empty: its first XDP program, or its first")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-lb:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it loads eBPF programs")
	}
	b := &bench{options: o}
	defer b.close()
	for _, part := range []func() error{b.oneVIP, b.manyVIPs, b.beside} {
		if err := part(); err != nil {
			return err
		}
	}
	if err := b.measure(); err != nil {
		return err
	}
	b.print()
	return nil
}
