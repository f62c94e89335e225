package runtime

import (
	"context"
	"io"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Container is what a Spec says when an image is to be run. Spec.Command, if it is not empty, takes the place of the
// image's entrypoint and arguments; Spec.User and Spec.WorkingDir, if not empty, that of the image's. Spec.Env is put
// over the image's. Spec.Stdout and Spec.Stderr are not used: a container outlives its executor, so it writes to the
// named pipes Dir/io/stdout and Dir/io/stderr, which exist.
type Container struct {
	// Image as Pull returned it.
	Image Image
	// Args take the place of the image's arguments, or follow Spec.Command.
	Args   []string
	Limits Limits
	// Security nil is the default: default capabilities, system call filter, no new privileges.
	Security *padisv1.Security
	// Mounts beside /proc, /sys, /dev, /etc/hosts, /etc/hostname and /etc/resolv.conf, in the order in which they are made.
	Mounts []Mount
	// Init runs a small init as PID 1, which passes signals on and reaps orphans.
	Init bool
	// Labels by which people find it, beside those of the runtime.
	Labels map[string]string
}

// Limits of a container. Zero is without a limit.
type Limits struct {
	// CPUMilli are thousandths of a CPU, as an absolute quota.
	CPUMilli int64
	// MemoryBytes is a hard limit; there is no swap beyond it.
	MemoryBytes int64
	Pids        int64
	// DiskBytes bounds what is written to the root file system, where the file system can.
	DiskBytes int64
}

// Mount makes a path of the host visible in a container.
type Mount struct {
	// Source is a path on the host; with Type "tmpfs" it is unused.
	Source, Target string
	// Type is "bind" or "tmpfs".
	Type string
	// Options as mount(8) takes them: "ro", "size=64m", "mode=1777".
	Options []string
}

// Image is one that is on the host.
type Image struct {
	// Ref is what was asked for, in full: registry/repository:tag or @digest.
	Ref string
	// Digest of the manifest for this host's platform: sha256:...
	Digest string
}

// Pull asks for an image.
type Pull struct {
	Image      string
	Auths      []*padisv1.RegistryAuth
	Registries []*padisv1.Registry
	// Always asks the registry even if an image of that tag is there. An image by digest is never asked for twice.
	Always bool
}

// Keeper runs images. Its instances outlive the executor and whatever daemon serves it.
type Keeper interface {
	Runtime
	// Pull brings an image to the host, unpacked, and returns when it can be started. Progress is called now and then,
	// from one goroutine at a time. Equal pulls at the same time are made once. Errors are *StartError.
	Pull(ctx context.Context, p Pull, progress func(done, total int64)) (Image, error)
	// Found lists the Spec.ID of all instances of this keeper's owner that exist, running or ended.
	Found(ctx context.Context) ([]string, error)
	// Adopt takes an instance over that another executor made, running or ended: as if Create and Start had been called
	// here. If there is none, or it never ran, the error is a *StartError with the reason ContainerGone. The PID of one that
	// has ended is 0, and its Wait returns at once.
	Adopt(ctx context.Context, id string) (Instance, error)
	// Discard ends and removes whatever there is of an instance. That there is nothing is no error.
	Discard(ctx context.Context, id string) error
	// Remove deletes images that no instance uses and that were not used for the given time.
	Remove(ctx context.Context, unused time.Duration) ([]string, error)
}

// ExecSpec is a command to be run beside the program of an instance, with a terminal or without.
type ExecSpec struct {
	Command []string
	// Env is put over that of the instance's program.
	Env []string
	// User and WorkingDir are those of the instance if empty.
	User, WorkingDir string
	// TTY gives the command a terminal of this size; all its output then goes to Stdout.
	TTY           bool
	Width, Height uint16
	// Stdin may be nil: nothing to read. Its end closes the command's. Stdout and Stderr may be nil: thrown away.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Executor runs commands in instances for people. An Instance may have it.
type Executor interface {
	// Exec starts a command. Its errors are *StartError.
	Exec(ExecSpec) (Process, error)
}

// Process is a command that Exec started.
type Process interface {
	// Resize tells the terminal its size.
	Resize(width, height uint16) error
	// Signal sends a signal by its name to the command.
	Signal(name string) error
	// Wait returns when the command has ended and all its output was written. It may be called by many.
	Wait() Exit
}
