package main

import (
	"context"
	"errors"
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

// perDirectory is how many manifests are in one directory, and objects in one namespace.
const perDirectory = 250

const appManifest = `apiVersion: padis.io/v1alpha1
kind: App
metadata:
  name: %[1]s
  namespace: %[2]s
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
  namespace: %[2]s
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

// write makes a repository in which directory i has the manifests of one namespace.
func write(ctx context.Context, dir, prefix string, isApp func(int) bool, n int) error {
	for i := range n {
		namespace, name := fmt.Sprintf("%s-%03d", prefix, i/perDirectory), fmt.Sprintf("%s-%05d", prefix, i)
		text := configManifest
		if isApp(i) {
			text = appManifest
		}
		path := filepath.Join(dir, namespace, name+".yaml")
		if i%perDirectory == 0 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, text, name, namespace), 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "all of it"}} {
		if err := git(ctx, dir, args...); err != nil {
			return err
		}
	}
	return nil
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

// cloned makes a repository, gets it through HTTP and reads its objects.
func cloned(ctx context.Context, dir, prefix string, isApp func(int) bool, n int) ([]*unstructured.Unstructured, error) {
	if err := os.MkdirAll(filepath.Join(dir, "repository"), 0o755); err != nil {
		return nil, err
	}
	if err := write(ctx, filepath.Join(dir, "repository"), prefix, isApp, n); err != nil {
		return nil, err
	}
	url, stop, err := serveGit(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer stop()
	began := time.Now()
	if err := git(ctx, dir, "clone", "-q", "--depth=1", url+"/repository/.git", "clone"); err != nil {
		return nil, err
	}
	out, err := read(filepath.Join(dir, "clone"))
	if err == nil && len(out) != n {
		err = fmt.Errorf("the clone has %d objects, %d were written", len(out), n)
	}
	fmt.Fprintf(os.Stderr, "%d objects cloned and read in %s\n", len(out), time.Since(began).Round(time.Millisecond))
	return out, errors.Join(err, os.RemoveAll(dir))
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
