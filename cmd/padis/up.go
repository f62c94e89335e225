package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"padis.io/padis/mesos/local/hosts"
)

const upExample = `  # Everything on this machine, with three embedded hosts
  padis up

  # A second one beside it
  padis up --data-dir /tmp/other --listen 127.0.0.1:7443 --hosts 5`

// upConfig is all that `padis up` can be told.
type upConfig struct {
	// DataDir keeps all state. Absolute once validated.
	DataDir string
	// Hosts is the number of embedded hosts.
	Hosts int
	// Listen is the address of the API.
	Listen string
	// AgentResources of each host, in Mesos' notation.
	AgentResources string
	// AgentAttributes of each host, in Mesos' notation; {i} is replaced by the host's number.
	AgentAttributes string
	// HostRestartDelay is how long a host that lost power stays off.
	HostRestartDelay time.Duration
	// GitFileRoots are directories of this machine whose repositories GitSources may name by file://. Absolute once validated.
	GitFileRoots []string
	// LoopbackReceivers lets notifications of Syncs be sent to this machine.
	LoopbackReceivers bool
	// Containers says whether the hosts run containers: auto, on or off.
	Containers string
	// NoContainers says why the hosts run none, and Containerd where containerd is if they do. Both are found out before
	// the inner process starts, for in its namespaces everybody is root.
	NoContainers, Containerd string
	// Quiet leaves the progress out.
	Quiet bool
	// Inner is set in the process that `padis up` starts in namespaces of its own.
	Inner bool
}

var resourcesPattern = regexp.MustCompile(`^[a-z_]+:[0-9]+(\.[0-9]+)?(;[a-z_]+:[0-9]+(\.[0-9]+)?)*$`)

// validate checks the configuration and makes paths absolute.
func (c *upConfig) validate() error {
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return usagef("--data-dir %s: %v", c.DataDir, err)
	}
	if c.Hosts < 0 || c.Hosts > hosts.MaxHosts {
		return usagef("--hosts %d: there can be 0 to %d", c.Hosts, hosts.MaxHosts)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return usagef("--listen %s: write ADDRESS:PORT: %v", c.Listen, err)
	}
	if !resourcesPattern.MatchString(c.AgentResources) {
		return usagef("--agent-resources %q: write NAME:AMOUNT, several separated by semicolons, for example cpus:4;mem:4096;disk:10240", c.AgentResources)
	}
	if _, err := hosts.ExpandAttributes(c.AgentAttributes, 1); err != nil {
		return usagef("--agent-attributes: %v", err)
	}
	if !slices.Contains([]string{"auto", "on", "off"}, c.Containers) {
		return usagef("--containers %q: write auto, on or off", c.Containers)
	}
	for i := range c.GitFileRoots {
		if c.GitFileRoots[i], err = filepath.Abs(c.GitFileRoots[i]); err != nil {
			return usagef("--git-file-roots %s: %v", c.GitFileRoots[i], err)
		}
	}
	if c.HostRestartDelay < 0 {
		return usagef("--host-restart-delay %v: it cannot be negative", c.HostRestartDelay)
	}
	return nil
}

// findContainers decides whether the hosts run containers.
func (c *upConfig) findContainers(find func() (string, error)) error {
	if c.Containers == "off" {
		c.NoContainers = "`padis up` runs with --containers off"
		return nil
	}
	containerd, err := find()
	if err != nil && c.Containers == "on" {
		return fmt.Errorf("--containers on: %w", err)
	}
	if err != nil {
		c.NoContainers = err.Error()
	}
	c.Containerd = containerd
	return nil
}

// arguments are those that give an inner process the same configuration.
func (c *upConfig) arguments() []string {
	return []string{
		"up", "--inner", "--data-dir", c.DataDir, "--hosts", fmt.Sprint(c.Hosts), "--listen", c.Listen,
		"--agent-resources", c.AgentResources, "--agent-attributes", c.AgentAttributes,
		"--host-restart-delay", c.HostRestartDelay.String(), "--containerd", c.Containerd, "--no-containers", c.NoContainers,
		"--git-file-roots", strings.Join(c.GitFileRoots, ","),
	}
}

func (c *upConfig) logDir() string { return filepath.Join(c.DataDir, "logs") }

func newUpCommand(streams genericiooptions.IOStreams) *cobra.Command {
	c := upConfig{DataDir: defaultDataDir(os.Getenv, os.Geteuid())}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run all of Padis on this machine, with embedded hosts",
		Long: strings.TrimSpace(`
Run all of Padis on this machine: the control plane, an embedded Mesos master and embedded hosts with an agent each,
every host with a network stack, mounts and processes of its own. Nothing needs to be installed for plain processes, and
without root it runs in a user namespace. Where containerd and runc are installed and it runs as root, each host has a
containerd of its own and runs images. What dies is started again. The state is in the data directory and survives a restart;
Ctrl-C stops everything.

`) + "\n\n" + exitHelp,
		Example: upExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.validate(); err != nil {
				return err
			}
			if c.Inner {
				return runInner(c)
			}
			if err := c.findContainers(hosts.Containers); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return runOuter(ctx, stop, c, streams)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.DataDir, "data-dir", c.DataDir, "Directory that keeps all state.")
	flags.IntVar(&c.Hosts, "hosts", 3, "Number of embedded hosts.")
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:6443", "Address and port of the API.")
	flags.StringVar(&c.AgentResources, "agent-resources", "cpus:4;mem:4096;disk:10240", "Resources of each host.")
	flags.StringVar(&c.AgentAttributes, "agent-attributes", "rack:r{i};zone:z{i}", "Attributes of each host; {i} is its number.")
	flags.DurationVar(&c.HostRestartDelay, "host-restart-delay", 15*time.Second, "Time until a host that was killed is switched on again.")
	flags.StringSliceVar(&c.GitFileRoots, "git-file-roots", nil, "Directories of this machine whose repositories GitSources may name by file://.")
	flags.BoolVar(&c.LoopbackReceivers, "loopback-receivers", false, "Let notifications of Syncs be sent to this machine itself (127.0.0.1, ::1): whoever may write Syncs reaches what listens there.")
	flags.StringVar(&c.Containers, "containers", "auto", "Whether the hosts run containers: on, off, or auto: where root and containerd are.")
	flags.BoolVarP(&c.Quiet, "quiet", "q", false, "Print errors only.")
	flags.BoolVar(&c.Inner, "inner", false, "")
	flags.StringVar(&c.Containerd, "containerd", "", "")
	flags.StringVar(&c.NoContainers, "no-containers", "", "")
	// Only `padis up` itself uses them.
	for _, name := range []string{"inner", "containerd", "no-containers"} {
		if err := flags.MarkHidden(name); err != nil {
			panic(err)
		}
	}
	return cmd
}
