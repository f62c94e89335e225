package e2e

import (
	"fmt"
	"maps"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/tests/registry"
)

// A host whose agent and executor are gone, and nobody starts them again, cannot be asked anything. Its containers run on.
// The kernel takes the addresses away that were lent for a time; only then they serve elsewhere, never in two places. What
// may not be replaced stays as it is.
func TestNetworkFencing(t *testing.T) {
	s := newNetSpace(t)
	r := images(t, ctx(t), s.space, registry.Options{})
	_, err := r.PushBusybox("page:1", version("one"))
	must(t, err)
	image := r.Ref("page:1")
	s.must(s.pool("", "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s.1", s.prefix, s.prefix)),
		s.pool("6", "e2e", fmt.Sprintf("cidr: 'fd00:70:%d::/64'", s.n)),
		s.container(image, "lent", 3, "  unreachable: {replace: Lease, lease: 10s}\n", "", "6"),
		s.container(image, "kept", 3, spread+"  unreachable: {replace: Never}\n", ""))
	lent, kept := s.ready("lent", 3), s.ready("kept", 3)
	had := addresses(lent)
	watch, err := cluster.WatchARP(ctx(t), t.TempDir(), s.prefix+".2-"+s.prefix+".20")
	must(t, err)

	// Whoever would start them again stands still.
	victim := lent[0].Status.Host
	host, err := cluster.FindOne("padis-mesos", " host ", "--name "+victim)
	must(t, err)
	must(t, syscall.Kill(host.Pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(host.Pid, syscall.SIGCONT) })
	agent, err := cluster.FindOne("padis-mesos", " agent ", "--hostname "+victim)
	must(t, err)
	executor, err := cluster.ExecutorOn(victim)
	must(t, err)
	pids := incarnations(t, s.name, append(on(victim, lent), on(victim, kept)...))
	for _, pid := range []int{agent.Pid, executor.Pid} {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	c := longer(t)
	for _, i := range on(victim, lent) {
		until(t, c, "the kernel takes the addresses of "+i.Name, func() (bool, string) {
			out, err := inside(pids[i.Name], "ip", "addr", "show", "dev", "eth0")
			gone := true
			for _, a := range i.Status.Addresses {
				gone = gone && !strings.Contains(out, " "+a+"/")
			}
			return err == nil && gone, out
		})
	}
	lent, err = cluster.WaitInstances(c, s.name, "lent", func(is []runtime.Instance) bool {
		for _, i := range is {
			if !i.Status.Ready || i.Status.Host == victim {
				return false
			}
		}
		return len(is) == 3
	})
	must(t, err)
	if now := addresses(lent); !maps.Equal(had, now) {
		t.Errorf("addresses were %v and are %v", had, now)
	}
	must(t, cluster.FetchAll(c, lent, 8080, "/"))
	for _, i := range on(victim, kept) {
		told(t, c, []string{"AgentUnreachable", "its App says never"}, "why", "instance/"+i.Name, "-n", s.name)
		// Nobody but the control plane misses it.
		must(t, cluster.FetchAll(c, []runtime.Instance{i}, 8080, "/"))
	}

	// The host is healed: of what runs elsewhere nothing is left there, and what was kept goes on.
	must(t, syscall.Kill(host.Pid, syscall.SIGCONT))
	c = longer(t)
	for name, pid := range pids {
		if strings.HasPrefix(name, "lent-") {
			until(t, c, fmt.Sprintf("the ghost of %s ends", name), func() (bool, string) {
				return syscall.Kill(pid, 0) == syscall.ESRCH, fmt.Sprintf("process %d is there", pid)
			})
		}
	}
	after, err := cluster.WaitReady(c, s.name, "kept", 3)
	must(t, err)
	for _, i := range on(victim, after) {
		if p, err := cluster.InstanceProcess(s.name, i.Name); err != nil || p.Pid != pids[i.Name] || i.Status.Restarts != 0 {
			t.Errorf("%s was started anew: process %d, then %d, %d restarts, %v", i.Name, pids[i.Name], p.Pid, i.Status.Restarts, err)
		}
	}
	lent, err = cluster.WaitReady(c, s.name, "lent", 3)
	must(t, err)
	must(t, cluster.FetchAll(c, append(lent, after...), 8080, "/"))
	seen, err := watch.Stop()
	must(t, err)
	if seen.Duplicates > 0 || seen.Answers == 0 {
		t.Errorf("addresses on the wire: %s", seen.Text)
	}
}

// on are the instances of a host.
func on(host string, is []runtime.Instance) []runtime.Instance {
	var out []runtime.Instance
	for _, i := range is {
		if i.Status.Host == host {
			out = append(out, i)
		}
	}
	return out
}

// inside runs a command of this machine in the network of a process.
func inside(pid int, args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(pid), "-n"}, args...)...).CombinedOutput()
	return string(out), err
}
