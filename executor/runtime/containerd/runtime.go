// Package containerd runs images as containers of a containerd, which outlive the executor and containerd itself.
// Edge: talks to containerd, and to the kernel about containers' processes.
//
// # Who keeps what
//
// The shim of each container, a process that containerd starts, holds the container's output and its exit code. Neither the
// executor nor containerd is in the way of a running container, so both may end at any time. What the executor needs to
// take a container over is in containerd's record of it (labels: owner, id, directory; the OCI spec) and in two small
// files of the instance's directory:
//
//   - exit.json: how the container ended. It is written before containerd is told to forget the task, so no exit is lost.
//   - asked: the signal that was to end it, when SIGKILL had to be sent in its place (see below).
//
// # Ends
//
// The end of a container is noticed through a pidfd, without containerd. Only then containerd is asked for the exit code,
// as often as it takes it to answer. Deleting the task returns when all that was said has been written to the named
// pipes; after that, Wait returns.
//
// # PID 1
//
// The program of a container is PID 1 of its PID namespace, unless an init was asked for. The kernel drops signals that
// PID 1 has said nothing about. Stop therefore looks what the program has said, and if the signal's default action would
// end it, it is ended by SIGKILL and the exit reported as by the signal asked for.
//
// # Order
//
// Create writes containerd's record of the container first: a snapshot without a record would be taken by containerd's
// garbage collection, and what a dying executor leaves half made can be found and discarded by the next one. Close and
// Discard delete the record last.
package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/containerd/images"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// DefaultAddress is where containerd listens if nobody says otherwise.
	DefaultAddress = "/run/containerd/containerd.sock"
	// DefaultNamespace is Padis' part of containerd.
	DefaultNamespace = "padis"

	runtimeName  = "io.containerd.runc.v2"
	ownerLabel   = "padis.io/owner"
	idLabel      = "padis.io/id"
	dirLabel     = "padis.io/dir"
	digestLabel  = "padis.io/image-digest"
	openTime     = 10 * time.Second
	createTime   = 2 * time.Minute
	requestTime  = 30 * time.Second
	reconnectMin = 20 * time.Millisecond
	reconnectMax = time.Second
)

// Config of a runtime. What has a default may be left empty.
type Config struct {
	// Address is the path of containerd's socket; DefaultAddress.
	Address string
	// Namespace of containerd; DefaultNamespace.
	Namespace string
	// Owner is whose containers these are: the framework id. Other owners' containers are not seen.
	Owner string
	// Snapshotter of containerd; overlayfs, or native where containerd's directory cannot be a part of an overlay.
	Snapshotter string
	// RuntimeBinary is the OCI runtime: runc, or crun.
	RuntimeBinary string
	// CgroupParent is the control group under which each owner has one for its containers; /padis.
	CgroupParent string
	// InitBinary is a static program that runs reaper.Main when its first argument is reaper.Verb; the executor itself.
	InitBinary string
	// Images says how images are pulled; Snapshotter and Log are set by Open.
	Images images.Config
	Log    *zap.Logger
}

// store brings images to the host and takes them away.
type store interface {
	Pull(ctx context.Context, p runtime.Pull, progress func(done, total int64)) (runtime.Image, error)
	Remove(ctx context.Context, unused time.Duration) ([]string, error)
}

// Runtime is a runtime.Keeper.
type Runtime struct {
	store
	config     Config
	client     *client.Client
	containers containers.Store
	tasks      tasks.TasksClient
	snapshots  snapshots.Snapshotter
	log        *zap.Logger
	known      imageCache
	loading    singleflight.Group
	swapLimit  bool
	// unbounded says once that disk space cannot be bounded.
	unbounded sync.Once
	// garbage tells that file systems were removed, whose space is not yet free.
	garbage chan struct{}
	// closed ends what waits for containers.
	closed    chan struct{}
	closeOnce sync.Once
}

var _ runtime.Keeper = (*Runtime)(nil)

func (c *Config) complete() error {
	for _, d := range []struct {
		field *string
		value string
	}{{&c.Address, DefaultAddress}, {&c.Namespace, DefaultNamespace}, {&c.CgroupParent, "/padis"}} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if c.Owner == "" {
		return errors.New("containerd runtime: Owner is empty; it is the framework id")
	}
	if !path.IsAbs(c.CgroupParent) {
		return fmt.Errorf("containerd runtime: CgroupParent %q is not absolute; write it as /padis", c.CgroupParent)
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.InitBinary == "" {
		var err error
		if c.InitBinary, err = os.Executable(); err != nil {
			return fmt.Errorf("find the executor's own program, which is the init of containers: %w", err)
		}
	}
	return nil
}

// Open connects to containerd. When none answers, the error is a *StartError with the reason RuntimeUnavailable.
func Open(ctx context.Context, c Config) (*Runtime, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	// Requests wait for a connection; whether there is a daemon at all is to be known now.
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Address)
	if err != nil {
		return nil, unavailable(c.Address, err)
	}
	_ = conn.Close()
	cl, err := client.New(c.Address,
		client.WithDefaultNamespace(c.Namespace),
		client.WithCallOpts([]grpc.CallOption{grpc.WaitForReady(true)}),
		client.WithExtraDialOpts([]grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: 5 * time.Second,
		})}),
	)
	if err != nil {
		return nil, unavailable(c.Address, err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	version, err := cl.Version(ctx)
	if err != nil {
		_ = cl.Close()
		return nil, unavailable(c.Address, err)
	}
	if c.Snapshotter == "" {
		if c.Snapshotter, err = snapshotter(ctx, cl); err != nil {
			return nil, errors.Join(unavailable(c.Address, err), cl.Close())
		}
	}
	c.Images.Snapshotter, c.Images.Log = c.Snapshotter, c.Log
	r := &Runtime{
		store:  images.New(cl, c.Images),
		config: c, client: cl, containers: cl.ContainerService(), tasks: cl.TaskService(), snapshots: cl.SnapshotService(c.Snapshotter),
		log: c.Log, swapLimit: swapAccounted(), closed: make(chan struct{}), garbage: make(chan struct{}, 1),
	}
	go r.collect()
	c.Log.Info("connected to containerd", zap.String("address", c.Address), zap.String("version", version.Version), zap.String("snapshotter", c.Snapshotter))
	return r, nil
}

// snapshotter is the best of those that work where containerd keeps its data.
func snapshotter(ctx context.Context, cl *client.Client) (string, error) {
	const best, always = "overlayfs", "native"
	answer, err := cl.IntrospectionService().Plugins(ctx, "type==io.containerd.snapshotter.v1,id=="+best)
	if err != nil {
		return "", fmt.Errorf("ask for snapshotters: %w", err)
	}
	for _, p := range answer.GetPlugins() {
		if p.GetInitErr() == nil {
			return best, nil
		}
	}
	return always, nil
}

func unavailable(address string, err error) error {
	return &runtime.StartError{
		Reason:  padisv1.ReasonRuntimeUnavailable,
		Message: fmt.Sprintf("containerd at %s does not answer: %v; start it, or set --containerd to its socket", address, err),
	}
}

// Close ends the connection. Containers go on. Instances of this runtime must not be used any more: nobody learns from
// them how they end.
func (r *Runtime) Close() error {
	r.closeOnce.Do(func() { close(r.closed) })
	return r.client.Close()
}

// name of a container in containerd: of an allowed form and length whatever the id.
func (r *Runtime) name(id string) string {
	sum := sha256.Sum256([]byte(r.config.Owner + "\x00" + id))
	return "p-" + hex.EncodeToString(sum[:16])
}

// cgroup of a container.
func (r *Runtime) cgroup(name string) string {
	sum := sha256.Sum256([]byte(r.config.Owner))
	return path.Join(r.config.CgroupParent, hex.EncodeToString(sum[:4]), name)
}
