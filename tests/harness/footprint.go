package harness

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Traces are what a cluster could leave behind on the machine.
type Traces struct {
	Links     []string
	Mounts    []string
	Processes []string
	// Cgroups are control groups of containers.
	Cgroups []string
}

// programs are those that stay when something goes wrong.
var programs = []string{"padis", "padis-mesos", "padis-executor", "containerd", "containerd-shim-runc-v2"}

// Footprint takes stock of the machine: links, mounts, processes and control groups of ours.
func Footprint() (Traces, error) {
	var t Traces
	ifs, err := net.Interfaces()
	if err != nil {
		return t, err
	}
	for _, i := range ifs {
		t.Links = append(t.Links, i.Name)
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return t, err
	}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if f := strings.Fields(line); len(f) > 4 {
			t.Mounts = append(t.Mounts, f[4])
		}
	}
	for _, hierarchy := range []string{"", "*/"} {
		groups, err := filepath.Glob("/sys/fs/cgroup/" + hierarchy + "padis-" + strings.Repeat("[0-9a-f]", 16))
		if err != nil {
			return t, err
		}
		t.Cgroups = append(t.Cgroups, groups...)
	}
	ps, err := processes()
	if err != nil {
		return t, err
	}
	for _, p := range ps {
		if len(p.Args) > 0 && (slices.Contains(programs, filepath.Base(p.Args[0])) || p.Env["PADIS_INSTANCE"] != "") {
			t.Processes = append(t.Processes, fmt.Sprintf("%d %s", p.Pid, strings.Join(p.Args, " ")))
		}
	}
	return t, nil
}

// Compare tells what is in after that was not in t. The kernel takes namespaces down in the background, so it looks
// again for a few seconds before it complains.
func (t Traces) Compare(after Traces) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		err := t.compare(after)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
		now, ferr := Footprint()
		if ferr != nil {
			return ferr
		}
		after = now
	}
}

func (t Traces) compare(after Traces) error {
	for _, k := range []struct {
		what          string
		before, after []string
	}{{"link", t.Links, after.Links}, {"mount", t.Mounts, after.Mounts}, {"process", t.Processes, after.Processes}, {"control group", t.Cgroups, after.Cgroups}} {
		for _, a := range k.after {
			if !slices.Contains(k.before, a) {
				return fmt.Errorf("left behind: %s %s", k.what, a)
			}
		}
	}
	return nil
}
