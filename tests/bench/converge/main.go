// Command converge measures how fast what a git repository declares gets into the API, and what it costs the control plane to keep:
// a repository is made and served over HTTP, cloned, and applied object by object, as a client without any knowledge of what
// is there would. That is the floor for whoever does better. Edge: talks to git and to a control plane of its own.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	few := flag.Int("few", 1000, "Apps of the small repository")
	many := flag.Int("many", 50000, "objects of the large one, Apps and ConfigMaps in turn")
	workers := flag.Int("workers", 16, "requests at the same time")
	serve := flag.String("serve", "", "be the control plane, with this data directory")
	profile := flag.String("profile", "", "keep the heap profile of the control plane with all objects in this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *serve != "" {
		err = runPlane(ctx, *serve)
	} else {
		err = measure(ctx, *few, *many, *workers, *profile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-converge:", err)
		os.Exit(1)
	}
}

type figure struct {
	name  string
	value float64
	unit  string
}

func measure(ctx context.Context, few, many, workers int, profile string) error {
	dir, err := os.MkdirTemp("", "padis-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := startPlane(ctx, filepath.Join(dir, "plane"))
	if err != nil {
		return err
	}
	defer p.stop()
	idle, err := p.rss()
	if err != nil {
		return err
	}
	a, err := newApplier(p.kubeconfig(), workers)
	if err != nil {
		return err
	}
	small, err := cloned(ctx, filepath.Join(dir, "small"), "small", func(i int) bool { return true }, few)
	if err != nil {
		return err
	}
	out := []figure{{"idle_rss_mb", idle, "MB"}}
	first, err := a.apply(ctx, small)
	if err != nil {
		return err
	}
	again, err := a.apply(ctx, small)
	if err != nil {
		return err
	}
	out = append(out, figure{fmt.Sprintf("apply_%d_seconds", few), first.Seconds(), "s"}, figure{fmt.Sprintf("apply_%d_again_ms", few), float64(again.Milliseconds()), "ms"})
	if many > few {
		large, err := cloned(ctx, filepath.Join(dir, "large"), "large", func(i int) bool { return i%2 == 0 }, many-few)
		if err != nil {
			return err
		}
		took, err := a.apply(ctx, large)
		if err != nil {
			return err
		}
		// Reconcilers and the collector have some work left.
		fmt.Fprintf(os.Stderr, "%d objects applied in %s; waiting until the control plane is idle\n", len(large), took.Round(time.Second))
		if err := p.settle(ctx); err != nil {
			return err
		}
		rss, err := p.rss()
		if err != nil {
			return err
		}
		out = append(out, figure{fmt.Sprintf("apply_%d_seconds", many), (first + took).Seconds(), "s"}, figure{fmt.Sprintf("converge_%d_rss_mb", many), rss, "MB"},
			figure{"rss_an_object_kb", (rss - idle) * 1e3 / float64(many), "kB"})
	}
	if profile != "" {
		if err := p.heap(profile); err != nil {
			return err
		}
		top := exec.CommandContext(ctx, "go", "tool", "pprof", "-sample_index=inuse_space", "-top", "-nodecount=40", profile)
		top.Stdout, top.Stderr = os.Stderr, os.Stderr
		if err := top.Run(); err != nil {
			return err
		}
	}
	for _, f := range out {
		fmt.Printf("figure: %s %.2f %s\n", f.name, f.value, f.unit)
	}
	return nil
}
