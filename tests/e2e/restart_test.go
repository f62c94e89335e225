package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"padis.io/padis/tests/harness"
)

// A platform that is stopped, or killed, and started again with the same directory runs what it ran, with the same
// addresses.
func TestDataDirectorySurvives(t *testing.T) {
	for _, k := range []struct {
		name string
		end  func(t *testing.T, c *harness.Cluster)
	}{
		{"stopped", func(_ *testing.T, c *harness.Cluster) { c.Stop() }},
		{"killed", func(t *testing.T, c *harness.Cluster) {
			must(t, syscall.Kill(c.Pid(), syscall.SIGKILL))
			<-c.Exited()
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			c := ctx(t)
			dir := t.TempDir()
			first, err := harness.Start(c, harness.Options{Dir: dir, Hosts: 2})
			must(t, err)
			t.Cleanup(first.Stop)
			_, err = first.Padis(c, "apply", "-f", "examples/web-shop.yaml")
			must(t, err)
			is, err := first.WaitReady(c, "shop", "web", 8)
			must(t, err)
			want := addresses(is)
			k.end(t, first)
			second, err := harness.Start(c, harness.Options{Dir: dir, Hosts: 2})
			must(t, err)
			t.Cleanup(second.Stop)
			is, err = second.WaitReady(c, "shop", "web", 8)
			must(t, err)
			// What the view says right after the start may still be what was; the instances' own answers are not.
			for err = second.FetchAll(c, is, 8080, "/"); err != nil; err = second.FetchAll(c, is, 8080, "/") {
				t.Log("asked again:", err)
				is, err = second.WaitReady(c, "shop", "web", 8)
				must(t, err)
			}
			for name, address := range addresses(is) {
				if want[name] != address {
					t.Errorf("%s had %s and has %s", name, want[name], address)
				}
			}
		})
	}
}

// Without root everything works the same, in a user namespace.
func TestWithoutRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests have shown it: they do not run as root here")
	}
	c := ctx(t)
	dir, err := os.MkdirTemp("", "padis-rootless-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	// The binaries must be readable for the other user, wherever the project is.
	bin := filepath.Join(dir, "bin")
	must(t, os.CopyFS(bin, os.DirFS(cluster.Bin)))
	out, err := exec.Command("sh", "-c", "chmod -R a+rx "+bin+" && mkdir "+dir+"/data && chown -R 65534:65534 "+dir+" && chmod 755 "+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rootless, err := harness.Start(c, harness.Options{Dir: filepath.Join(dir, "data"), Bin: bin, Hosts: 2, UID: 65534})
	must(t, err)
	t.Cleanup(rootless.Stop)
	_, err = rootless.Padis(c, "apply", "-f", "examples/web-shop.yaml")
	must(t, err)
	is, err := rootless.WaitReady(c, "shop", "web", 8)
	must(t, err)
	must(t, rootless.FetchAll(c, is, 8080, "/"))
	p, err := rootless.FindOne("padis", " scheduler ")
	must(t, err)
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Pid), "status"))
	must(t, err)
	if !strings.Contains(string(status), "Uid:\t65534") {
		t.Errorf("the scheduler does not run as the user:\n%s", status)
	}
}
