// Command demo shows Padis on one machine: three embedded hosts, examples, scaling, a plan and what comes of it, failures and healing,
// and a VIP behind a router. Each step is verified; the exit status is 0 only if all were. Edge: talks to a cluster of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"padis.io/padis/tests/harness"
)

const port = 8080

// demo is one run.
type demo struct {
	ctx   context.Context
	c     *harness.Cluster
	watch *harness.ARPWatch
	// router is there from the step that needs it.
	router *harness.Router
	began  time.Time
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if _, err := harness.Build(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "padis-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	before, err := harness.Footprint()
	if err != nil {
		return err
	}
	d := &demo{ctx: ctx, began: time.Now()}
	defer func() {
		if d.router != nil {
			d.router.Stop()
		}
		if d.c != nil {
			d.c.Stop()
		}
	}()
	fmt.Println("Padis on one machine: three hosts, each a network stack of its own, on one virtual switch.")
	steps := []struct {
		name string
		do   func() error
	}{
		{"start: control plane, Mesos master, three hosts", func() error { return d.start(dir) }},
		{"apply examples/ and wait until all is Available", d.apply},
		{"what runs, and where", d.show},
		{"every instance answers from its own address", d.answers},
		{"life and property never share a host", d.isolation},
		{"scale web from 8 to 50", func() error { return d.scale(50) }},
		{"scale web back to 8", func() error { return d.scale(8) }},
		{"padis plan: an address moves; what was planned happens, and nothing else", func() error { return d.planAddress(dir) }},
		{"kill -9 an instance's process: it comes back with its address", d.killInstance},
		{"kill -9 a whole host: its instances move and keep their addresses", d.killHost},
		{"kill -9 the scheduler: it returns and touches nothing", d.killScheduler},
		{"a VIP for the web shop: two directors announce it to a BIRD router", func() error { return d.balance(dir) }},
		{"kill -9 a director while clients behind the router ask the VIP: no request fails", d.killDirector},
		{"no address was ever answered by two", d.noDuplicates},
		{"stop: nothing is left behind", func() error { return d.leavesNothing(before) }},
	}
	for n, s := range steps {
		began := time.Now()
		fmt.Printf("\n[%d/%d] %s\n", n+1, len(steps), s.name)
		if err := s.do(); err != nil {
			if d.c != nil {
				fmt.Fprintf(os.Stderr, "--- last lines of the scheduler's log\n%s\n", d.c.LogTail("scheduler", 25))
			}
			return fmt.Errorf("step %d (%s): %w", n+1, s.name, err)
		}
		fmt.Printf("      verified in %.2f s\n", time.Since(began).Seconds())
	}
	fmt.Printf("\nAll %d steps verified.\nfigure: demo_seconds %.1f s\n", len(steps), time.Since(d.began).Seconds())
	return nil
}

func (d *demo) start(dir string) (err error) {
	if d.c, err = harness.Start(d.ctx, harness.Options{Dir: dir, Hosts: 3, Out: os.Stdout}); err != nil {
		return err
	}
	fmt.Printf("      first `get apps` answered after %.2f s\n", d.c.Started.Seconds())
	d.watch, err = d.c.WatchARP(d.ctx, dir, "10.44.1.1-10.44.1.80", "10.45.1.1-10.45.1.8", "10.46.1.1-10.46.1.8", "10.48.0.10-10.48.0.19")
	return err
}

func (d *demo) apply() error {
	out, err := d.c.Padis(d.ctx, "apply", "-f", "examples/web-shop.yaml", "-f", "examples/insurers.yaml")
	if err != nil {
		return err
	}
	fmt.Print(indent(out))
	out, err = d.c.Padis(d.ctx, "wait", "--for=condition=Available", "app", "--all", "-A", "--timeout=60s")
	if err != nil {
		return err
	}
	fmt.Print(indent(out))
	return nil
}

func (d *demo) show() error {
	for _, what := range []string{"apps", "instances", "agents", "ippools"} {
		out, err := d.c.Kubectl(d.ctx, "get", what, "-A")
		if err != nil {
			return err
		}
		fmt.Print(indent(out))
	}
	return nil
}

func (d *demo) answers() error {
	for _, ns := range []string{"shop", "life", "property"} {
		is, err := d.c.Instances(d.ctx, ns)
		if err != nil {
			return err
		}
		if err := d.c.FetchAll(d.ctx, is, port, "/"); err != nil {
			return err
		}
		bodies, err := d.c.Fetch(d.ctx, is[:1], port, "/")
		if err != nil {
			return err
		}
		fmt.Printf("      %d of %d in %s; http://%s:%d/ says: %s\n", len(is), len(is), ns, is[0].Status.Addresses[0], port, strings.TrimSpace(bodies[is[0].Name]))
	}
	return nil
}

func (d *demo) isolation() error {
	hosts := map[string]string{}
	for _, ns := range []string{"life", "property"} {
		is, err := d.c.Instances(d.ctx, ns)
		if err != nil {
			return err
		}
		for _, i := range is {
			if other, ok := hosts[i.Status.Host]; ok && other != ns {
				return fmt.Errorf("%s runs instances of %s and of %s", i.Status.Host, other, ns)
			}
			hosts[i.Status.Host] = ns
		}
	}
	for host, ns := range hosts {
		fmt.Printf("      %s serves %s\n", host, ns)
	}
	if len(hosts) < 2 {
		return fmt.Errorf("the insurers' instances run on %d hosts", len(hosts))
	}
	return nil
}

func (d *demo) scale(n int) error {
	began := time.Now()
	if out, err := d.c.Padis(d.ctx, "scale", "app/web", "-n", "shop", fmt.Sprintf("--replicas=%d", n)); err != nil {
		return err
	} else {
		fmt.Print(indent(out))
	}
	is, err := d.c.WaitReady(d.ctx, "shop", "web", n)
	if err != nil {
		return err
	}
	fmt.Printf("      %d instances ready %.2f s after the command began\n", n, time.Since(began).Seconds())
	return d.c.FetchAll(d.ctx, is, port, "/")
}

func (d *demo) leavesNothing(before harness.Traces) error {
	d.router.Stop()
	d.router = nil
	d.c.Stop()
	d.c = nil
	after, err := harness.Footprint()
	if err != nil {
		return err
	}
	return before.Compare(after)
}

func indent(s string) string {
	return "      " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n      ") + "\n"
}
