// Package reaper is a small init: PID 1 of a container whose program does not want to be that. It passes signals on and
// reaps orphans. Edge: talks to the kernel's processes.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Verb is the argument with which the executor's main must call Main, with the arguments that follow.
const Verb = "init-reap"

// Exit codes as shells give them.
const (
	exitUsage         = 2
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// Main runs a program, given as "-- program arguments...", until it ends, and returns its exit code: 128 and the number
// of the signal if a signal ended it.
func Main(args []string) int {
	if len(args) < 2 || args[0] != "--" {
		fmt.Fprintf(os.Stderr, "padis-executor %s: usage: %s -- program arguments...\n", Verb, Verb)
		return exitUsage
	}
	command := args[1:]
	path, err := exec.LookPath(command[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "padis: run %s: %v\n", command[0], err)
		if errors.Is(err, os.ErrPermission) {
			return exitNotExecutable
		}
		return exitNotFound
	}
	// Before the program is there, so that no signal is missed.
	got := make(chan os.Signal, 64)
	signal.Notify(got)
	child, err := os.StartProcess(path, command, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "padis: run %s: %v\n", path, err)
		return exitNotExecutable
	}
	for s := range got {
		sig, ok := s.(unix.Signal)
		switch {
		case !ok || sig == unix.SIGURG: // the Go runtime sends itself these
		case sig == unix.SIGCHLD:
			if code, ended := reap(child.Pid); ended {
				return code
			}
		default:
			_ = unix.Kill(child.Pid, sig)
		}
	}
	return 0
}

// reap collects all that have ended, and tells whether the program is among them.
func reap(program int) (code int, ended bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil || pid <= 0:
			return code, ended
		case pid == program && ws.Signaled():
			code, ended = exitSignal+int(ws.Signal()), true
		case pid == program:
			code, ended = ws.ExitStatus(), true
		}
	}
}
