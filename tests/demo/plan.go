package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/runtime"
	"padis.io/padis/tests/harness"
)

// movedTo is the address that web-0 gets in place of the one that it has.
const movedTo = "10.44.1.70"

// planAddress plans that an address moves, applies the plan, and compares what has happened with what was planned.
func (d *demo) planAddress(dir string) error {
	before, err := d.web()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(harness.Root(), "examples/web-shop.yaml"))
	if err != nil {
		return err
	}
	manifest, file := filepath.Join(dir, "moved.yaml"), filepath.Join(dir, "plan.json")
	moved := strings.Replace(string(b), "  - pool: shop\n", "  - pool: shop\n    addresses: ["+movedTo+"]\n", 1)
	if err := os.WriteFile(manifest, []byte(moved), 0o600); err != nil {
		return err
	}
	out, err := d.c.Padis(d.ctx, "plan", "-f", manifest, "--out", file)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != plan.ExitChanges {
		return fmt.Errorf("padis plan should exit with %d: %w\n%s", plan.ExitChanges, err, out)
	}
	fmt.Print(indent(out))
	if b, err = os.ReadFile(file); err != nil {
		return err
	}
	p, err := plan.Decode(b)
	if err != nil {
		return err
	}
	planned, err := onlyMove(p, before[0].Status.Addresses[0])
	if err != nil {
		return fmt.Errorf("%w: the plan is\n%s", err, out)
	}
	began := time.Now()
	if out, err = d.c.Padis(d.ctx, "apply", "--plan", file); err != nil {
		return err
	}
	fmt.Print(indent(out))
	now, err := d.c.WaitInstances(d.ctx, "shop", "web", func(is []runtime.Instance) bool {
		return len(is) == len(before) && is[0].Status.Ready && is[0].Status.TaskID != before[0].Status.TaskID
	})
	if err != nil {
		return err
	}
	fmt.Printf("      %.2f s later web-0 is ready on %s at %s\n", time.Since(began).Seconds(), now[0].Status.Host, now[0].Status.Addresses[0])
	if now[0].Status.Host != planned.To || now[0].Status.Addresses[0] != movedTo {
		return fmt.Errorf("web-0 is on %s at %v; planned were %s and %s", now[0].Status.Host, now[0].Status.Addresses, planned.To, movedTo)
	}
	for i := range now[1:] {
		if was, is := before[i+1], now[i+1]; is.Status.TaskID != was.Status.TaskID {
			return fmt.Errorf("%s was started anew, which was not planned", is.Name)
		}
	}
	if err := d.c.FetchAll(d.ctx, now, port, "/"); err != nil {
		return err
	}
	out, err = d.c.Padis(d.ctx, "plan", "-f", manifest)
	fmt.Print(indent("again: " + out))
	return err
}

// onlyMove makes sure that a plan gives web-0 its new address for the old one, and does nothing else.
func onlyMove(p *plan.Plan, old string) (plan.Instance, error) {
	if p.Unfinished != "" {
		return plan.Instance{}, fmt.Errorf("not all is known: %s", p.Unfinished)
	}
	if len(p.Apps) != 1 || len(p.Apps[0].Instances) != 1 {
		return plan.Instance{}, errors.New("something happens to others than web-0")
	}
	in := p.Apps[0].Instances[0]
	if in.Name != "web-0" || in.To == "" || strings.Join(in.Addresses, ",") != movedTo || in.Cause == "" || in.Why == "" {
		return in, errors.New("it does not say where web-0 goes, and why")
	}
	changes := map[string]string{}
	for _, a := range p.Addresses {
		changes[a.Address] = a.From + ">" + a.To
	}
	if len(changes) != 2 || changes[old] != "shop/web-0>" || changes[movedTo] != ">shop/web-0" {
		return in, fmt.Errorf("it does not lease %s for %s", movedTo, old)
	}
	return in, nil
}
