package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"padis.io/padis/tests/registry"
)

// talker says a numbered line each tenth of a second and serves what is in /tmp.
const talker = `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: talker, namespace: {{.Space.Name}}}
spec:
  replicas: 2
  template:
    image: {{.App}}
    command: [sh, -c, "hostname >/tmp/index.html; httpd -p 8080 -h /tmp; n=0; while :; do n=$((n+1)); echo line $n of $(hostname); sleep 0.1; done"]
    resources: {cpu: 50m, memory: 32Mi}
    healthChecks: [{http: {port: 8080, path: /}, interval: 1s, timeout: 1s}]
  networks: [{pool: {{.Space.Name}}}]
`

// padis is a run of the command line that the test feeds and hears.
func padis(c context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c, filepath.Join(cluster.Bin, "padis"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(), "NO_COLOR=1")
	return cmd
}

// People reach into containers through nothing but the API, and what they do is written down.
func TestReachingIntoContainers(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	r := images(t, c, s, registry.Options{})
	_, err := r.PushBusybox("talker:1", registry.Config{})
	must(t, err)
	must(t, s.apply(c, `
apiVersion: padis.io/v1alpha1
kind: Tenant
metadata: {name: {{.Space.Name}}}
spec: {namespaces: [{{.Space.Name}}], recordExec: true}
`, nil))
	t.Cleanup(func() { _, _ = cluster.Padis(context.Background(), "delete", "tenant", s.name) })
	must(t, s.apply(c, talker, r.Ref("talker:1")))
	_, err = cluster.WaitReady(c, s.name, "talker", 2)
	must(t, err)

	t.Run("exec", func(t *testing.T) {
		cmd := padis(c, "exec", "-i", "-n", s.name, "talker-0", "--", "sh", "-c", "cat; hostname; echo bad >&2; exit 7")
		cmd.Stdin = strings.NewReader("typed\n")
		var out, bad bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &bad
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != 7 || out.String() != "typed\ntalker-0\n" || !strings.Contains(bad.String(), "bad\n") {
			t.Errorf("%v: %q, %q", err, out.String(), bad.String())
		}
		if !strings.Contains(bad.String(), "recorded") {
			t.Errorf("nobody said that the session is recorded: %q", bad.String())
		}
	})
	t.Run("terminal", func(t *testing.T) {
		cmd := padis(c, "exec", "-it", "-n", s.name, "talker-0", "--", "sh", "-c", "stty size; exit 3")
		terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
		must(t, err)
		out, _ := io.ReadAll(terminal) // EIO at its end
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "33 77") {
			t.Errorf("%d: %q", cmd.ProcessState.ExitCode(), out)
		}
	})
	t.Run("cp", func(t *testing.T) {
		dir := t.TempDir()
		there, back := filepath.Join(dir, "there"), filepath.Join(dir, "back")
		content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		must(t, os.WriteFile(there, content, 0o600))
		_, err := cluster.Padis(c, "cp", "-n", s.name, there, "talker-1:/tmp/copied")
		must(t, err)
		_, err = cluster.Padis(c, "cp", "-n", s.name, "talker-1:/tmp/copied", back)
		must(t, err)
		got, err := os.ReadFile(back)
		must(t, err)
		if !bytes.Equal(got, content) {
			t.Errorf("%d bytes came back of %d", len(got), len(content))
		}
	})
	t.Run("port-forward", func(t *testing.T) {
		c, cancel := context.WithCancel(c)
		defer cancel()
		port := loopbackPort(t)
		cmd := padis(c, "port-forward", "-n", s.name, "talker-1", fmt.Sprintf("%d:8080", port))
		must(t, cmd.Start())
		defer func() { cancel(); _ = cmd.Wait() }()
		until(t, c, "the page comes through", func() (bool, string) {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
			if err != nil {
				return false, err.Error()
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return err == nil && string(body) == "talker-1\n", string(body)
		})
	})
	t.Run("logs", func(t *testing.T) {
		c, cancel := context.WithCancel(c)
		defer cancel()
		cmd := padis(c, "logs", "-f", "--tail", "1", "-n", s.name, "app/talker")
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		defer func() { cancel(); _ = cmd.Wait() }()
		follows(t, out, []string{"of talker-0", "of talker-1"}, 10)

		first, err := cluster.Padis(c, "logs", "-n", s.name, "talker-0")
		must(t, err)
		if !strings.HasPrefix(first, "line 1 of talker-0\n") {
			t.Errorf("the log does not begin with the first line: %.60q", first)
		}
		all, err := cluster.Padis(c, "logs", "-n", s.name, "--all-instances", "--tail", "1", "talker-0")
		must(t, err)
		if !strings.Contains(all, "of talker-0") || !strings.Contains(all, "of talker-1") {
			t.Errorf("not of all instances: %q", all)
		}
		var recent string
		until(t, c, "the first lines are older than a second", func() (bool, string) {
			recent, err = cluster.Padis(c, "logs", "-n", s.name, "--since", "1s", "talker-0")
			must(t, err)
			return !strings.Contains(recent, "line 1 of"), recent
		})
		if !strings.Contains(recent, "of talker-0") {
			t.Errorf("nothing was said of late: %q", recent)
		}
	})
	t.Run("top", func(t *testing.T) {
		until(t, c, "both use something", func() (bool, string) {
			out, err := cluster.Padis(c, "top", "instances", "-n", s.name)
			must(t, err)
			return strings.Contains(out, "talker-0") && strings.Contains(out, "talker-1") && strings.Contains(out, "Mi"), out
		})
		out, err := cluster.Kubectl(c, "get", "usages", "-n", s.name)
		must(t, err)
		if !strings.Contains(out, "talker-1") {
			t.Error(out)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		i, err := cluster.Instance(c, s.name, "talker-0")
		must(t, err)
		out, err := cluster.On(c, i.Status.Host, "curl", "-sS", "--fail", "--noproxy", "*", "http://127.0.0.1:9465/metrics")
		must(t, err)
		for _, want := range []string{"padis_executor_build_info", `padis_instance_memory_working_set_bytes{`, `instance="talker-0"`} {
			if !strings.Contains(out, want) {
				t.Errorf("no %s in the metrics:\n%s", want, out)
			}
		}
	})
	t.Run("written down", func(t *testing.T) {
		b, err := os.ReadFile(filepath.Join(cluster.Dir, "audit.log"))
		must(t, err)
		verbs := map[string]bool{}
		for line := range bytes.Lines(b) {
			var e struct{ User, Verb, Namespace, Instance string }
			must(t, json.Unmarshal(line, &e))
			if e.Namespace == s.name && e.User == "padis-admin" {
				verbs[e.Verb] = true
			}
		}
		for _, verb := range []string{"exec", "cp", "portforward", "log"} {
			if !verbs[verb] {
				t.Errorf("no %s in the audit log: %v", verb, verbs)
			}
		}
		casts, err := filepath.Glob(filepath.Join(cluster.Dir, "recordings", s.name, "talker-0-*.cast"))
		must(t, err)
		recorded := false
		for _, cast := range casts {
			b, err := os.ReadFile(cast)
			must(t, err)
			recorded = recorded || strings.HasPrefix(string(b), `{"version":2`) && strings.Contains(string(b), "33 77")
		}
		if !recorded {
			t.Errorf("none of %v shows the session at the terminal", casts)
		}
	})
}

// follows reads until each word was in so many lines.
func follows(t *testing.T, r io.Reader, words []string, times int) {
	t.Helper()
	lines := make(chan string)
	go func() {
		defer close(lines)
		var text strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			text.Write(buf[:n])
			for {
				line, rest, ok := strings.Cut(text.String(), "\n")
				if !ok {
					break
				}
				text.Reset()
				text.WriteString(rest)
				select {
				case lines <- line:
				case <-t.Context().Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	seen := map[string]int{}
	late := time.After(30 * time.Second)
	for {
		enough := true
		for _, w := range words {
			enough = enough && seen[w] >= times
		}
		if enough {
			return
		}
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the log ended after %v", seen)
			}
			for _, w := range words {
				if strings.Contains(line, w) {
					seen[w]++
				}
			}
		case <-late:
			t.Fatalf("only %v was seen", seen)
		}
	}
}
