package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/tests/registry"
)

// needContainers skips a test where hosts run no containers.
func needContainers(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
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
	parent, err := hosts.CgroupParent(cluster.Dir)
	must(t, err)
	for _, host := range []string{"host-1", "host-3"} {
		_, err = cluster.On(c, host, "ctr", "image", "pull", "--plain-http", r.Ref("hello:1"))
		must(t, err)
		out, err := cluster.On(c, host, "ctr", "run", "--rm", "--cgroup", filepath.Join(parent, host, "hello"), r.Ref("hello:1"), "hello", "cat", "/hello")
		must(t, err)
		if !strings.Contains(out, "hello from an image") {
			t.Errorf("on %s the container says %q", host, out)
		}
	}
	if n := r.Requests("GET", "/v2/hello/blobs/"); n < 4 {
		t.Errorf("two hosts made %d requests for blobs: they share what they pull", n)
	}
}
