// Padis-sim lives through many random histories of the scheduler and checks the promises of package sim in each.
//
//	padis-sim -seeds 2000          histories 1 to 2000
//	padis-sim -from 4711 -seeds 1 -trace -all   one of them, with all that happened
//
// Exit status: 0 all promises hold, 1 one does not (its seed and the end of its history are printed), 2 wrong usage.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"padis.io/padis/tests/sim"
)

func main() {
	seeds := flag.Int("seeds", 200, "number of histories")
	from := flag.Uint64("from", 1, "seed of the first one")
	all := flag.Bool("all", false, "keep the whole history, not only its end")
	trace := flag.Bool("trace", false, "print the end of the last history")
	flag.Parse()
	if *seeds < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(run(*from, *seeds, *trace, *all))
}

func run(from uint64, seeds int, trace, all bool) int {
	began := time.Now()
	var violations, faults, launches, events int
	var virtual time.Duration
	var last sim.Result
	for i := range seeds {
		opt := sim.Options{Seed: from + uint64(i)}
		if all {
			opt.Keep = -1
		}
		last = sim.Run(opt)
		faults, launches, events, virtual = faults+last.Faults, launches+last.Launches, events+last.Events, virtual+last.Virtual
		if len(last.Violations) > 0 {
			violations++
			fmt.Printf("seed %d:\n%s\nseed %d violates: %s\n", last.Seed, strings.Join(last.Trace, "\n"), last.Seed, strings.Join(last.Violations, "; "))
			break
		}
		if (i+1)%500 == 0 {
			fmt.Printf("%d histories, %d faults, %d launches, %s simulated\n", i+1, faults, launches, virtual.Round(time.Second))
		}
	}
	if trace && violations == 0 {
		fmt.Println(strings.Join(last.Trace, "\n"))
	}
	fmt.Printf("%d events, %d faults, %d launches in %s of simulated time; %s of real time\n", events, faults, launches, virtual.Round(time.Second), time.Since(began).Round(time.Millisecond))
	fmt.Printf("figure: sim_seeds %d count\n", seeds)
	fmt.Printf("figure: sim_violations %d count\n", violations)
	if violations > 0 {
		return 1
	}
	return 0
}
