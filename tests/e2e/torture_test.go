package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/tests/harness"
	"padis.io/padis/tests/registry"
)

// born is an App in containers. Each serves its name and a word that it makes up when it starts: another word is another
// start.
const born = `
apiVersion: padis.io/v1alpha1
kind: Registry
metadata: {name: {{.Space.Name}}}
spec: {host: "{{.App.Host}}", plainHTTP: true}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: born, namespace: {{.Space.Name}}}
spec:
  replicas: {{.App.Replicas}}
  template:
    image: {{.App.Host}}/born:1
    command: [sh, -c, "{ hostname; cat /proc/sys/kernel/random/uuid; } >/index.html; exec httpd -f -p 8080 -h /"]
    resources: {cpu: 50m, memory: 32Mi}
    healthChecks:
    - http: {port: 8080, path: /}
      interval: 1s
      timeout: 1s
  networks: [{pool: {{.Space.Name}}}]
`

type bornApp struct {
	Host     string
	Replicas int
}

// Whatever part of the platform beside them is killed, however often, containers run on and answer all the time: kill -9
// at random of executors, containerds and agents, for PADIS_TORTURE_SECONDS.
func TestTorture(t *testing.T) {
	needContainers(t)
	if os.Getenv("PADIS_TORTURE_SECONDS") == "" {
		t.Skip("PADIS_TORTURE_SECONDS says how long; `make test` and `make torture` set it")
	}
	seconds, err := strconv.Atoi(os.Getenv("PADIS_TORTURE_SECONDS"))
	must(t, err)
	duration := time.Duration(seconds) * time.Second
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PADIS_TORTURE_SEED"); s != "" {
		seed, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	t.Logf("PADIS_TORTURE_SEED=%d", seed)
	c, cancel := context.WithTimeout(t.Context(), duration+3*time.Minute)
	defer cancel()

	const replicas = 6
	s := newSpace(t)
	host := startBorn(t, c, s, replicas)
	is, err := cluster.WaitReady(c, s.name, "born", replicas)
	must(t, err)
	words, err := cluster.Fetch(c, is, 8080, "/")
	must(t, err)
	for name, word := range words {
		if !strings.HasPrefix(word, name+"\n") {
			t.Fatalf("%s serves %q", name, word)
		}
	}

	watching, stopWatching := context.WithCancel(c)
	defer stopWatching()
	watched := make(chan []string, 1)
	go func() { watched <- watchWords(watching, is, words) }()
	killed := killAtRandom(t, c, rand.New(rand.NewPCG(seed, 0)), duration)
	t.Logf("killed %v", killed)

	// The platform finds itself again, and knows what is true.
	after, err := cluster.WaitReady(c, s.name, "born", replicas)
	must(t, err)
	stopWatching()
	for _, complaint := range <-watched {
		t.Error(complaint)
	}
	if before, now := addresses(is), addresses(after); !maps.Equal(before, now) {
		t.Errorf("addresses were %v and are %v", before, now)
	}
	for _, i := range after {
		if i.Status.Restarts != 0 {
			t.Errorf("%s is said to have been restarted %d times", i.Name, i.Status.Restarts)
		}
	}
	// It takes new work on every host.
	must(t, s.apply(c, born, bornApp{host, 2 * replicas}))
	after, err = cluster.WaitReady(c, s.name, "born", 2*replicas)
	must(t, err)
	must(t, cluster.FetchAll(c, after, 8080, "/"))
}

// startBorn brings the image to a registry of the test's own and declares the App.
func startBorn(t *testing.T, c context.Context, s space, replicas int) (host string) {
	t.Helper()
	r, err := cluster.OpenRegistry(registry.Options{}, 0)
	must(t, err)
	t.Cleanup(r.Stop)
	_, err = r.PushBusybox("born:1", registry.Config{})
	must(t, err)
	must(t, s.apply(c, born, bornApp{r.Host(), replicas}))
	t.Cleanup(func() {
		c, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := cluster.Padis(c, "delete", "registry.padis.io", s.name); err != nil {
			t.Errorf("clean-up: %v\n%s", err, out)
		}
	})
	return r.Host()
}

// watchWords asks all instances again and again until ctx ends, and returns what was not as before.
func watchWords(ctx context.Context, is []runtime.Instance, want map[string]string) (complaints []string) {
	const enough = 20
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for rounds := 1; ; rounds++ {
		got, err := cluster.Fetch(ctx, is, 8080, "/")
		switch {
		case ctx.Err() != nil:
			return complaints
		case err != nil:
			complaints = append(complaints, fmt.Sprintf("round %d: %v", rounds, err))
		default:
			for name, word := range want {
				if got[name] != word {
					complaints = append(complaints, fmt.Sprintf("round %d: %s said %q and says %q", rounds, name, word, got[name]))
				}
			}
		}
		if len(complaints) >= enough {
			return append(complaints, "and so on")
		}
		select {
		case <-ctx.Done():
			return complaints
		case <-tick.C:
		}
	}
}

// victims are what is killed, by the name of the program.
var victims = map[string]func(harness.Process) bool{
	"executor": func(p harness.Process) bool {
		return filepath.Base(p.Args[0]) == "padis-executor" && p.Env["PADIS_INSTANCE"] == ""
	},
	"containerd": func(p harness.Process) bool { return filepath.Base(p.Args[0]) == "containerd" },
	"agent": func(p harness.Process) bool {
		return filepath.Base(p.Args[0]) == "padis-mesos" && len(p.Args) > 1 && p.Args[1] == "agent"
	},
}

// killAtRandom kills -9, now one after the other in peace, now several at once, and counts.
func killAtRandom(t *testing.T, ctx context.Context, r *rand.Rand, duration time.Duration) map[string]int {
	t.Helper()
	killed := map[string]int{}
	kinds := []string{"executor", "containerd", "agent"}
	for end := time.After(duration); ; {
		kind := kinds[r.IntN(len(kinds))]
		all, err := cluster.Processes()
		must(t, err)
		var found []harness.Process
		for _, p := range all {
			if len(p.Args) > 0 && victims[kind](p) {
				found = append(found, p)
			}
		}
		if len(found) > 0 {
			// It may have ended by itself meanwhile.
			if syscall.Kill(found[r.IntN(len(found))].Pid, syscall.SIGKILL) == nil {
				killed[kind]++
			}
		}
		select {
		case <-time.After(time.Duration(r.IntN(3000)) * time.Millisecond):
		case <-end:
			return killed
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
}
