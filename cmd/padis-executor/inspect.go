package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"go.uber.org/zap"

	"padis.io/padis/executor"
	"padis.io/padis/executor/instance"
	netplan "padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
)

// networkVerb lets operators see and mend the networks of containers.
func networkVerb(args []string, out, errs io.Writer) int {
	f := flag.NewFlagSet("padis-executor network", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() { fmt.Fprint(errs, usageText) }
	state := f.String("state", cmp.Or(os.Getenv(stateVariable), defaultState), "")
	owner := f.String("owner", "", "")
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	if !slices.Contains([]string{"plan", "check", "repair"}, verb) {
		fmt.Fprintf(errs, "padis-executor network: %q is none of plan, check and repair\n\n%s", verb, usageText)
		return exitUsage
	}
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case f.NArg() > 0:
		fmt.Fprintf(errs, "padis-executor network: unexpected argument %q\n", f.Arg(0))
		return exitUsage
	}
	all, err := executor.Recordings(*state, *owner)
	if err != nil {
		fmt.Fprintln(errs, "padis-executor network:", err)
	}
	i := inspector{open: look(*state), networks: map[string]inspected{}}
	ok := i.inspect(all)
	switch verb {
	case "plan":
		ok = i.plan(out)
	case "check":
		ok = i.check(out) && ok
	case "repair":
		ok = i.repair(out)
	}
	i.close()
	if !ok || err != nil {
		return exitFailed
	}
	return exitOK
}

// inspected is the network of a host, as one framework has it.
type inspected interface {
	Check(namespace int, w netplan.Wanted) ([]netplan.Op, error)
	Adjust(namespace int, w netplan.Wanted) error
}

// look opens it beside an executor.
func look(state string) func(owner string) (inspected, func(), error) {
	return func(owner string) (inspected, func(), error) {
		parts, closeParts := openParts(instance.Host{Owner: owner, State: state}, zap.NewNop())
		n, err := kernel.Look(owner, parts)
		if err != nil {
			closeParts()
			return nil, nil, err
		}
		return n, func() { n.Close(); closeParts() }, nil
	}
}

// inspector looks at containers.
type inspector struct {
	open     func(owner string) (inspected, func(), error)
	networks map[string]inspected
	closers  []func()
	found    []finding
}

// finding is what one container lacks, or why that is not known or cannot be had.
type finding struct {
	executor.Recorded
	ops []netplan.Op
	err error
}

// inspect tells whether all is as it should be.
func (i *inspector) inspect(all []executor.Recorded) bool {
	well := true
	for _, r := range all {
		i.closers = append(i.closers, func() { r.Namespace.Close() })
		f := finding{Recorded: r}
		n, known := i.networks[r.Owner]
		if !known {
			var closer func()
			if n, closer, f.err = i.open(r.Owner); f.err == nil {
				i.networks[r.Owner] = n
				i.closers = append(i.closers, closer)
			}
		}
		if f.err == nil && !r.Wanted.Hosted {
			f.ops, f.err = n.Check(int(r.Namespace.Fd()), r.Wanted)
		}
		well = well && f.err == nil && len(f.ops) == 0
		i.found = append(i.found, f)
	}
	return well
}

func (i *inspector) close() {
	slices.Reverse(i.closers)
	for _, c := range i.closers {
		c()
	}
}

func (f finding) title() string {
	return fmt.Sprintf("%s/%s (container %s of framework %s)", f.Launch.GetNamespace(), f.Name(), f.Container, f.Owner)
}

// plan prints commands. INSTANCE stands for the namespace of the container that is named above them.
func (i *inspector) plan(out io.Writer) bool {
	ok := true
	for _, f := range i.found {
		fmt.Fprintf(out, "# %s\n", f.title())
		if f.err != nil {
			ok = false
			fmt.Fprintf(out, "# refused: %v\n", f.err)
			continue
		}
		for _, op := range f.ops {
			fmt.Fprintln(out, op)
		}
	}
	return ok
}

// check prints a table.
func (i *inspector) check(out io.Writer) bool {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "INSTANCE\tCONTAINER\tADDRESS\tSTATE")
	for _, f := range i.found {
		for _, row := range f.rows() {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\n", f.Launch.GetNamespace(), f.Name(), f.Container, row[0], row[1])
		}
	}
	return t.Flush() == nil
}

// rows are the addresses of a container, and for each what its interface lacks. What belongs to none is said of the first.
func (f finding) rows() [][2]string {
	if f.Wanted.Hosted || len(f.Wanted.Interfaces) == 0 {
		return [][2]string{{"(none of its own)", f.state(f.ops)}}
	}
	own := make([][]netplan.Op, len(f.Wanted.Interfaces))
	for _, op := range f.ops {
		words := strings.FieldsFunc(op.String(), func(r rune) bool { return strings.ContainsRune(" /=\"", r) })
		at := max(0, slices.IndexFunc(f.Wanted.Interfaces, func(i netplan.Interface) bool {
			return slices.Contains(words, i.Host) || slices.Contains(words, i.Inside)
		}))
		own[at] = append(own[at], op)
	}
	var rows [][2]string
	for n, i := range f.Wanted.Interfaces {
		for _, a := range i.Addresses {
			rows = append(rows, [2]string{a.Addr().String(), f.state(own[n])})
		}
	}
	return rows
}

func (f finding) state(lacking []netplan.Op) string {
	switch {
	case f.err != nil:
		return "refused: " + f.err.Error()
	case len(lacking) == 0:
		return "ok"
	case len(lacking) == 1:
		return "lacks: " + lacking[0].String()
	}
	return fmt.Sprintf("lacks: %s (and %d more)", lacking[0], len(lacking)-1)
}

// repair applies what is lacking. Addresses with a lease are their executor's: it alone knows whether they may be there.
func (i *inspector) repair(out io.Writer) bool {
	fmt.Fprintln(out, "# No claim is taken: an executor that is alive goes on beside this.")
	ok := true
	for _, f := range i.found {
		if f.err == nil && len(f.ops) == 0 {
			continue
		}
		fmt.Fprintf(out, "# %s\n", f.title())
		switch {
		case f.err != nil:
			ok = false
			fmt.Fprintf(out, "# refused: %v\n", f.err)
		case f.Leased():
			fmt.Fprintln(out, "# left alone: its addresses have a lease; its executor brings them back when the scheduler renews it")
		default:
			for _, op := range f.ops {
				fmt.Fprintln(out, op)
			}
			if err := i.networks[f.Owner].Adjust(int(f.Namespace.Fd()), f.Wanted); err != nil {
				ok = false
				fmt.Fprintf(out, "# failed: %v\n", err)
			}
		}
	}
	return ok
}
