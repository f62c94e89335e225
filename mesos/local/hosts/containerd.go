package hosts

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/mesos/local/hosts/supervise"
)

// ContainerdAddress is where a host's containerd listens. /run is the host's own.
const ContainerdAddress = "/run/containerd/containerd.sock"

const (
	containerdState  = "/run/containerd"
	containerdConfig = "/run/containerd/config.toml"
)

// ContainerdLog is the name of the log of a host's containerd.
func ContainerdLog(host string) string { return host + "-containerd" }

// unneeded are plugins that containerd does without: other people's ways in, file systems that are seldom there, and
// what only watches.
var unneeded = []string{
	"io.containerd.grpc.v1.cri",
	"io.containerd.snapshotter.v1.aufs",
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.zfs",
	"io.containerd.monitor.v1.cgroups",
	"io.containerd.internal.v1.restart",
	"io.containerd.internal.v1.opt",
	"io.containerd.internal.v1.tracing",
	"io.containerd.tracing.processor.v1.otlp",
}

// Containerd is what an embedded host needs to run a containerd of its own.
type Containerd struct {
	// Program is the path of containerd.
	Program string
	// Root is the directory of images and of what containers write; it outlives the host.
	Root string
	// Log opens the file for its output before each start.
	Log func() (*os.File, error)
	// CgroupParent is the control group for the host's containers. No other host has it.
	CgroupParent string
}

// Containers returns the path of containerd, or says what containers lack on this machine.
func Containers() (string, error) {
	privileged, err := privileged()
	if err != nil {
		return "", err
	}
	if !privileged {
		return "", errors.New("containers need root")
	}
	roots, err := cgroupRoots()
	if err != nil || len(roots) == 0 {
		return "", errors.Join(fmt.Errorf("containers need control groups: none are mounted at %s", cgroupMount), err)
	}
	for _, root := range roots {
		if err := unix.Access(root, unix.W_OK); err != nil {
			return "", fmt.Errorf("containers need control groups: %s: %w; remount it: mount -o remount,rw %s", root, err, root)
		}
	}
	return findContainerd(exec.LookPath)
}

// findContainerd looks for all programs that are needed.
func findContainerd(look func(string) (string, error)) (containerd string, err error) {
	var missing []string
	for _, program := range []string{"runc", "containerd-shim-runc-v2", "containerd"} {
		if containerd, err = look(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("%s: not found in PATH: apt-get install containerd runc", strings.Join(missing, ", "))
	}
	return containerd, nil
}

func (c *Containerd) validate() error {
	if !filepath.IsAbs(c.Program) || !filepath.IsAbs(c.Root) || !filepath.IsAbs(c.CgroupParent) {
		return fmt.Errorf("containerd: program %q, root %q and control group %q must be absolute paths", c.Program, c.Root, c.CgroupParent)
	}
	if c.Log == nil {
		return errors.New("containerd: a log is needed")
	}
	return nil
}

// config is containerd's configuration file.
func (c *Containerd) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\n", c.Root, containerdState)
	for _, plugin := range unneeded {
		fmt.Fprintf(&b, "  %q,\n", plugin)
	}
	fmt.Fprintf(&b, "]\n[grpc]\n  address = %q\n[debug]\n  level = \"warn\"\n", ContainerdAddress)
	return b.String()
}

// Configure makes containerd's directories and its configuration, and returns its arguments.
func (c *Containerd) Configure() ([]string, error) {
	for _, dir := range []string{containerdState, c.Root} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("containerd: %w", err)
		}
	}
	if err := os.WriteFile(containerdConfig, []byte(c.config()), 0o600); err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	return []string{"--config", containerdConfig}, nil
}

// service keeps containerd running. Its shims are orphans that this process inherits, so they and their containers live
// on when it dies, and end with the host.
func (c *Containerd) service() (supervise.Service, error) {
	arguments, err := c.Configure()
	if err != nil {
		return supervise.Service{}, err
	}
	var log *os.File
	return supervise.Service{
		Name:  "containerd",
		Stage: stageContainerd,
		Command: func() (command supervise.Command, err error) {
			log, err = c.Log()
			return supervise.Command{Path: c.Program, Args: arguments, Env: os.Environ(), Dir: "/", Output: log}, err
		},
		Started: func(_ int, err error) error { return errors.Join(err, log.Close()) },
		Backoff: supervise.DefaultBackoff(),
		Grace:   3 * time.Second,
	}, nil
}
