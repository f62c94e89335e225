package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

const logsExample = `  # What instance web-0 printed
  padis logs web-0 -n shop

  # The last 20 lines of all instances of the App web, and what comes
  padis logs app/web -n shop --tail 20 -f

  # Standard error of the run before the last restart
  padis logs web-0 -n shop --previous --stderr`

type logsOptions struct {
	follow, previous, stderr bool
	tail                     int64
}

func (o logsOptions) query() map[string]string {
	q := map[string]string{"stream": "stdout"}
	if o.stderr {
		q["stream"] = "stderr"
	}
	if o.follow {
		q["follow"] = "true"
	}
	if o.previous {
		q["previous"] = "true"
	}
	if o.tail >= 0 {
		q["tailLines"] = strconv.FormatInt(o.tail, 10)
	}
	return q
}

func newLogsCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs (NAME | app/NAME)",
		Short: "Print what an instance, or all instances of an App, printed",
		Long: "Print what an instance printed. With app/NAME each line begins with the instance's name; with -f the instances that " +
			"exist now are followed.\n\n" + exitHelp,
		Example: logsExample,
		Args:    exactArguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseTarget(args[0], true)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("tail") && o.tail < 0 {
				return usagef("--tail %d: it counts lines", o.tail)
			}
			if o.follow && o.previous {
				return usagef("--previous speaks of a run that ended: there is nothing to follow")
			}
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			return printLogs(cmd.Context(), a, streams, namespace, t, o)
		},
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "Go on printing what comes.")
	cmd.Flags().BoolVarP(&o.previous, "previous", "p", false, "The run before the last restart.")
	cmd.Flags().BoolVar(&o.stderr, "stderr", false, "Standard error instead of standard output.")
	cmd.Flags().Int64Var(&o.tail, "tail", -1, "Number of last lines to begin with; all if it is not given.")
	return cmd
}

func printLogs(ctx context.Context, a reader, streams genericiooptions.IOStreams, namespace string, t target, o logsOptions) error {
	if !t.app {
		return copyLog(ctx, a, streams.Out, namespace, t.name, o)
	}
	if err := a.get(ctx, declaredPath(namespace, "apps", t.name), &struct{}{}); err != nil {
		return err
	}
	instances, err := a.instancesOf(ctx, namespace, t.name)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(instances))
	var mu sync.Mutex
	for i, instance := range instances {
		read := func() {
			w := &lineWriter{mu: &mu, to: streams.Out, prefix: "[" + instance.Name + "] "}
			if err := errors.Join(copyLog(ctx, a, w, namespace, instance.Name, o), w.flush()); err != nil {
				errs[i] = fmt.Errorf("%s: %w", instance.Name, err)
			}
		}
		// One after the other unless followed: the lines of an instance stay together.
		if !o.follow {
			read()
			continue
		}
		wg.Go(read)
	}
	wg.Wait()
	return errors.Join(errs...)
}

func copyLog(ctx context.Context, a reader, w io.Writer, namespace, instance string, o logsOptions) error {
	log, err := a.stream(ctx, runtimePath(namespace, "instances", instance, "log"), o.query())
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = io.Copy(w, log)
	return err
}

// maxLine is how long a line may be before it is printed in parts.
const maxLine = 64 << 10

// lineWriter prints whole lines with a prefix; those that share mu do not mix.
type lineWriter struct {
	mu     *sync.Mutex
	to     io.Writer
	prefix string
	rest   []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for len(l.rest) > 0 {
		n, line, err := bufio.ScanLines(l.rest, false)
		if err != nil {
			return 0, err
		}
		if n == 0 && len(l.rest) < maxLine {
			break
		}
		if n == 0 {
			n, line = len(l.rest), l.rest
		}
		if err := l.print(line); err != nil {
			return 0, err
		}
		l.rest = l.rest[n:]
	}
	return len(p), nil
}

// flush prints what came after the last end of line.
func (l *lineWriter) flush() error {
	if len(l.rest) == 0 {
		return nil
	}
	line := l.rest
	l.rest = nil
	return l.print(line)
}

func (l *lineWriter) print(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.to, "%s%s\n", l.prefix, line)
	return err
}
