package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/mesos/local/hosts/supervise"
)

// HostConfig says what runs on an embedded host.
type HostConfig struct {
	// Name becomes the host name.
	Name string
	// Agent returns the command of the Mesos agent, before each of its starts.
	Agent func() (supervise.Command, error)
	// Link is the host's end of a pair that NewLink made: it says that the host is prepared and hears that its
	// interfaces are there.
	Link io.ReadWriter
	// Keep are directories that stay visible when they are below /run.
	Keep []string
	// Containerd runs containers on the host; nil if it has none.
	Containerd *Containerd
}

// Stages of stopping a host.
const (
	stageAgent = iota
	stageContainerd
)

func (c HostConfig) validate() error {
	if c.Name == "" || len(c.Name) > 63 {
		return fmt.Errorf("host name %q: it needs 1 to 63 characters", c.Name)
	}
	if c.Agent == nil || c.Link == nil {
		return errors.New("host: an agent and a link to the fabric are needed")
	}
	if c.Containerd == nil {
		return nil
	}
	return c.Containerd.validate()
}

// Run is an embedded host: process 1 of a process started with HostAttributes. It prepares mounts and host name, waits
// for its network, keeps the agent and containerd running and reaps orphans, among them the executors of an agent that
// was killed and the shims of containers. When ctx ends it stops the agent and containerd, ends everything else on the
// host and returns.
func Run(ctx context.Context, c HostConfig, log *zap.Logger) error {
	if err := c.validate(); err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("host %s: an embedded host is process 1 of its PID namespace; `padis up` starts it", c.Name)
	}
	if err := PrivateMounts(c.Keep...); err != nil {
		return fmt.Errorf("host %s: %w", c.Name, err)
	}
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("host %s: set host name: %w", c.Name, err)
	}
	if _, err := c.Link.Write([]byte{1}); err != nil {
		return fmt.Errorf("host %s: its network never came: %w", c.Name, err)
	}
	if _, err := io.ReadFull(c.Link, make([]byte, 1)); err != nil {
		return fmt.Errorf("host %s: its network never came: %w", c.Name, err)
	}
	reaper := supervise.NewReaper()
	reaping, stopReaping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReaping()
	go reaper.Run(reaping)
	supervisor := supervise.New(reaper, func(e supervise.Event) {
		log.Info(e.Service, zap.String("host", c.Name), zap.String("event", string(e.Kind)), zap.Int("pid", e.Pid),
			zap.String("detail", e.Detail), zap.Duration("retryIn", e.RetryIn))
	})
	if c.Containerd != nil {
		if err := c.startContainerd(supervisor, log); err != nil {
			return fmt.Errorf("host %s: %w", c.Name, err)
		}
	}
	supervisor.Add(supervise.Service{
		Name:    "agent",
		Stage:   stageAgent,
		Command: c.Agent,
		Backoff: agentBackoff(),
		Grace:   3 * time.Second,
	})
	<-ctx.Done()
	supervisor.Stop()
	if c.Containerd == nil {
		return nil
	}
	// The groups can be removed once they are empty.
	if err := reaper.EndAll(endTimeout); err != nil {
		return fmt.Errorf("host %s: %w", c.Name, err)
	}
	return RemoveCgroups(c.Containerd.CgroupParent)
}

// agentBackoff brings an agent back, however often it ends, before the embedded master calls it unreachable: after 3
// seconds, from when on what it runs is started elsewhere.
func agentBackoff() supervise.Backoff {
	b := supervise.DefaultBackoff()
	b.Max = time.Second
	return b
}

// startContainerd first removes the control groups of the host's life before this one. They do no harm but take memory,
// so the host does without if it cannot.
func (c HostConfig) startContainerd(supervisor *supervise.Supervisor, log *zap.Logger) error {
	if err := RemoveCgroups(c.Containerd.CgroupParent); err != nil {
		log.Warn("control groups of an earlier start stay", zap.String("host", c.Name), zap.Error(err))
	}
	service, err := c.Containerd.service()
	if err != nil {
		return err
	}
	supervisor.Add(service)
	return nil
}

// endTimeout is how long the processes of a host may take to die of SIGKILL.
const endTimeout = 5 * time.Second

// prepareTimeout is how long a host may take from its start to being prepared.
const prepareTimeout = 30 * time.Second

// NewLink makes a pair: the first end is for Fabric.Attach, the second for the host.
func NewLink() (fabric, host *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("link to a host: %w", err)
	}
	// Only what does not block can have a deadline.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("link to a host: %w", err), unix.Close(pair[0]), unix.Close(pair[1]))
	}
	return os.NewFile(uintptr(pair[0]), "link"), os.NewFile(uintptr(pair[1]), "link"), nil
}

// meet waits until the host at the other end of the link is prepared, and tells it that its interfaces are there.
func meet(link *os.File) error {
	if err := link.SetDeadline(time.Now().Add(prepareTimeout)); err != nil {
		return err
	}
	if _, err := io.ReadFull(link, make([]byte, 1)); err != nil {
		return fmt.Errorf("it did not get ready: %w", err)
	}
	_, err := link.Write([]byte{1})
	return err
}

// BootID returns a random id: a host has a new one after each start, and its agent knows by it that what ran before is
// gone.
func BootID() (string, error) {
	id, err := os.ReadFile(filepath.Join("/proc/sys/kernel/random", "uuid"))
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return string(id[:len(id)-1]), nil
}
