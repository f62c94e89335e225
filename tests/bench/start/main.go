// Command start measures containers on one Mesos agent: how long one takes to start compared with containerd alone, how
// many start when many are asked for, what a hundred cost the executor, and how fast their output is kept. It runs in
// namespaces of its own, as root. Edge: talks to a containerd, a Mesos and an executor of its own.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/tests/harness"
)

// Verbs of processes that this program starts of itself.
const (
	machineVerb = "machine"
	writeVerb   = "write"
)

type figure struct {
	name, unit string
	value      float64
}

// options of a run.
type options struct {
	runs, starts, idle int
	logMB              int64
	// Set in the machine.
	dir, bin string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == writeVerb {
		write(os.Args[2])
	}
	args, inner := os.Args[1:], false
	if len(args) > 0 && args[0] == machineVerb {
		args, inner = args[1:], true
	}
	o, err := parse(args)
	if err != nil {
		os.Exit(2)
	}
	run := start
	if inner {
		run = measureAndPrint
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-start:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("start", flag.ContinueOnError)
	f.IntVar(&o.runs, "runs", 30, "number of single starts")
	f.IntVar(&o.starts, "starts", 128, "number of starts, 16 at a time")
	f.IntVar(&o.idle, "idle", 100, "number of containers that run when the executor's memory is read")
	f.Int64Var(&o.logMB, "log-mb", 400, "output of each of the two writers in MB")
	f.StringVar(&o.dir, "dir", "", "directory of the machine")
	f.StringVar(&o.bin, "bin", "", "directory of the binaries")
	return o, f.Parse(args)
}

// start runs this program once more, in namespaces of its own: they take everything along when it ends.
func start(o options) error {
	if _, err := hosts.Containers(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bin, err := harness.Build(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "padis-bench-")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", machineVerb, "-dir", dir, "-bin", bin, "-runs", strconv.Itoa(o.runs),
		"-starts", strconv.Itoa(o.starts), "-idle", strconv.Itoa(o.idle), "-log-mb", strconv.FormatInt(o.logMB, 10))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	runtime.LockOSThread() // by which the kernel knows that this process is alive
	if cmd.SysProcAttr, err = hosts.TreeAttributes(); err != nil {
		return err
	}
	err = cmd.Run()
	parent, parentErr := hosts.CgroupParent(dir)
	if parentErr == nil {
		parentErr = hosts.RemoveCgroups(parent)
	}
	return errors.Join(err, parentErr, os.RemoveAll(dir))
}

// measureAndPrint is the whole run, in the machine.
func measureAndPrint(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m, err := newMachine(ctx, o)
	if err != nil {
		return err
	}
	defer m.stop()
	var all []figure
	for _, part := range []func(context.Context, *machine, options) ([]figure, error){starts, manyStarts, idle, output} {
		figures, err := part(ctx, m, o)
		if err != nil {
			return fmt.Errorf("%w\nexecutor:\n%s", err, m.executorLog())
		}
		all = append(all, figures...)
	}
	for _, f := range all {
		fmt.Printf("figure: %s %.2f %s\n", f.name, f.value, f.unit)
	}
	return nil
}
