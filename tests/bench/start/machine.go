package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/tests/registry"
)

const (
	shell  = "bench.test/busybox:1"
	writer = "bench.test/writer:1"
	// Namespaces of containerd: that of executors, and one for ctr.
	executors, others = "padis", "bench"
)

// patience bounds every waiting.
const patience = 2 * time.Minute

// machine is one host with a containerd and a Mesos agent.
type machine struct {
	*framework
	dir, bin, cgroup string
	containerd       *exec.Cmd
}

// newMachine prepares the namespaces that this process was started in.
func newMachine(ctx context.Context, o options) (*machine, error) {
	m := &machine{dir: o.dir, bin: o.bin}
	if err := hosts.PrivateMounts(o.dir, o.bin); err != nil {
		return nil, err
	}
	// The uplink of the host ends in a router, which has the gateway's address.
	for _, command := range []string{
		"link set lo up", "link add eth1 type veth peer name sw0", "link set eth1 up", "link set sw0 up", "addr add 10.44.0.1/16 dev sw0",
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	parent, err := hosts.CgroupParent(o.dir)
	if err != nil {
		return nil, err
	}
	m.cgroup = filepath.Join(parent, "host-1")
	if err := m.startContainerd(); err != nil {
		return nil, err
	}
	if err := m.importImages(ctx); err != nil {
		return nil, err
	}
	m.framework, err = newFramework(m.dir, m.command(), map[string]string{
		"PATH": os.Getenv("PATH"), "PADIS_CGROUP_PARENT": m.cgroup, "PADIS_STATE_DIR": m.state(), "PADIS_CONTAINERD_ADDRESS": hosts.ContainerdAddress,
	})
	return m, err
}

func (m *machine) state() string { return filepath.Join(m.dir, "state") }

func (m *machine) executor() string { return filepath.Join(m.bin, "padis-executor") }

// command starts the executor as the scheduler would.
func (m *machine) command() string {
	return fmt.Sprintf("exec %s --cache %s", m.executor(), filepath.Join(m.dir, "cache"))
}

func (m *machine) startContainerd() error {
	program, err := hosts.Containers()
	if err != nil {
		return err
	}
	c := hosts.Containerd{Program: program, Root: filepath.Join(m.dir, "containerd")}
	arguments, err := c.Configure()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(m.dir, "containerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	m.containerd = exec.Command(program, arguments...)
	m.containerd.Stdout, m.containerd.Stderr = log, log
	if err := m.containerd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", hosts.ContainerdAddress)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("containerd does not listen: %w\n%s", err, text)
		}
	}
}

// importImages gives both users of containerd the same images.
func (m *machine) importImages(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	small, err := registry.Busybox(registry.Config{})
	if err != nil {
		return err
	}
	large, err := registry.Program(self, registry.Config{})
	if err != nil {
		return err
	}
	for ref, image := range map[string]v1.Image{shell: small, writer: large} {
		tag, err := name.NewTag(ref)
		if err != nil {
			return err
		}
		path := filepath.Join(m.dir, "image.tar")
		if err := tarball.WriteToFile(path, tag, image); err != nil {
			return err
		}
		for _, ns := range []string{executors, others} {
			if err := ctr(ctx, ns, "image", "import", path); err != nil {
				return err
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// ctr is containerd's own client.
func ctr(ctx context.Context, ns string, args ...string) error {
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"-a", hosts.ContainerdAddress, "-n", ns}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// stop ends what would write into the directory that is removed next.
func (m *machine) stop() {
	m.framework.stop()
	_ = m.containerd.Process.Kill()
	_ = m.containerd.Wait()
}

// executorLog is the end of what the executor said, for messages.
func (m *machine) executorLog() string {
	paths, _ := filepath.Glob(filepath.Join(m.dir, "mesos/agent0/slaves/*/frameworks/*/executors/*/runs/latest/stderr"))
	var all []byte
	for _, path := range paths {
		b, _ := os.ReadFile(path)
		all = append(all, b...)
	}
	const most = 4000
	return string(bytes.TrimSpace(all[max(0, len(all)-most):]))
}

// executorRSS is the memory of the running executor in bytes, shared pages included.
func (m *machine) executorRSS() (int64, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	var most int64
	for _, path := range paths {
		// An instance's first process is the same binary with a verb.
		b, err := os.ReadFile(path)
		args := strings.Split(string(b), "\x00")
		if err != nil || args[0] != m.executor() || len(args) < 2 || !strings.HasPrefix(args[1], "-") {
			continue
		}
		rollup, err := os.ReadFile(filepath.Join(filepath.Dir(path), "smaps_rollup"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(rollup)) {
			var kb int64
			if _, err := fmt.Sscanf(line, "Rss: %d kB", &kb); err == nil {
				most = max(most, kb<<10)
			}
		}
	}
	if most == 0 {
		return 0, errors.New("no executor runs")
	}
	return most, nil
}
