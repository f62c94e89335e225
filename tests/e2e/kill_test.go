package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/tests/harness"
)

// incarnations maps instances to their first processes: a changed process is a restart.
func incarnations(t *testing.T, ns string, is []runtime.Instance) map[string]int {
	t.Helper()
	pids := map[string]int{}
	for _, i := range is {
		p, err := cluster.InstanceProcess(ns, i.Name)
		must(t, err)
		pids[i.Name] = p.Pid
	}
	return pids
}

func addresses(is []runtime.Instance) map[string]string {
	m := map[string]string{}
	for _, i := range is {
		m[i.Name] = strings.Join(i.Status.Addresses, ",")
	}
	return m
}

// After kill -9 of any one process the platform converges without help, keeps every address, shows no address twice,
// and restarts an instance only if the instance or its executor was what died.
func TestKillAnyProcess(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	must(t, s.apply(c, web, webApp{6, "hello"}))
	is, err := cluster.WaitReady(c, s.name, "web", 6)
	must(t, err)
	want := addresses(is)
	for _, k := range []struct {
		name     string
		restarts bool
		find     func() (harness.Process, error)
	}{
		{"scheduler", false, func() (harness.Process, error) { return cluster.FindOne("padis", " scheduler ") }},
		{"mesos master", false, func() (harness.Process, error) { return cluster.FindOne("padis-mesos", " master ") }},
		{"mesos agent", false, func() (harness.Process, error) {
			return cluster.FindOne("padis-mesos", " agent ", "--hostname "+is[0].Status.Host)
		}},
		{"instance", true, func() (harness.Process, error) { return cluster.InstanceProcess(s.name, "web-0") }},
		{"executor", true, func() (harness.Process, error) { return executorOf(s.name, "web-0") }},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := ctx(t)
			watch, err := cluster.WatchARP(c, t.TempDir(), s.prefix+".10-"+s.prefix+".40")
			must(t, err)
			is, err := cluster.WaitReady(c, s.name, "web", 6)
			must(t, err)
			before := incarnations(t, s.name, is)
			victim, err := k.find()
			must(t, err)
			must(t, syscall.Kill(victim.Pid, syscall.SIGKILL))
			// New work needs every part of the platform: once it is done, the platform is whole again.
			replicas := 7
			for {
				if err = cluster.Scale(c, s.name, "web", replicas); err == nil || c.Err() != nil {
					break
				}
			}
			must(t, err)
			is, err = cluster.WaitInstances(c, s.name, "web", func(is []runtime.Instance) bool {
				restarted := !k.restarts
				for _, i := range is {
					if !i.Status.Ready {
						return false
					}
					restarted = restarted || i.Name == "web-0" && i.Status.Restarts > 0 && newProcess(s.name, i.Name, before[i.Name])
				}
				return len(is) == replicas && restarted
			})
			must(t, err)
			must(t, cluster.FetchAll(c, is, 8080, "/"))
			for name, address := range addresses(is) {
				if want[name] != "" && want[name] != address {
					t.Errorf("%s had %s and has %s", name, want[name], address)
				}
			}
			after := incarnations(t, s.name, is)
			for name, pid := range before {
				if !k.restarts && after[name] != pid {
					t.Errorf("%s was restarted (process %d, then %d)", name, pid, after[name])
				}
			}
			must(t, cluster.Scale(c, s.name, "web", 6))
			_, err = cluster.WaitReady(c, s.name, "web", 6)
			must(t, err)
			seen, err := watch.Stop()
			must(t, err)
			if seen.Duplicates > 0 || seen.Answers == 0 {
				t.Errorf("addresses on the wire: %s", seen.Text)
			}
		})
	}
}

func newProcess(ns, name string, old int) bool {
	p, err := cluster.InstanceProcess(ns, name)
	return err == nil && p.Pid != old
}

// executorOf finds the executor that an instance's process descends from.
func executorOf(ns, name string) (harness.Process, error) {
	p, err := cluster.InstanceProcess(ns, name)
	if err != nil {
		return p, err
	}
	ps, err := cluster.Processes()
	if err != nil {
		return p, err
	}
	byPid := map[int]harness.Process{}
	for _, q := range ps {
		byPid[q.Pid] = q
	}
	for q, ok := byPid[p.Parent]; ok; q, ok = byPid[q.Parent] {
		if strings.HasSuffix(q.Args[0], "padis-executor") {
			return q, nil
		}
	}
	return p, fmt.Errorf("no executor above process %d of %s/%s", p.Pid, ns, name)
}

// A host that loses its power comes back later; meanwhile its instances run elsewhere with their addresses, and are
// not doubled when it returns.
func TestHostPowerLoss(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	must(t, s.apply(c, web, webApp{6, "hello"}))
	is, err := cluster.WaitReady(c, s.name, "web", 6)
	must(t, err)
	want, victim := addresses(is), is[0].Status.Host
	watch, err := cluster.WatchARP(c, t.TempDir(), s.prefix+".10-"+s.prefix+".40")
	must(t, err)
	p, err := cluster.FindOne("padis-mesos", " host ", "--name "+victim)
	must(t, err)
	must(t, syscall.Kill(p.Pid, syscall.SIGKILL))
	is, err = cluster.WaitInstances(c, s.name, "web", func(is []runtime.Instance) bool {
		for _, i := range is {
			if !i.Status.Ready || i.Status.Host == victim {
				return false
			}
		}
		return len(is) == 6
	})
	must(t, err)
	must(t, cluster.FetchAll(c, is, 8080, "/"))
	for name, address := range addresses(is) {
		if want[name] != address {
			t.Errorf("%s had %s and has %s", name, want[name], address)
		}
	}
	// The host returns and takes new work.
	for {
		agents, err := cluster.Agents(c)
		must(t, err)
		active := 0
		for _, a := range agents {
			if a.Status.State == "Active" {
				active++
			}
		}
		if active == 3 {
			break
		}
		must(t, c.Err())
	}
	must(t, cluster.Scale(c, s.name, "web", 12))
	is, err = cluster.WaitReady(c, s.name, "web", 12)
	must(t, err)
	must(t, cluster.FetchAll(c, is, 8080, "/"))
	seen, err := watch.Stop()
	must(t, err)
	if seen.Duplicates > 0 || seen.Answers == 0 {
		t.Errorf("addresses on the wire: %s", seen.Text)
	}
}
