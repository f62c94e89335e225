package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/runtime/process"
)

// processFile names the first process of a container, by number and start time, and the host as instances know it.
const processFile = "process"

func (l *life) noteProcess() error {
	pid := l.instance.PID()
	if pid == 0 {
		return nil
	}
	start, err := process.StartTime(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has just ended
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.plan.Files.Dir, processFile), fmt.Appendf(nil, "%d %d %s\n", pid, start, l.executor.Host.Name), 0o600)
}

// Recorded is a container that runs on this host, as its state directory has it.
type Recorded struct {
	instance.Plan
	// Owner is the framework whose container it is.
	Owner string
	// Namespace is its network namespace, open.
	Namespace *os.File
}

// Recordings are the containers in a state directory that run now, in the order of their names; owner chooses those of one
// framework, if it is not empty. They need not have an executor. The caller closes their namespaces. What cannot be
// read is in the error; the others are there nevertheless.
func Recordings(state, owner string) ([]Recorded, error) {
	entries, err := os.ReadDir(filepath.Dir(instance.Directory(state, "x")))
	if err != nil {
		return nil, fmt.Errorf("look for containers: %w; give the state directory of the executors with --state", err)
	}
	var out []Recorded
	var failed []error
	for _, e := range entries {
		if !instance.ValidName(e.Name()) {
			continue
		}
		r, err := recorded(state, e.Name())
		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("container %s: %w", e.Name(), err))
		case r.Namespace != nil && (owner == "" || r.Owner == owner):
			out = append(out, r)
		case r.Namespace != nil:
			r.Namespace.Close()
		}
	}
	return out, errors.Join(failed...)
}

// recorded is one container; its Namespace is nil if it does not run.
func recorded(state, container string) (Recorded, error) {
	dir := instance.Directory(state, container)
	owner, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Recorded{}, nil
	}
	if err != nil {
		return Recorded{}, err
	}
	note, err := os.ReadFile(filepath.Join(dir, processFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Recorded{}, nil
	}
	var pid int
	var start uint64
	var host string
	if err == nil {
		_, err = fmt.Sscan(string(note), &pid, &start, &host)
	}
	if err != nil {
		return Recorded{}, fmt.Errorf("its process is not known: %w", err)
	}
	// The namespace is opened first: if the process is still the one that was noted then, it is its namespace.
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return Recorded{}, nil
	}
	if err != nil {
		return Recorded{}, err
	}
	if now, err := process.StartTime(pid); err != nil || now != start {
		ns.Close()
		return Recorded{}, nil
	}
	l, err := readLaunch(dir)
	if err != nil {
		ns.Close()
		return Recorded{}, err
	}
	p, f := instance.Recall(container, l, instance.Host{Owner: string(owner), Name: host, State: state})
	if f != nil {
		ns.Close()
		return Recorded{}, f
	}
	return Recorded{Plan: p, Owner: string(owner), Namespace: ns}, nil
}
