package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"padis.io/padis/mesos/local/hosts"
)

// Process is a process of the cluster as seen from outside its namespaces.
type Process struct {
	Pid     int
	Parent  int
	Args    []string
	Env     map[string]string
	RSS     int64 // bytes
	CPUTime int64 // clock ticks, user and system
}

// Processes lists all living processes below `padis up`, itself included.
func (c *Cluster) Processes() ([]Process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	in := map[int]bool{c.Pid(): true}
	var out []Process
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if in[p.Parent] && !in[p.Pid] {
				in[p.Pid], grown = true, true
			}
		}
	}
	for _, p := range all {
		if in[p.Pid] {
			out = append(out, p)
		}
	}
	return out, nil
}

// Find returns the processes whose arguments contain all the words.
func (c *Cluster) Find(words ...string) ([]Process, error) {
	ps, err := c.Processes()
	if err != nil {
		return nil, err
	}
	var out []Process
next:
	for _, p := range ps {
		line := " " + strings.Join(p.Args, " ") + " "
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// FindOne is Find for exactly one.
func (c *Cluster) FindOne(words ...string) (Process, error) {
	ps, err := c.Find(words...)
	if err != nil {
		return Process{}, err
	}
	if len(ps) != 1 {
		return Process{}, fmt.Errorf("%d processes match %q, not 1", len(ps), words)
	}
	return ps[0], nil
}

// InstanceProcess returns the first process of an instance: the one whose parent is not of the instance.
func (c *Cluster) InstanceProcess(ns, name string) (Process, error) {
	ps, err := c.Processes()
	if err != nil {
		return Process{}, err
	}
	of := map[int]Process{}
	for _, p := range ps {
		if p.Env["PADIS_NAMESPACE"] == ns && p.Env["PADIS_INSTANCE"] == name {
			of[p.Pid] = p
		}
	}
	for _, p := range of {
		if _, child := of[p.Parent]; !child {
			return p, nil
		}
	}
	return Process{}, fmt.Errorf("no process of instance %s/%s", ns, name)
}

// ExecutorOn returns the executor of an embedded host.
func (c *Cluster) ExecutorOn(host string) (Process, error) {
	spec, ok := hosts.Named(host)
	if !ok {
		return Process{}, fmt.Errorf("%q is no embedded host", host)
	}
	ps, err := c.Processes()
	if err != nil {
		return Process{}, err
	}
	for _, p := range ps {
		// With arguments it is something else: what speaks BGP for it, for one.
		if len(p.Args) == 1 && filepath.Base(p.Args[0]) == "padis-executor" && strings.HasPrefix(p.Env["MESOS_AGENT_ENDPOINT"], spec.Address().Addr().String()+":") {
			return p, nil
		}
	}
	return Process{}, fmt.Errorf("no executor runs on %s", host)
}

func processes() ([]Process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []Process
	for _, d := range dirs {
		if p, ok := process(d); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

// process reads one /proc entry; ok is false for processes that are gone or zombies.
func process(dir string) (Process, bool) {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Process{}, false
	}
	// pid (comm) state ppid ...: comm may hold spaces and brackets.
	end := strings.LastIndexByte(string(stat), ')')
	f := strings.Fields(string(stat)[end+1:])
	if end < 0 || len(f) < 22 || f[0] == "Z" {
		return Process{}, false
	}
	num := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
	p := Process{Parent: int(num(1)), CPUTime: num(11) + num(12), RSS: num(21) * int64(os.Getpagesize()), Env: map[string]string{}}
	p.Pid, _ = strconv.Atoi(filepath.Base(dir))
	if b, err := os.ReadFile(dir + "/cmdline"); err == nil {
		p.Args = strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	}
	if b, err := os.ReadFile(dir + "/environ"); err == nil {
		for _, kv := range strings.Split(string(b), "\x00") {
			if k, v, ok := strings.Cut(kv, "="); ok {
				p.Env[k] = v
			}
		}
	}
	return p, true
}
