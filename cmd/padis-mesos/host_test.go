package main

import (
	"slices"
	"strings"
	"testing"
)

func TestHostFlags(t *testing.T) {
	t.Parallel()
	good := []string{
		"--name", "host-1", "--ip", "172.31.0.11", "--master", "http://172.31.0.1:5050", "--work-dir", "/d/hosts/host-1/mesos",
		"--resources", "cpus:4", "--attributes", "", "--keep", "/a", "--keep", "/b", "--state", "/s",
		"--no-containers", "no root",
	}
	f, err := parseHostFlags(good)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.keep, []string{"/a", "/b"}) {
		t.Errorf("keep %v", f.keep)
	}
	want := "agent --master http://172.31.0.1:5050 --work-dir /d/hosts/host-1/mesos --hostname host-1 --ip 172.31.0.11 --port 5051 --attributes  --resources cpus:4 --boot-id B --executor-environment-variables {\"PADIS_NO_CONTAINERS\":\"no root\",\"PADIS_STATE_DIR\":\"/s\",\"PATH\":\"/p\"}"
	if got := strings.Join(f.agentArguments("B", "/p"), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if f.containers() != nil {
		t.Error("containers without containerd")
	}
	f, err = parseHostFlags(append(slices.Clone(good), "--containerd", "/bin/c", "--containerd-root", "/r", "--cgroup-parent", "/g/host-1", "--logs", "/l"))
	if err != nil {
		t.Fatal(err)
	}
	env := f.executorEnvironment("/p")
	if _, refused := env["PADIS_NO_CONTAINERS"]; refused || env["PADIS_CGROUP_PARENT"] != "/g/host-1" || env["PADIS_CONTAINERD_ADDRESS"] != "/run/containerd/containerd.sock" {
		t.Errorf("with containerd executors are told %v", env)
	}
	if c := f.containers(); c.Program != "/bin/c" || c.Root != "/r" || c.CgroupParent != "/g/host-1" {
		t.Errorf("containerd is %+v", c)
	}
	for _, bad := range [][]string{
		nil,
		good[2:],
		append(slices.Clone(good), "more"),
		append(slices.Clone(good), "--ip", "here"),
		append(slices.Clone(good), "--link-fd", "2"),
		append(slices.Clone(good), "--nonsense"),
		append(slices.Clone(good), "--containerd", "/bin/c"),
	} {
		if _, err := parseHostFlags(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
