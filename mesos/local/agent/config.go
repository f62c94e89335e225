// Package agent is the embedded Mesos agent: it starts executors, speaks the v1 executor API and the part of the
// operator API that Padis uses, keeps status updates until they are acknowledged, and survives its own death as
// Apache Mesos 1.11 does. Edge: talks to HTTP clients, the master, processes and files.
package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/amount"
)

// Version is the Mesos version whose behaviour this is.
const Version = "1.11.0"

// Defaults of the flags.
const (
	DefaultResources = "cpus:4;mem:4096;disk:10240;ports:[31000-32000]"

	defaultRegistrationTimeout   = time.Minute
	defaultReregistrationTimeout = 2 * time.Second
	defaultShutdownGrace         = 5 * time.Second
	defaultRecoveryTimeout       = 15 * time.Minute
)

// Config is all that an agent is told.
type Config struct {
	// Listener is where the API is served; required. Its port is the agent's port.
	Listener net.Listener
	// Master is the URL of the master, "http://host:port"; required.
	Master string
	// WorkDir keeps sandboxes, the fetcher's cache and the journal; required.
	WorkDir string
	// Hostname and IP are announced; the IP of the listener if empty.
	Hostname, IP string
	// Attributes and Resources have the form of the flags of Mesos.
	Attributes, Resources string
	// BootID tells runs of the host apart: when it differs from the last one, all executors are known to be dead.
	// Empty means that of the kernel.
	BootID string
	// ExecutorRegistrationTimeout (1 min), ExecutorReregistrationTimeout (2 s) and ExecutorShutdownGrace (5 s) as in Mesos.
	ExecutorRegistrationTimeout, ExecutorReregistrationTimeout, ExecutorShutdownGrace time.Duration
	// ExecutorEnvironment is added to the environment of every executor, as by --executor_environment_variables of Mesos.
	ExecutorEnvironment map[string]string
	// Subreaper makes this process the parent of what executors leave behind, so that nothing escapes the kill of an
	// executor. It is a property of the whole process; only an agent that has a process for itself may set it.
	Subreaper bool
	// Launcher starts executors; processes of this host if nil.
	Launcher Launcher
	// Dial connects to the master; net.Dialer if nil.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// NewUUID makes container ids and the uuids of the agent's own updates; random ones if nil.
	NewUUID func() string
	// Log is required.
	Log *zap.Logger
}

// complete fills in the defaults and returns what the agent says of itself.
func (c *Config) complete() (mesos.AgentInfo, error) {
	var info mesos.AgentInfo
	if c.Listener == nil || c.Log == nil || c.Master == "" || c.WorkDir == "" {
		return info, fmt.Errorf("agent: Listener, Master, WorkDir and Log are required")
	}
	host, portText, err := net.SplitHostPort(c.Listener.Addr().String())
	if err != nil {
		return info, fmt.Errorf("agent: listener: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return info, fmt.Errorf("agent: listener: %w", err)
	}
	if c.IP == "" {
		c.IP = host
	}
	if c.Hostname == "" {
		c.Hostname = c.IP
	}
	if c.Resources == "" {
		c.Resources = DefaultResources
	}
	if c.WorkDir, err = filepath.Abs(c.WorkDir); err != nil {
		return info, err
	}
	if c.BootID == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return info, fmt.Errorf("agent: boot id: %w", err)
		}
		c.BootID = strings.TrimSpace(string(b))
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.ExecutorRegistrationTimeout, defaultRegistrationTimeout},
		{&c.ExecutorReregistrationTimeout, defaultReregistrationTimeout},
		{&c.ExecutorShutdownGrace, defaultShutdownGrace},
	} {
		if *d.value < 0 {
			return info, fmt.Errorf("agent: negative duration %v", *d.value)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		}
	}
	if c.NewUUID == nil {
		c.NewUUID = uuid.NewString
	}
	info.Hostname, info.Port = c.Hostname, new(int32(port))
	if info.Resources, err = amount.Parse(c.Resources); err != nil {
		return info, fmt.Errorf("agent: --resources: %w", err)
	}
	for i := range info.Resources {
		if info.Resources[i].GetRole() == "*" {
			info.Resources[i].Role = nil
		}
	}
	if info.Attributes, err = amount.ParseAttributes(c.Attributes); err != nil {
		return info, fmt.Errorf("agent: --attributes: %w", err)
	}
	return info, nil
}

func (c *Config) endpoint(info mesos.AgentInfo) string {
	return net.JoinHostPort(c.IP, strconv.Itoa(int(info.GetPort())))
}

// durationText writes a duration as Mesos does: "5secs", "15mins", "1.5secs".
func durationText(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{7 * 24 * time.Hour, "weeks"}, {24 * time.Hour, "days"}, {time.Hour, "hrs"}, {time.Minute, "mins"}, {time.Second, "secs"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}} {
		if d >= unit.size && (d%unit.size == 0 || unit.size <= time.Second) {
			return strconv.FormatFloat(float64(d)/float64(unit.size), 'f', -1, 64) + unit.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}
