package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"padis.io/padis/api/runtime"
)

func (d *demo) web() ([]runtime.Instance, error) { return d.c.WaitReady(d.ctx, "shop", "web", 8) }

func (d *demo) killInstance() error {
	was, err := d.c.Instance(d.ctx, "shop", "web-3")
	if err != nil {
		return err
	}
	p, err := d.c.InstanceProcess("shop", "web-3")
	if err != nil {
		return err
	}
	fmt.Printf("      web-3 is process %d on %s, address %s\n", p.Pid, was.Status.Host, was.Status.Addresses[0])
	began := time.Now()
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil {
		return err
	}
	is, err := d.c.WaitInstances(d.ctx, "shop", "web", func(is []runtime.Instance) bool {
		return len(is) == 8 && is[3].Status.Ready && is[3].Status.TaskID != was.Status.TaskID
	})
	if err != nil {
		return err
	}
	now := is[3]
	fmt.Printf("      ready again on %s with %s after %.2f s; last end: %s\n", now.Status.Host, now.Status.Addresses[0], time.Since(began).Seconds(), ending(now))
	if now.Status.Addresses[0] != was.Status.Addresses[0] {
		return fmt.Errorf("web-3 had %s and has %s", was.Status.Addresses[0], now.Status.Addresses[0])
	}
	return d.c.FetchAll(d.ctx, is, port, "/")
}

func ending(i runtime.Instance) string {
	if t := i.Status.LastTermination; t != nil {
		return t.Reason + ": " + t.Message
	}
	return "not recorded"
}

func (d *demo) killHost() error {
	before, err := d.web()
	if err != nil {
		return err
	}
	victim, on := "", map[string]int{}
	address := map[string]string{}
	for _, i := range before {
		address[i.Name] = i.Status.Addresses[0]
		if on[i.Status.Host]++; victim == "" || on[i.Status.Host] > on[victim] {
			victim = i.Status.Host
		}
	}
	p, err := d.c.FindOne("padis-mesos", " host ", "--name "+victim)
	if err != nil {
		return err
	}
	fmt.Printf("      %s runs %d instances of web; its first process is %d\n", victim, on[victim], p.Pid)
	began := time.Now()
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil {
		return err
	}
	after, err := d.c.WaitInstances(d.ctx, "shop", "web", func(is []runtime.Instance) bool {
		for _, i := range is {
			if !i.Status.Ready || i.Status.Host == victim {
				return false
			}
		}
		return len(is) == len(before)
	})
	if err != nil {
		return err
	}
	fmt.Printf("      all %d ready on the other hosts after %.2f s\n", len(after), time.Since(began).Seconds())
	for _, i := range after {
		if i.Status.Addresses[0] != address[i.Name] {
			return fmt.Errorf("%s had %s and has %s", i.Name, address[i.Name], i.Status.Addresses[0])
		}
	}
	return d.c.FetchAll(d.ctx, after, port, "/")
}

func (d *demo) killScheduler() error {
	before, err := d.web()
	if err != nil {
		return err
	}
	pids := map[string]int{}
	for _, i := range before {
		p, err := d.c.InstanceProcess("shop", i.Name)
		if err != nil {
			return err
		}
		pids[i.Name] = p.Pid
	}
	p, err := d.c.FindOne("padis", " scheduler ")
	if err != nil {
		return err
	}
	began := time.Now()
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil {
		return err
	}
	if err := d.c.FetchAll(d.ctx, before, port, "/"); err != nil {
		return fmt.Errorf("while the scheduler was dead: %w", err)
	}
	after, err := d.web()
	if err != nil {
		return err
	}
	fmt.Printf("      the scheduler (process %d) is back with all %d instances after %.2f s\n", p.Pid, len(after), time.Since(began).Seconds())
	if out, err := d.c.Padis(d.ctx, "scale", "app/web", "-n", "shop", "--replicas=9"); err != nil {
		return err
	} else {
		fmt.Print(indent(out))
	}
	if _, err := d.c.WaitReady(d.ctx, "shop", "web", 9); err != nil {
		return err
	}
	for _, i := range before {
		p, err := d.c.InstanceProcess("shop", i.Name)
		if err != nil {
			return err
		}
		if p.Pid != pids[i.Name] {
			return fmt.Errorf("%s was process %d and is %d: it was restarted", i.Name, pids[i.Name], p.Pid)
		}
	}
	fmt.Println("      all 8 are the processes they were, and new work is taken: web has 9")
	return nil
}

func (d *demo) noDuplicates() error {
	r, err := d.watch.Stop()
	if err != nil {
		return err
	}
	fmt.Printf("      %d rounds of asking for every address, %d answers, %d duplicates\n", r.Rounds, r.Answers, r.Duplicates)
	if r.Duplicates > 0 || r.Answers == 0 {
		return errors.New(r.Text)
	}
	return nil
}
