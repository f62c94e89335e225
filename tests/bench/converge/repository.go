package main

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// perDirectory is how many manifests are in one directory.
const perDirectory = 250

const appManifest = `apiVersion: padis.io/v1alpha1
kind: App
metadata:
  name: %[1]s
  labels: {team: %[2]s, tier: web}
spec:
  replicas: 2
  template:
    command: [shop, -name, %[1]s]
    env:
    - {name: REGION, value: north}
    - {name: LEVEL, value: info}
    ports:
    - {name: http, port: 8080}
    healthChecks:
    - http: {port: 8080, path: /healthz}
`

const configManifest = `apiVersion: v1
kind: ConfigMap
metadata:
  name: %[1]s
  labels: {team: %[2]s}
data:
  name: %[1]s
  settings.ini: |
    [server]
    listen = 0.0.0.0:8080
    threads = 4
    [log]
    level = info
`

// repository is one of which directory i has the manifests of 250 objects.
type repository struct{ dir, prefix string }

// write makes a repository of n manifests.
func write(ctx context.Context, dir, prefix string, isApp func(int) bool, n int) (*repository, error) {
	r := &repository{dir, prefix}
	for i := range n {
		text := configManifest
		if isApp(i) {
			text = appManifest
		}
		path := r.path(i)
		if i%perDirectory == 0 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return nil, err
			}
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, text, r.name(i), prefix), 0o644); err != nil {
			return nil, err
		}
	}
	// What git tidies up by itself would move references, and take processor time from what is measured.
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"config", "gc.auto", "0"}, {"config", "maintenance.auto", "false"}} {
		if err := git(ctx, dir, args...); err != nil {
			return nil, err
		}
	}
	_, err := r.commit(ctx)
	return r, err
}

func (r *repository) name(i int) string { return fmt.Sprintf("%s-%05d", r.prefix, i) }

func (r *repository) path(i int) string {
	return filepath.Join(r.dir, fmt.Sprintf("%s-%03d", r.prefix, i/perDirectory), r.name(i)+".yaml")
}

// commit commits all that is in the directory, and gives the commit.
func (r *repository) commit(ctx context.Context) (string, error) {
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "-m", "all of it"}} {
		if err := git(ctx, r.dir, args...); err != nil {
			return "", err
		}
	}
	return r.head()
}

// head is the last commit.
func (r *repository) head() (string, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, ".git", "refs", "heads", "main"))
	return strings.TrimSpace(string(b)), err
}

// git runs git as nobody in particular, whatever is configured on the machine.
func git(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=bench@example.com",
		"GIT_COMMITTER_NAME=bench", "GIT_COMMITTER_EMAIL=bench@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// serveGit serves the repositories below root by git's own server over HTTP, until the returned function is called.
func serveGit(ctx context.Context, root string) (url string, stop func(), err error) {
	exe, err := exec.CommandContext(ctx, "git", "--exec-path").Output()
	if err != nil {
		return "", nil, fmt.Errorf("git --exec-path: %w: install git", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(exe)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}}
	go func() { _ = s.Serve(l) }()
	return "http://" + l.Addr().String(), func() { _ = s.Close() }, nil
}

// cloned gets a repository through HTTP and reads its objects.
func cloned(ctx context.Context, url, dir string) ([]*unstructured.Unstructured, error) {
	if err := git(ctx, ".", "clone", "-q", "--depth=1", url, dir); err != nil {
		return nil, err
	}
	return read(dir)
}

func read(dir string) (out []*unstructured.Unstructured, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(b, &o.Object); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, o)
		return nil
	})
	return out, err
}
