// Command elastic measures how fast an App grows from 8 to 50 instances on three embedded hosts, what the control plane
// costs when nothing happens, and what 50 instances cost one executor. Edge: talks to clusters of its own.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"padis.io/padis/tests/harness"
)

const (
	mb         = 1e6
	ticksPerS  = 100 // USER_HZ, the unit of /proc/PID/stat on every Linux
	idleSettle = 10 * time.Second
	idleWindow = 20 * time.Second
)

type figure struct {
	name, unit string
	value      float64
}

func main() {
	runs := flag.Int("runs", 10, "number of times to grow from 8 to 50")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	figures, err := measure(ctx, *runs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-elastic:", err)
		os.Exit(1)
	}
	for _, f := range figures {
		fmt.Printf("figure: %s %.2f %s\n", f.name, f.value, f.unit)
	}
}

func measure(ctx context.Context, runs int) ([]figure, error) {
	var all []figure
	for _, part := range []func(context.Context) ([]figure, error){
		func(ctx context.Context) ([]figure, error) { return elastic(ctx, runs) },
		executor,
	} {
		f, err := part(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, f...)
	}
	return all, nil
}

func start(ctx context.Context, hosts int, args ...string) (*harness.Cluster, func(), error) {
	dir, err := os.MkdirTemp("", "padis-bench-")
	if err != nil {
		return nil, nil, err
	}
	c, err := harness.Start(ctx, harness.Options{Dir: dir, Hosts: hosts, Args: args})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return c, func() { c.Stop(); os.RemoveAll(dir) }, nil
}

// elastic grows and shrinks the web shop, after it has measured the idle control plane.
func elastic(ctx context.Context, runs int) ([]figure, error) {
	c, stop, err := start(ctx, 3)
	if err != nil {
		return nil, err
	}
	defer stop()
	fmt.Printf("first `get apps` answered after %.2f s\n", c.Started.Seconds())
	idle, err := idle(c)
	if err != nil {
		return nil, err
	}
	if _, err := c.Padis(ctx, "apply", "-f", "examples/web-shop.yaml"); err != nil {
		return nil, err
	}
	if err := ready(ctx, c, 8); err != nil {
		return nil, err
	}
	var times []float64
	for n := range runs {
		began := time.Now()
		if err := c.Scale(ctx, "shop", "web", 50); err != nil {
			return nil, err
		}
		if err := ready(ctx, c, 50); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began).Seconds())
		fmt.Printf("run %2d: 8 to 50 ready in %.3f s\n", n+1, times[n])
		if err := c.Scale(ctx, "shop", "web", 8); err != nil {
			return nil, err
		}
		if err := ready(ctx, c, 8); err != nil {
			return nil, err
		}
	}
	slices.Sort(times)
	return append([]figure{
		{"first_answer_seconds", "s", c.Started.Seconds()},
		{"elastic_8_to_50_p50_seconds", "s", quantile(times, 0.50)},
		{"elastic_8_to_50_p99_seconds", "s", quantile(times, 0.99)},
	}, idle...), nil
}

// quantile of sorted values, nearest rank: with ten runs p99 is the slowest.
func quantile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ready(ctx context.Context, c *harness.Cluster, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := c.WaitReady(ctx, "shop", "web", n)
	return err
}

// idle measures the control plane, `padis scheduler`: API server, etcd, reconcilers and scheduler.
func idle(c *harness.Cluster) ([]figure, error) {
	time.Sleep(idleSettle)
	before, err := c.FindOne("padis", " scheduler ")
	if err != nil {
		return nil, err
	}
	time.Sleep(idleWindow)
	after, err := c.FindOne("padis", " scheduler ")
	if err != nil {
		return nil, err
	}
	if before.Pid != after.Pid {
		return nil, errors.New("the scheduler was restarted while it was idle")
	}
	cpu := float64(after.CPUTime-before.CPUTime) / ticksPerS / idleWindow.Seconds() * 100
	return []figure{
		{"control_plane_idle_rss_mb", "MB", float64(after.RSS) / mb},
		{"control_plane_idle_cpu_percent", "%", cpu},
	}, nil
}

// executor runs 50 instances on one host.
func executor(ctx context.Context) ([]figure, error) {
	c, stop, err := start(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer stop()
	if _, err := c.Padis(ctx, "apply", "-f", "examples/web-shop.yaml"); err != nil {
		return nil, err
	}
	if err := c.Scale(ctx, "shop", "web", 50); err != nil {
		return nil, err
	}
	if err := ready(ctx, c, 50); err != nil {
		return nil, err
	}
	ps, err := c.Processes()
	if err != nil {
		return nil, err
	}
	var rss int64
	for _, p := range ps {
		if strings.HasSuffix(p.Args[0], "padis-executor") && p.Env["PADIS_INSTANCE"] == "" {
			rss = max(rss, p.RSS)
		}
	}
	if rss == 0 {
		return nil, errors.New("no executor found")
	}
	info, err := os.Stat(filepath.Join(c.Bin, "padis-executor"))
	if err != nil {
		return nil, err
	}
	return []figure{
		{"executor_50_rss_mb", "MB", float64(rss) / mb},
		{"executor_binary_mb", "MB", float64(info.Size()) / mb},
	}, nil
}
