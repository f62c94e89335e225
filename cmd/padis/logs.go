package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/runtime"
)

const logsExample = `  # What instance web-0 printed
  padis logs web-0 -n shop

  # The last 20 lines of all instances of the App web, and what comes
  padis logs app/web -n shop --tail 20 -f

  # What instance web-0 printed to both in the last five minutes
  padis logs web-0 -n shop --all-streams --since 5m

  # Standard error of the run before the last restart
  padis logs web-0 -n shop --previous --stderr`

type logsOptions struct {
	follow, previous, stderr, all, instances bool
	// prefix is asked for (or not); nil: lines tell their instance if there are several.
	prefix    *bool
	tail      int64
	since     time.Duration
	sinceTime string
}

func (o logsOptions) query() map[string]string {
	q := map[string]string{"stream": "stdout"}
	if o.stderr {
		q["stream"] = "stderr"
	}
	if o.all {
		q["stream"] = "all"
	}
	if o.since > 0 {
		q["sinceSeconds"] = strconv.FormatInt(int64(max(o.since/time.Second, 1)), 10)
	}
	if o.sinceTime != "" {
		q["sinceTime"] = o.sinceTime
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
	var prefix bool
	cmd := &cobra.Command{
		Use:   "logs (NAME | app/NAME)",
		Short: "Print what an instance, or all instances of an App, printed",
		Long: "Print what an instance printed. With app/NAME each line begins with the instance's name, if there are several; with -f " +
			"instances that come later are followed, too.\n\n" + exitHelp,
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
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			if o.follow && o.previous {
				return usagef("--previous speaks of a run that ended: there is nothing to follow")
			}
			if cmd.Flags().Changed("prefix") {
				o.prefix = &prefix
			}
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			if o.instances && !t.app {
				if t, err = appOf(cmd.Context(), a, namespace, t.name); err != nil {
					return err
				}
			}
			return printLogs(cmd.Context(), a, streams, namespace, t, o)
		},
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "Go on printing what comes.")
	cmd.Flags().BoolVar(&o.instances, "all-instances", false, "All instances of the App that NAME is, or is an instance of; the same as app/NAME.")
	cmd.Flags().BoolVar(&prefix, "prefix", false, "Begin each line with the instance's name; without it, only if there are several instances.")
	cmd.Flags().BoolVarP(&o.previous, "previous", "p", false, "The run before the last restart.")
	cmd.Flags().BoolVar(&o.stderr, "stderr", false, "Standard error instead of standard output.")
	cmd.Flags().Int64Var(&o.tail, "tail", -1, "Number of last lines to begin with; all if it is not given.")
	cmd.Flags().BoolVar(&o.all, "all-streams", false, "Standard output and standard error together.")
	cmd.Flags().DurationVar(&o.since, "since", 0, "Only what was written in this time, such as 5m.")
	cmd.Flags().StringVar(&o.sinceTime, "since-time", "", "Only what was written since this time, such as 2006-01-02T15:04:05Z.")
	return cmd
}

// appOf is the App of that name, or else the App of the instance of that name.
func appOf(ctx context.Context, a reader, namespace, name string) (target, error) {
	err := a.get(ctx, declaredPath(namespace, "apps", name), &struct{}{})
	if err == nil || !apierrors.IsNotFound(err) {
		return target{app: true, name: name}, err
	}
	var i runtime.Instance
	err = a.get(ctx, runtimePath(namespace, "instances", name), &i)
	return target{app: true, name: i.Status.App}, err
}

// check finds flags that contradict each other.
func (o logsOptions) check(flags *pflag.FlagSet) error {
	if flags.Changed("since") && o.since <= 0 {
		return usagef("--since %s: give a time that is longer than none", o.since)
	}
	if o.since > 0 && o.sinceTime != "" {
		return usagef("give one of --since and --since-time")
	}
	if _, err := time.Parse(time.RFC3339Nano, o.sinceTime); err != nil && o.sinceTime != "" {
		return usagef("--since-time %q: write it as 2006-01-02T15:04:05Z", o.sinceTime)
	}
	if o.all && o.stderr {
		return usagef("give one of --stderr and --all-streams")
	}
	return nil
}

func printLogs(ctx context.Context, a reader, streams genericiooptions.IOStreams, namespace string, t target, o logsOptions) error {
	m := &manyLogs{api: a, to: streams.Out, namespace: namespace, options: o, names: map[string]bool{}}
	if !t.app {
		if o.prefix == nil || !*o.prefix {
			return copyLog(ctx, a, streams.Out, namespace, t.name, o)
		}
		return m.print(ctx, t.name)
	}
	if err := a.get(ctx, declaredPath(namespace, "apps", t.name), &struct{}{}); err != nil {
		return err
	}
	instances, err := a.instancesOf(ctx, namespace, t.name)
	if err != nil {
		return err
	}
	m.know(instances)
	for _, instance := range instances {
		// One after the other unless followed: the lines of an instance stay together.
		if !o.follow {
			m.read(ctx, instance.Name)
		}
	}
	if o.follow {
		m.follow(ctx, t.name, instances)
	}
	return errors.Join(m.errs...)
}

// lookAgain is how often, while Apps are followed, new instances and new runs are looked for.
const lookAgain = 2 * time.Second

// manyLogs prints the output of several instances, line by line.
type manyLogs struct {
	api       reader
	to        io.Writer
	namespace string
	options   logsOptions

	// lines is held while one is printed.
	lines sync.Mutex
	// names are those of all instances whose output is printed.
	names map[string]bool

	mu   sync.Mutex
	errs []error
}

// know notes instances whose output is about to be printed.
func (m *manyLogs) know(instances []runtime.Instance) {
	m.lines.Lock()
	defer m.lines.Unlock()
	for _, i := range instances {
		m.names[i.Name] = true
	}
}

// prefix is what lines of an instance begin with from now on: nothing while there is no other instance, unless it is
// asked for.
func (m *manyLogs) prefix(name string) string {
	if p := m.options.prefix; p != nil && !*p || p == nil && len(m.names) < 2 {
		return ""
	}
	return "[" + name + "] "
}

// print prints the output of one instance.
func (m *manyLogs) print(ctx context.Context, name string) error {
	w := &lineWriter{mu: &m.lines, to: m.to, prefix: func() string { return m.prefix(name) }}
	return errors.Join(copyLog(ctx, m.api, w, m.namespace, name, m.options), w.flush())
}

func (m *manyLogs) read(ctx context.Context, name string) {
	if err := m.print(ctx, name); err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.errs = append(m.errs, fmt.Errorf("%s: %w", name, err))
	}
}

// follow reads the logs of all instances that there are, and of the runs that begin while any goes on.
func (m *manyLogs) follow(ctx context.Context, app string, now []runtime.Instance) {
	seen := map[[2]string]bool{}
	done := make(chan struct{})
	open := 0
	start := func(instances []runtime.Instance) {
		for _, i := range instances {
			run := [2]string{i.Name, i.Status.TaskID}
			if seen[run] {
				continue
			}
			seen[run] = true
			open++
			go func() {
				m.read(ctx, i.Name)
				done <- struct{}{}
			}()
		}
	}
	start(now)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for open > 0 {
		select {
		case <-done:
			open--
		case <-tick.C:
			// If it cannot be asked, the logs that are open say so.
			if later, err := m.api.instancesOf(ctx, m.namespace, app); err == nil {
				m.know(later)
				start(later)
			}
		}
	}
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

// lineWriter prints whole lines with a prefix; those that share mu do not mix. It asks for the prefix of each line with mu
// held; lines with none are printed as they came.
type lineWriter struct {
	mu     *sync.Mutex
	to     io.Writer
	prefix func() string
	rest   []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for len(l.rest) > 0 {
		n := bytes.IndexByte(l.rest, '\n') + 1
		if n == 0 && len(l.rest) < maxLine {
			break
		}
		if n == 0 {
			n = len(l.rest)
		}
		if err := l.print(l.rest[:n]); err != nil {
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
	prefix := l.prefix()
	if prefix == "" {
		_, err := l.to.Write(line)
		return err
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	_, err := fmt.Fprintf(l.to, "%s%s\n", prefix, line)
	return err
}
