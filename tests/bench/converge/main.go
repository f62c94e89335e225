// Command converge measures how fast what a git repository declares gets into the API, and what it costs the control plane to keep:
// repositories are made and served over HTTP, and GitSources and Syncs bring them into a control plane. Beside it, in the same run, a
// client without any knowledge of what is there clones the small one and applies it object by object. Edge: talks to git and to
// control planes of its own.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// rounds is how often short things are measured. The median is shown, and the worst.
const rounds = 7

// window is for how long the API server keeps what has changed for clients that are behind, and a little more.
const window = 80 * time.Second

type options struct {
	few, many, workers int
	heap, processor    string
}

func main() {
	var o options
	flag.IntVar(&o.few, "few", 1000, "Apps of the small repository")
	flag.IntVar(&o.many, "many", 50000, "objects of the large one, Apps and ConfigMaps in turn; 0 for none")
	flag.IntVar(&o.workers, "workers", 16, "requests at the same time of the client without knowledge; 0 does without it")
	serve := flag.String("serve", "", "be the control plane, with this data directory")
	flag.StringVar(&o.heap, "heap", "", "keep the heap profile of the control plane with all objects in this file")
	flag.StringVar(&o.processor, "processor", "", "keep profiles of where the control plane spends its time in files of this prefix")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *serve != "" {
		err = runPlane(ctx, *serve)
	} else {
		err = measure(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-converge:", err)
		os.Exit(1)
	}
}

// report collects figures.
type report struct{ lines []string }

func (r *report) add(name string, value float64, unit string) {
	line := fmt.Sprintf("figure: %s %.2f %s", name, value, unit)
	fmt.Fprintln(os.Stderr, line)
	r.lines = append(r.lines, line)
}

// ms adds the median of what was measured several times, and the worst.
func (r *report) ms(name string, all []time.Duration) {
	slices.Sort(all)
	r.add(name, float64(all[len(all)/2].Microseconds())/1e3, "ms")
	r.add(name+"_worst", float64(all[len(all)-1].Microseconds())/1e3, "ms")
}

func measure(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "padis-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	url, stop, err := serveGit(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	small, err := write(ctx, filepath.Join(dir, "small"), "small", func(int) bool { return true }, o.few)
	if err != nil {
		return err
	}
	var r report
	floor := 0.0
	if o.workers > 0 {
		if floor, err = without(ctx, &r, filepath.Join(dir, "floor"), url+"/small/.git", o); err != nil {
			return fmt.Errorf("client without knowledge: %w", err)
		}
	}
	p, err := startPlane(ctx, filepath.Join(dir, "plane"))
	if err != nil {
		return err
	}
	defer p.stop()
	if err := with(ctx, &r, p, dir, url, small, floor, o); err != nil {
		return err
	}
	for _, line := range r.lines {
		fmt.Println(line)
	}
	return nil
}

// without applies the small repository by a client without knowledge, to a control plane that ends with it, and says how long that took.
func without(ctx context.Context, r *report, dir, url string, o options) (float64, error) {
	p, err := startPlane(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	a, err := newApplier(p.kubeconfig(), o.workers)
	if err != nil {
		return 0, err
	}
	if err := createNamespace(ctx, a.client, "floor"); err != nil {
		return 0, err
	}
	began := time.Now()
	objects, err := cloned(ctx, url, filepath.Join(dir, "clone"))
	if err != nil {
		return 0, err
	}
	if err := a.apply(ctx, "floor", objects); err != nil {
		return 0, err
	}
	first := time.Since(began).Seconds()
	if err := p.settle(ctx); err != nil {
		return 0, err
	}
	began = time.Now()
	if err := a.apply(ctx, "floor", objects); err != nil {
		return 0, err
	}
	r.add(fmt.Sprintf("client_without_knowledge_%d_seconds", o.few), first, "s")
	r.add(fmt.Sprintf("client_without_knowledge_%d_again_ms", o.few), time.Since(began).Seconds()*1e3, "ms")
	return first, nil
}

// with has Syncs do the same, and more.
func with(ctx context.Context, r *report, p *plane, dir, url string, repo *repository, floor float64, o options) error {
	a, err := newApplier(p.kubeconfig(), o.workers)
	if err != nil {
		return err
	}
	idle, err := p.rss("VmRSS")
	if err != nil {
		return err
	}
	r.add("idle_rss_mb", idle, "MB")
	small := &bed{client: a.client, namespace: "small", repo: repo, plane: p}
	m, err := small.converge(ctx, r, p, url, o)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("converge_%d_seconds", o.few), m.applied.Sub(m.begun).Seconds(), "s")
	r.add(fmt.Sprintf("converge_%d_healthy_seconds", o.few), m.healthy.Sub(m.begun).Seconds(), "s")
	if floor > 0 {
		r.add("converge_to_client_without_knowledge", m.applied.Sub(m.begun).Seconds()/floor, "")
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	if err := small.rest(ctx, r, p); err != nil {
		return err
	}
	if o.many == 0 {
		return small.drifts(ctx, r, 0)
	}
	if repo, err = write(ctx, filepath.Join(dir, "large"), "large", func(i int) bool { return i%2 == 0 }, o.many); err != nil {
		return err
	}
	large := &bed{client: a.client, namespace: "large", repo: repo, plane: p}
	if m, err = large.converge(ctx, r, p, url, o); err != nil {
		return err
	}
	r.add(fmt.Sprintf("converge_%d_seconds", o.many), m.applied.Sub(m.begun).Seconds(), "s")
	// Reconcilers and the collector have some work left.
	if err := p.settle(ctx); err != nil {
		return err
	}
	if err := large.changes(ctx, r, p, o); err != nil {
		return err
	}
	if err := p.weighNow(r, fmt.Sprintf("converge_%d_just_now", o.many)); err != nil {
		return err
	}
	// What is kept of changes for clients that are behind goes when it is older than that, and another change comes.
	select {
	case <-time.After(window):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := large.drifts(ctx, r, 0); err != nil {
		return err
	}
	return p.weigh(ctx, r, idle, o)
}

// converge declares a new bed, and waits until all of it is there and healthy.
func (b *bed) converge(ctx context.Context, r *report, p *plane, url string, o options) (moments, error) {
	if err := createNamespace(ctx, b.client, b.namespace); err != nil {
		return moments{}, err
	}
	commit, err := b.repo.head()
	if err != nil {
		return moments{}, err
	}
	if err := p.profiles(o.processor, b.namespace); err != nil {
		return moments{}, err
	}
	m, err := b.follow(ctx, commit, func() error { return b.declare(ctx, url+"/"+b.namespace+"/.git") })
	if err != nil {
		return m, err
	}
	// Of the time until all was applied.
	r.add("fetch_"+b.namespace+"_seconds", m.fetched.Sub(m.begun).Seconds(), "s")
	r.add("processor_"+b.namespace+"_seconds", m.processor.Seconds(), "s")
	return m, p.profiles(o.processor, "")
}

// rest has the Sync look at commits that change nothing, which must write nothing.
func (b *bed) rest(ctx context.Context, r *report, p *plane) error {
	before, err := b.versions(ctx)
	if err != nil {
		return err
	}
	var all []time.Duration
	for round := range rounds {
		took, err := b.nothing(ctx, round)
		if err != nil {
			return err
		}
		all = append(all, took)
		if err := p.settle(ctx); err != nil {
			return err
		}
	}
	after, err := b.versions(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return fmt.Errorf("objects of the Sync %s were written although no commit changed any", b.namespace)
	}
	r.ms("converge_noop_ms", all)
	return nil
}

// changes changes one file at a time.
func (b *bed) changes(ctx context.Context, r *report, p *plane, o options) error {
	if err := p.profiles(o.processor, "one"); err != nil {
		return err
	}
	var afterFetch, inAll []time.Duration
	for round := range rounds {
		// ConfigMaps have the odd numbers.
		begun, done, there, err := b.change(ctx, round*(o.many/rounds/2)*2+1, round)
		if err != nil {
			return err
		}
		afterFetch, inAll = append(afterFetch, there.Sub(done)), append(inAll, there.Sub(begun))
		if err := p.settle(ctx); err != nil {
			return err
		}
	}
	r.ms(fmt.Sprintf("converge_one_of_%d_ms", o.many), afterFetch)
	r.ms(fmt.Sprintf("converge_one_of_%d_with_fetch_ms", o.many), inAll)
	return p.profiles(o.processor, "")
}

// drifts has fields changed by others, one at a time.
func (b *bed) drifts(ctx context.Context, r *report, from int) error {
	var all []time.Duration
	for round := range rounds {
		took, err := b.drift(ctx, from+2*round)
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	r.ms("drift_correct_ms", all)
	return nil
}

// weighNow says what all takes at this moment.
func (p *plane) weighNow(r *report, name string) error {
	for _, m := range []struct{ name, counts string }{{"rss", "VmRSS"}, {"rss_anonymous", "RssAnon"}, {"rss_of_files", "RssFile"}, {"peak_rss", "VmHWM"}} {
		mb, err := p.rss(m.counts)
		if err != nil {
			return err
		}
		r.add(name+"_"+m.name+"_mb", mb, "MB")
	}
	return nil
}

// weigh says what all of it takes.
func (p *plane) weigh(ctx context.Context, r *report, idle float64, o options) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	if err := p.weighNow(r, fmt.Sprintf("converge_%d", o.many)); err != nil {
		return err
	}
	mb, err := p.rss("VmRSS")
	if err != nil {
		return err
	}
	r.add("rss_an_object_kb", (mb-idle)*1e3/float64(o.few+o.many), "kB")
	if o.heap == "" {
		return nil
	}
	if err := p.heap(o.heap); err != nil {
		return err
	}
	top := exec.CommandContext(ctx, "go", "tool", "pprof", "-sample_index=inuse_space", "-top", "-nodecount=60", o.heap)
	top.Stdout, top.Stderr = os.Stderr, os.Stderr
	return top.Run()
}
