package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/tests/harness"
	"padis.io/padis/tests/registry"
)

// needContainers skips a test where hosts run no containers.
func needContainers(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
}

// ctrRun runs an image that is on a host by containerd's own client; flags come before the image.
func ctrRun(ctx context.Context, cl *harness.Cluster, host, image, id string, flags []string, command ...string) (string, error) {
	parent, err := hosts.CgroupParent(cl.Dir)
	if err != nil {
		return "", err
	}
	args := append([]string{"ctr", "run", "--cgroup", filepath.Join(parent, host, id)}, flags...)
	return cl.On(ctx, host, append(append(args, image, id), command...)...)
}

// Every host has a containerd that pulls from a registry outside and runs what it has pulled.
func TestHostsPullAndRunImages(t *testing.T) {
	needContainers(t)
	c := ctx(t)
	r, err := cluster.OpenRegistry(registry.Options{}, 0)
	must(t, err)
	t.Cleanup(r.Stop)
	_, err = r.PushBusybox("hello:1", registry.Config{Files: map[string]string{"/hello": "hello from an image\n"}})
	must(t, err)
	for _, host := range []string{"host-1", "host-3"} {
		_, err = cluster.On(c, host, "ctr", "image", "pull", "--plain-http", r.Ref("hello:1"))
		must(t, err)
		out, err := ctrRun(c, cluster, host, r.Ref("hello:1"), "hello", []string{"--rm"}, "cat", "/hello")
		must(t, err)
		if !strings.Contains(out, "hello from an image") {
			t.Errorf("on %s the container says %q", host, out)
		}
	}
	if n := r.Requests("GET", "/v2/hello/blobs/"); n < 4 {
		t.Errorf("two hosts made %d requests for blobs: they share what they pull", n)
	}
}

// A platform that is killed takes its containers along, and the next one on its directory has the images, and nothing
// of the containers is left on the machine.
func TestKilledPlatformTakesContainersAlong(t *testing.T) {
	needContainers(t)
	c := ctx(t)
	before, err := harness.Footprint()
	must(t, err)
	dir := t.TempDir()
	first, err := harness.Start(c, harness.Options{Dir: dir, Hosts: 1})
	must(t, err)
	t.Cleanup(first.Stop)
	r, err := first.OpenRegistry(registry.Options{}, 0)
	must(t, err)
	t.Cleanup(r.Stop)
	_, err = r.PushBusybox("hello:1", registry.Config{})
	must(t, err)
	image := r.Ref("hello:1")
	_, err = first.On(c, "host-1", "ctr", "image", "pull", "--plain-http", image)
	must(t, err)
	_, err = ctrRun(c, first, "host-1", image, "sleeper", []string{"--detach"}, "sleep", "86400")
	must(t, err)
	must(t, syscall.Kill(first.Pid(), syscall.SIGKILL))
	<-first.Exited()

	second, err := harness.Start(c, harness.Options{Dir: dir, Hosts: 1})
	must(t, err)
	t.Cleanup(second.Stop)
	out, err := second.On(c, "host-1", "ctr", "task", "ls", "--quiet")
	must(t, err)
	if out != "" {
		t.Errorf("after the kill the next platform runs %q", out)
	}
	out, err = ctrRun(c, second, "host-1", image, "again", []string{"--rm"}, "echo", "here")
	must(t, err)
	if out != "here\n" {
		t.Errorf("a container says %q", out)
	}
	second.Stop()
	after, err := harness.Footprint()
	must(t, err)
	must(t, before.Compare(after))
}
