package e2e

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// externalEtcd is an etcd of its own, on a socket.
func externalEtcd(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) []url.URL {
		return []url.URL{{Scheme: "unix", Path: filepath.Join(dir, name)}}
	}
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel = filepath.Join(dir, "data"), "fatal"
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at("client"), at("client")
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at("peer"), at("peer")
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	must(t, err)
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return "unix://" + filepath.Join(dir, "client")
}

func loopbackPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// daemon runs a program of ours until the test ends, and then ends it by the signal.
func daemon(t *testing.T, end syscall.Signal, name string, args ...string) *os.Process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	cmd := exec.Command(filepath.Join(cluster.Bin, name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // Pdeathsig is tied to the thread that forks
		started <- cmd.Start()
		_ = cmd.Wait()
		close(ended)
	}()
	must(t, <-started)
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s %s:\n%s", name, args[0], b[max(0, len(b)-4000):])
		}
		_ = cmd.Process.Signal(end)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	return cmd.Process
}

// schedulerOn starts a control plane on an external etcd and returns its kubeconfig.
func schedulerOn(t *testing.T, etcd, master string) (*os.Process, string) {
	t.Helper()
	dir := t.TempDir()
	artifacts := fmt.Sprintf("127.0.0.1:%d", loopbackPort(t))
	p := daemon(t, syscall.SIGTERM, "padis", "scheduler", "--data-dir", dir, "--listen", fmt.Sprintf("127.0.0.1:%d", loopbackPort(t)), "--etcd-servers", etcd,
		"--master", "http://"+master, "--artifact-listen", artifacts, "--artifact-url", "http://"+artifacts)
	return p, filepath.Join(dir, "kubeconfig")
}

// with runs the command line against another server until its output satisfies ok.
func with(c context.Context, t *testing.T, kubeconfig string, ok func(string) bool, args ...string) string {
	t.Helper()
	for {
		cmd := exec.CommandContext(c, filepath.Join(cluster.Bin, "padis"), args...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
		out, err := cmd.CombinedOutput()
		if err == nil && ok(string(out)) {
			return string(out)
		}
		if c.Err() != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

// Two schedulers on one external etcd: one leads. When it is killed the other goes on, and the instance never notices.
func TestStandByTakesOver(t *testing.T) {
	c := ctx(t)
	etcd := externalEtcd(t)
	master := fmt.Sprintf("127.0.0.1:%d", loopbackPort(t))
	daemon(t, syscall.SIGTERM, "padis-mesos", "master", "--listen", master, "--data-dir", t.TempDir())
	// An agent leaves its executors running on SIGTERM, and ends them on SIGUSR1.
	daemon(t, syscall.SIGUSR1, "padis-mesos", "agent", "--master", "http://"+master, "--work-dir", t.TempDir(), "--hostname", "stand-by-host", "--port", fmt.Sprint(loopbackPort(t)))
	first, config1 := schedulerOn(t, etcd, master)
	anything := func(string) bool { return true }
	with(c, t, config1, anything, "get", "apps")
	_, config2 := schedulerOn(t, etcd, master)
	with(c, t, config2, anything, "get", "apps")

	manifest := filepath.Join(t.TempDir(), "app.yaml")
	must(t, os.WriteFile(manifest, []byte("apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: steady, namespace: default}\nspec: {template: {command: [sleep, \"1000\"]}}\n"), 0o600))
	// Declared at the one that stands by: both serve the same objects.
	with(c, t, config2, anything, "apply", "-f", manifest)
	running := func(out string) bool { return strings.Contains(out, "true") && strings.Contains(out, "Running") }
	ask := []string{"get", "instance", "steady-0", "-o", "jsonpath={.status.ready} {.status.phase} {.status.taskID}"}
	before := with(c, t, config1, running, ask...)
	must(t, first.Kill())
	after := with(c, t, config2, running, ask...)
	if before != after {
		t.Errorf("before %q, after %q", before, after)
	}
	with(c, t, config2, anything, "scale", "app/steady", "--replicas=2")
	with(c, t, config2, running, "get", "instance", "steady-1", "-o", "jsonpath={.status.ready} {.status.phase}")
	with(c, t, config2, anything, "delete", "app", "steady", "--timeout=30s")
}
