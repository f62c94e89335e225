package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/tests/harness"
)

// What examples/balanced/web-shop.yaml declares.
const (
	balanced       = "examples/balanced/web-shop.yaml"
	vip            = "192.0.2.10"
	directorASN    = 64512
	directorSubnet = "10.48.0.0/24"
	directors      = 2
)

// balance starts the router, and gives the web shop a VIP that it learns from two directors.
func (d *demo) balance(dir string) error {
	files := filepath.Join(dir, "router")
	if err := os.Mkdir(files, 0o700); err != nil {
		return err
	}
	var err error
	if d.router, err = d.c.StartVIPRouter(d.ctx, files, netip.MustParsePrefix(directorSubnet), directorASN); err != nil {
		return err
	}
	began := time.Now()
	out, err := d.c.Padis(d.ctx, "apply", "-f", balanced)
	if err != nil {
		return err
	}
	fmt.Print(indent(out))
	paths, err := d.router.AwaitPaths(d.ctx, netip.MustParseAddr(vip), directors)
	if err != nil {
		return err
	}
	fmt.Printf("      %.2f s later the BIRD router has %s with %d equal-cost paths: %s\n", time.Since(began).Seconds(), vip, len(paths), strings.Join(paths, " "))
	if _, err := d.c.WaitReady(d.ctx, "shop", "web-director", directors); err != nil {
		return err
	}
	web, err := d.c.Instances(d.ctx, "shop")
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, i := range web {
		if i.Status.App == "web" {
			wanted[i.Name] = true
		}
	}
	out, err = d.c.Padis(d.ctx, "wait", "--for=condition=ServersReady", "lb/web", "-n", "shop", "--timeout=60s")
	if err != nil {
		return err
	}
	fmt.Print(indent(out))
	if out, err = d.c.Padis(d.ctx, "describe", "lb", "web", "-n", "shop", "--show-events=false"); err != nil {
		return err
	}
	fmt.Print(indent(out))
	return d.fetchVIP(wanted)
}

// fetchVIP asks the VIP from behind the router until all the instances have answered, and compares with what is foretold.
func (d *demo) fetchVIP(wanted map[string]bool) error {
	client, err := d.c.Client(false)
	if err != nil {
		return err
	}
	asked := 0
	for len(wanted) > 0 {
		body, from, err := client.Get(d.ctx, url())
		if err != nil {
			return err
		}
		asked++
		name := answering(body)
		foretold, err := d.c.Padis(d.ctx, "lb", "trace", from.String(), vip+":"+fmt.Sprint(port))
		if err != nil {
			return err
		}
		if !strings.Contains(foretold, " "+name+" on ") {
			return fmt.Errorf("the flow from %v went to %s, and padis lb trace says\n%s", from, name, foretold)
		}
		if asked == 1 {
			fmt.Printf("      from a client behind the router %s says: %s\n", url(), strings.TrimSpace(body))
			fmt.Print(indent(foretold))
		}
		delete(wanted, name)
	}
	fmt.Printf("      all instances of web have answered at %s after %d requests, each as padis lb trace foretold\n", vip, asked)
	return nil
}

func url() string { return fmt.Sprintf("http://%s:%d/", vip, port) }

// answering is the instance that a page of the shop is of: "web shop: web-3 at 10.44.1.4 on host-1, visitor 7".
func answering(body string) string {
	_, rest, _ := strings.Cut(body, ": ")
	name, _, _ := strings.Cut(rest, " at ")
	return name
}

// killDirector kills one director while clients ask the VIP.
func (d *demo) killDirector() error {
	const name = "web-director-0"
	was, err := d.c.Instance(d.ctx, "shop", name)
	if err != nil {
		return err
	}
	p, err := d.c.InstanceProcess("shop", name)
	if err != nil {
		return err
	}
	load, err := d.c.StartLoad(url(), 8, 8, 5*time.Millisecond, answering)
	if err != nil {
		return err
	}
	stopped := false
	stop := func() harness.LoadResult { stopped = true; return load.Stop() }
	defer func() {
		if !stopped {
			stop()
		}
	}()
	if err := load.AwaitRequests(d.ctx, 500); err != nil {
		return err
	}
	before := load.Requests()
	began := time.Now()
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil {
		return err
	}
	paths, err := d.router.AwaitPaths(d.ctx, netip.MustParseAddr(vip), directors-1)
	if err != nil {
		return err
	}
	fmt.Printf("      %s (process %d on %s) is killed; %.3f s later the router has %s by %s alone\n", name, p.Pid, was.Status.Host, time.Since(began).Seconds(), vip, strings.Join(paths, " "))
	is, err := d.c.WaitInstances(d.ctx, "shop", "web-director", func(is []runtime.Instance) bool {
		return len(is) == directors && is[0].Status.Ready && is[0].Status.TaskID != was.Status.TaskID
	})
	if err != nil {
		return err
	}
	if _, err = d.router.AwaitPaths(d.ctx, netip.MustParseAddr(vip), directors); err != nil {
		return err
	}
	fmt.Printf("      started again on %s with %s, and announced by both again, after %.2f s\n", is[0].Status.Host, is[0].Status.Addresses[0], time.Since(began).Seconds())
	if err := load.AwaitRequests(d.ctx, 500); err != nil {
		return err
	}
	r := stop()
	fmt.Printf("      %d requests by 16 clients, %d of them after the kill: %d failed, %d of 8 kept connections broke, the slowest took %.3f s\n",
		r.Requests, r.Requests-before, r.Failed, r.Lost, r.Slowest.Seconds())
	fmt.Printf("figure: demo_failed_requests %d requests\n", r.Failed)
	if r.Failed > 0 || r.Lost > 0 {
		return errors.New("requests failed, or connections broke: " + strings.Join(r.Errors, "; "))
	}
	return nil
}
