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
		"--resources", "cpus:4", "--attributes", "", "--keep", "/a", "--keep", "/b",
	}
	f, err := parseHostFlags(good)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.keep, []string{"/a", "/b"}) {
		t.Errorf("keep %v", f.keep)
	}
	want := "agent --master http://172.31.0.1:5050 --work-dir /d/hosts/host-1/mesos --hostname host-1 --ip 172.31.0.11 --port 5051 --attributes  --resources cpus:4 --boot-id B --executor-environment-variables {\"PATH\": \"/p\"}"
	if got := strings.Join(f.agentArguments("B", "/p"), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range [][]string{
		nil,
		good[2:],
		append(slices.Clone(good), "more"),
		append(slices.Clone(good), "--ip", "here"),
		append(slices.Clone(good), "--link-fd", "2"),
		append(slices.Clone(good), "--nonsense"),
	} {
		if _, err := parseHostFlags(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
