// Package e2e drives a whole Padis through its command line and stock kubectl: real processes, real network stacks.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"padis.io/padis/tests/harness"
)

// cluster is shared by the tests; each uses a namespace and a pool of its own.
var cluster *harness.Cluster

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "padis-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	before, err := harness.Footprint()
	if err != nil {
		return 0, err
	}
	if cluster, err = harness.Start(context.Background(), harness.Options{Dir: dir, Hosts: 3, Out: os.Stderr, Args: []string{"--host-restart-delay=5s", "--loopback-receivers"}}); err != nil {
		return 0, err
	}
	code = m.Run()
	if code != 0 {
		fmt.Fprintf(os.Stderr, "--- scheduler log\n%s\n", cluster.LogTail("scheduler", 60))
	}
	cluster.Stop()
	after, err := harness.Footprint()
	if err != nil {
		return code, err
	}
	return code, before.Compare(after)
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return c
}

var network = sync.OnceValue(func() error {
	_, err := apply(context.Background(), `
apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: e2e}
spec: {bridge: padis0, parent: eth1}
`)
	return err
})

// apply sends a manifest through `padis apply`.
func apply(ctx context.Context, manifest string) (string, error) {
	return applyWith(ctx, "padis", manifest)
}

// applyWith sends a manifest through `padis apply` or `kubectl apply`.
func applyWith(ctx context.Context, program, manifest string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(cluster.Bin, program), "apply", "-f", "-")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(), "NO_COLOR=1")
	cmd.Stdin = strings.NewReader(manifest)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s apply: %w\n%s", program, err, out)
	}
	return string(out), nil
}

var subnet struct {
	sync.Mutex
	next int
}

// space is a namespace with a pool of its own.
type space struct {
	name   string // of the namespace and of the pool
	prefix string // first three bytes of the addresses
}

func newSpace(t *testing.T) space {
	t.Helper()
	if err := network(); err != nil {
		t.Fatal(err)
	}
	subnet.Lock()
	subnet.next++
	n := subnet.next
	subnet.Unlock()
	s := space{name: fmt.Sprintf("e2e-%d", n), prefix: fmt.Sprintf("10.60.%d", n)}
	must(t, s.apply(ctx(t), `
apiVersion: v1
kind: Namespace
metadata: {name: {{.Space.Name}}}
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: {{.Space.Name}}}
spec: {network: e2e, cidr: {{.Space.Prefix}}.0/24, gateway: {{.Space.Prefix}}.1, ranges: [{from: {{.Space.Prefix}}.10, to: {{.Space.Prefix}}.60}]}
`, nil))
	t.Cleanup(func() {
		c, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := cluster.Padis(c, "delete", "namespace", s.name, "--timeout=50s"); err != nil {
			t.Errorf("clean-up: %v\n%s", err, out)
		}
		if out, err := cluster.Padis(c, "delete", "ippool", s.name, "--timeout=20s"); err != nil {
			t.Errorf("clean-up: %v\n%s", err, out)
		}
	})
	return s
}

// values are what manifests of the tests are filled with.
type values struct {
	Space struct{ Name, Prefix string }
	App   any
}

func (s space) render(manifest string, app any) (string, error) {
	t, err := template.New("").Parse(manifest)
	if err != nil {
		return "", err
	}
	v := values{App: app}
	v.Space.Name, v.Space.Prefix = s.name, s.prefix
	var b bytes.Buffer
	err = t.Execute(&b, v)
	return b.String(), err
}

func (s space) apply(ctx context.Context, manifest string, app any) error {
	text, err := s.render(manifest, app)
	if err != nil {
		return err
	}
	_, err = apply(ctx, text)
	return err
}

// web is a manifest of an App that serves HTTP.
const web = `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: web, namespace: {{.Space.Name}}}
spec:
  replicas: {{.App.Replicas}}
  template:
    command: [shop, -name, "{{.App.Name}}"]
    resources: {cpu: 20m, memory: 16Mi}
    ports: [{name: http, port: 8080}]
    healthChecks:
    - http: {port: 8080, path: /healthz}
      interval: 1s
      timeout: 1s
  networks: [{pool: {{.Space.Name}}}]
  restart: {initialDelay: 100ms}
`

type webApp struct {
	Replicas int
	// Name of the shop, which it answers with.
	Name string
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
