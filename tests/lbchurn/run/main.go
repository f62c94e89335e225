// Command run keeps 2,000 long-lived TCP connections with real data through 8 directors to 50 real servers, behind BIRD, then
// behind FRR, while directors are killed, added and drained, and real servers added and drained, 100 times a minute. It counts
// the connections to live real servers that are reset or stall for more than a second. It runs in namespaces of its own, as root.
// Edge: talks to namespaces, routers and directors.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`. Exit status 1 if a connection was reset or stalled.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"padis.io/padis/executor/lb/bgp/routers"
	"padis.io/padis/tests/lbchurn"
)

func main() { os.Exit(routers.Isolated(run)) }

func run() int {
	var l lbchurn.Load
	o := lbchurn.Options{Directors: 8, Hosts: 5, Places: 14, Servers: 50}
	flag.IntVar(&l.Seconds, "seconds", 120, "how long, all routers together")
	flag.IntVar(&l.Connections, "connections", 2000, "number of TCP connections")
	flag.IntVar(&l.Changes, "changes", 100, "changes a minute")
	flag.DurationVar(&l.Interval, "interval", 250*time.Millisecond, "time between two messages of a connection")
	flag.DurationVar(&l.Drain, "drain", 10*time.Second, "how long a real server that drains keeps its connections")
	flag.DurationVar(&o.Skew, "skew", 100*time.Millisecond, "how late a host or director may hear of a change")
	flag.Uint64Var(&o.Seed, "seed", 1, "seed of the changes")
	kinds := flag.String("routers", "bird,frr", "one after the other")
	quiet := flag.Bool("quiet", false, "do not print each change")
	flag.StringVar(&o.Executor, "executor", "", "binary of the directors; bin/padis-executor unless it is given")
	flag.Parse()
	began := time.Now()
	o.Log = func(format string, args ...any) {
		if !*quiet || !strings.HasPrefix(format, "change: ") {
			fmt.Printf("%8.3f "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
		}
	}
	each := strings.Split(*kinds, ",")
	l.Seconds /= len(each)
	var sum lbchurn.Report
	var errs []error
	for _, kind := range each {
		o.Router = kind
		r, err := one(o, l)
		errs = append(errs, err)
		fmt.Printf("%s: %.0f s, %v\n", kind, r.Seconds, r.Changes)
		sum.Add(r)
	}
	for _, f := range sum.Figures() {
		fmt.Println(f)
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "lbchurn:", err)
		return 1
	}
	if sum.Resets+sum.Stalls+sum.Wrong > 0 {
		return 1
	}
	return 0
}

func one(o lbchurn.Options, l lbchurn.Load) (r lbchurn.Report, err error) {
	if o.Executor == "" {
		if o.Executor, err = lbchurn.Executor(); err != nil {
			return r, err
		}
	}
	if err := lbchurn.First(); err != nil {
		return r, err
	}
	err = lbchurn.Program(func(t testing.TB) error {
		r, err = lbchurn.New(t, o).Churn(l)
		return err
	})
	return r, err
}
