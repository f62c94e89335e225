// Package runtime says what the executor needs of whatever runs instances: plain processes, or containers. The
// conformance suite beside it says the same as a test. Edge: talks to nobody itself, but says in which words.
//
// An instance is made in two steps, because its network is configured between them: Create gives it namespaces in
// which nothing of the user's runs yet, Start runs the program. However it ends, Wait tells; Close frees what is left.
package runtime

import (
	"fmt"
	"time"
)

// Spec is an instance to be made.
type Spec struct {
	// ID is unique on the host for all times, and a possible name of a file.
	ID string
	// Dir is the instance's sandbox: an existing directory with work/, tmp/, etc/hosts and etc/resolv.conf.
	Dir      string
	Hostname string
	// Command is the program and its arguments. A name without a slash is looked up in the PATH of Env.
	Command []string
	// Env is a list of NAME=value, complete: nothing is inherited.
	Env []string
	// WorkingDir is absolute, or relative to Dir/work.
	WorkingDir string
	// User is a name or a number, optionally with ":group"; empty means the user of the executor.
	User string
	// HostNetwork leaves the instance the network of the host: it has no namespace of its own for that.
	HostNetwork bool
	// Stdout and Stderr are open file descriptors that the instance writes to. They stay the caller's.
	Stdout, Stderr int
	// Container is set when an image is to be run; only a Keeper can.
	Container *Container
}

// Runtime makes instances. Its methods may be called at the same time.
type Runtime interface {
	// Create makes the namespaces of an instance. Its errors are *StartError.
	Create(Spec) (Instance, error)
}

// Instance is one that Create made. Its methods may be called at the same time.
type Instance interface {
	// PID of the first process on the host.
	PID() int
	// NetworkNamespace is open as this file descriptor until Close; with HostNetwork it is the host's.
	NetworkNamespace() int
	// Start runs the program and returns when it runs. Its errors are *StartError, and the instance has then ended.
	Start() error
	// Stop asks the program to end by a signal such as "SIGTERM"; a program that has not said what to do with the
	// signal ends as the signal's default action demands.
	Stop(signal string) error
	// Kill ends all processes of the instance at once. Killing what has ended is no error.
	Kill() error
	// Wait returns when the first process, and with it all others, has ended.
	Wait() Exit
	// Run runs a command in the instance as the instance's user and waits for it; after timeout it is killed.
	Run(command []string, timeout time.Duration) (Output, error)
	// Close frees what the instance held. It must have ended.
	Close() error
}

// Exit is how an instance ended.
type Exit struct {
	// Code is the exit code; meaningless if Signal is set.
	Code int
	// Signal is the name of the signal that ended the first process, or empty.
	Signal string
	// OOMKilled tells that the kernel killed a process of it for exceeding its memory limit.
	OOMKilled bool
}

// String says it in words.
func (e Exit) String() string {
	if e.Signal != "" {
		return "ended by " + e.Signal
	}
	return fmt.Sprintf("exited with code %d", e.Code)
}

// Output is what a command in an instance gave.
type Output struct {
	Exit
	// Text is the beginning of what it wrote to stdout and stderr together.
	Text string
	// TimedOut tells that it was killed for taking too long.
	TimedOut bool
}

// StartError says why an instance could not be made or started: one of the Reason constants of proto/padis/v1, and a
// sentence that says what to do.
type StartError struct {
	Reason, Message string
}

func (e *StartError) Error() string { return e.Message }
