// Command attach measures how long an instance takes to get its network: Padis, from the choice of the address, which is
// durable in the ledger before anything else happens, until the address answers on the wire, guarded; and beside it, in
// turn, CNI's plugins, run as runtimes do, until theirs answers. It runs in namespaces of its own, as root. Edge: talks to a
// ledger, a kernel and CNI's plugins.
//
// CNI is measured twice. cni does the same work: bridge with host-local, the loopback, and a check of what the instance sends.
// cni_plain is bridge with host-local and nothing else, which is less.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/tests/bench/bed"
)

// machineVerb is this program in its namespaces.
const machineVerb = "machine"

type figure struct {
	name, unit string
	value      float64
}

// options of a run.
type options struct {
	runs, seconds int
	cni, profile  string
	only          bool
	// Set in the machine.
	dir string
}

func main() {
	args, run := os.Args[1:], start
	if len(args) > 0 && args[0] == machineVerb {
		args, run = args[1:], measure
	}
	o, err := parse(args)
	if err != nil {
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-attach:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("attach", flag.ContinueOnError)
	f.IntVar(&o.runs, "runs", 400, "number of single attaches of each kind")
	f.IntVar(&o.seconds, "seconds", 10, "seconds for which 16 attach and detach at the same time, for each kind")
	f.StringVar(&o.cni, "cni", "/usr/lib/cni", "directory of CNI's plugins")
	f.StringVar(&o.profile, "profile", "", "write a profile of the processor to this file")
	f.BoolVar(&o.only, "only-padis", false, "leave CNI and the pool of 65,536 out, to look at Padis")
	f.StringVar(&o.dir, "dir", "", "directory of the machine")
	err := f.Parse(args)
	if err == nil && o.runs < 20 {
		err = errors.New("-runs: give 20 at least")
		fmt.Fprintln(os.Stderr, err)
	}
	return o, err
}

func start(o options) error {
	if _, err := os.Stat(o.cni + "/bridge"); err != nil && !o.only {
		return fmt.Errorf("%w; apt-get install containernetworking-plugins", err)
	}
	dir, err := os.MkdirTemp("", "padis-bench-")
	if err != nil {
		return err
	}
	err = bed.Own(machineVerb, "-dir", dir, "-cni", o.cni, "-runs", strconv.Itoa(o.runs), "-seconds", strconv.Itoa(o.seconds),
		"-profile", o.profile, fmt.Sprintf("-only-padis=%t", o.only))
	return errors.Join(err, os.RemoveAll(dir))
}

// measure is the whole run, in the machine.
func measure(o options) error {
	if err := hosts.PrivateMounts(o.dir); err != nil {
		return err
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	m, err := newMachine(o)
	if err != nil {
		return err
	}
	defer m.close()
	parts := []func() ([]figure, error){m.one, m.many, choose, m.restart}
	if o.only {
		parts = parts[:2]
	}
	var all []figure
	for _, part := range parts {
		figures, err := part()
		if err != nil {
			return err
		}
		all = append(all, figures...)
	}
	for _, f := range all {
		fmt.Printf("figure: %s %.2f %s\n", f.name, f.value, f.unit)
	}
	return nil
}
