// Command soak attaches and detaches instances on two hosts, 16 at a time, with leases from a real ledger, while the
// process that does it, and the one that has the ledger's etcd, are killed at random moments. It counts what is left behind
// - interfaces, network namespaces, elements of guards, leases - and addresses that two answer for on the wire. It runs in
// namespaces of its own, as root. Edge: talks to a ledger, kernels and processes.
//
// It can be interrupted, and goes on where it was when it is given the same directory. The last lines are the figures, one
// each: `figure: NAME VALUE UNIT`.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"padis.io/padis/tests/bench/bed"
)

// Verbs of the processes that this program starts of itself.
const (
	machineVerb = "machine"
	storeVerb   = "store"
	workerVerb  = "worker"
)

// options of a run.
type options struct {
	cycles int
	dir    string
}

// progress is what the state file has.
type progress struct {
	Cycles, Kills, StoreKills, Checks, Adopted, Leaks, Duplicates int
}

func main() {
	args, run := os.Args[1:], start
	if len(args) > 0 {
		if f, ok := map[string]func(options) error{machineVerb: soak, storeVerb: store, workerVerb: work}[args[0]]; ok {
			args, run = args[1:], f
		}
	}
	var o options
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.IntVar(&o.cycles, "cycles", 100_000, "number of attaches with their detaches, those of earlier runs in the directory included")
	f.StringVar(&o.dir, "dir", "", "directory of the run; a new one unless it is given")
	if err := f.Parse(args); err != nil {
		os.Exit(2)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "soak-attach:", err)
		os.Exit(1)
	}
}

func start(o options) error {
	var err error
	if o.dir == "" {
		o.dir, err = os.MkdirTemp("", "padis-soak-")
	} else if o.dir, err = filepath.Abs(o.dir); err == nil {
		err = os.MkdirAll(o.dir, 0o755)
	}
	if err != nil {
		return err
	}
	fmt.Printf("Progress is kept in %s; go on with DIR=%[1]s\n", o.dir)
	if out, err := exec.Command("go", "build", "-o", filepath.Join(o.dir, "arpwatch"), "padis.io/padis/tests/arpwatch").CombinedOutput(); err != nil {
		return fmt.Errorf("build arpwatch: %w: %s", err, out)
	}
	return bed.Own(machineVerb, "-dir", o.dir, "-cycles", strconv.Itoa(o.cycles))
}

func (o options) statePath() string { return filepath.Join(o.dir, "state.json") }

func (o options) read() (progress, error) {
	var p progress
	b, err := os.ReadFile(o.statePath())
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w; remove it to begin anew", o.statePath(), err)
	}
	return p, err
}

func (o options) write(p progress) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	next := o.statePath() + ".new"
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return err
	}
	return os.Rename(next, o.statePath())
}
