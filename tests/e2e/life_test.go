package e2e

import (
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
)

// A changed template replaces instances in place: one at a time, same names, same addresses.
func TestUpdateInPlace(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	must(t, s.apply(c, web, webApp{4, "first"}))
	is, err := cluster.WaitReady(c, s.name, "web", 4)
	must(t, err)
	want := addresses(is)
	old := is[0].Status.Revision
	must(t, s.apply(c, web, webApp{4, "second"}))
	worst := 0
	is, err = cluster.WaitInstances(c, s.name, "web", func(is []runtime.Instance) bool {
		down, done := 0, true
		for _, i := range is {
			if !i.Status.Ready {
				down++
			}
			done = done && i.Status.Ready && i.Status.Revision != old
		}
		worst = max(worst, down)
		return done && len(is) == 4
	})
	must(t, err)
	if worst > 1 {
		t.Errorf("%d instances were down at once", worst)
	}
	for name, address := range addresses(is) {
		if want[name] != address {
			t.Errorf("%s had %s and has %s", name, want[name], address)
		}
	}
	bodies, err := cluster.Fetch(c, is, 8080, "/")
	must(t, err)
	for name, body := range bodies {
		if !strings.Contains(body, "second") {
			t.Errorf("%s answers %q", name, body)
		}
	}
}

// Scaling in releases the highest slots and their addresses, and nothing else.
func TestScaleInReleases(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	must(t, s.apply(c, web, webApp{5, "hello"}))
	is, err := cluster.WaitReady(c, s.name, "web", 5)
	must(t, err)
	want := addresses(is)
	must(t, cluster.Scale(c, s.name, "web", 2))
	is, err = cluster.WaitReady(c, s.name, "web", 2)
	must(t, err)
	for _, name := range []string{"web-0", "web-1"} {
		if got := addresses(is)[name]; got != want[name] {
			t.Errorf("%s had %s and has %s", name, want[name], got)
		}
	}
	all, err := cluster.Addresses(c)
	must(t, err)
	leased := 0
	for _, a := range all {
		if a.Status.Namespace == s.name {
			leased++
		}
	}
	if leased != 2 {
		t.Errorf("%d addresses are leased to %s, not 2", leased, s.name)
	}
}

// What an instance prints can be read through the API, and `why` tells what is the matter.
func TestLogsAndWhy(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	must(t, s.apply(c, `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: talker, namespace: {{.Space.Name}}}
spec:
  template:
    command: [sh, -c, "echo I am $PADIS_INSTANCE at $PADIS_ADDRESS on $(hostname); exec sleep 1000"]
  networks: [{pool: {{.Space.Name}}}]
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: giant, namespace: {{.Space.Name}}}
spec:
  template:
    command: [sleep, "1000"]
    resources: {memory: 1Ti}
`, nil))
	is, err := cluster.WaitReady(c, s.name, "talker", 1)
	must(t, err)
	wantLine := "I am talker-0 at " + is[0].Status.Addresses[0] + " on talker-0"
	for {
		out, err := cluster.Padis(c, "logs", "talker-0", "-n", s.name)
		if err == nil && strings.Contains(out, wantLine) {
			break
		}
		if c.Err() != nil {
			t.Fatalf("logs: %v\n%s", err, out)
		}
	}
	if _, err := cluster.WaitInstances(c, s.name, "giant", func(is []runtime.Instance) bool {
		return len(is) == 1 && is[0].Status.Reason == "InsufficientMemory"
	}); err != nil {
		t.Fatal(err)
	}
	for _, object := range []string{"app/giant", "instance/giant-0"} {
		out, err := cluster.Padis(c, "why", object, "-n", s.name)
		must(t, err)
		for _, word := range []string{"InsufficientMemory", "giant-0"} {
			if !strings.Contains(out, word) {
				t.Errorf("why %s does not say %q:\n%s", object, word, out)
			}
		}
	}
}
