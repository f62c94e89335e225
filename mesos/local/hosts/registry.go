package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Entry is one part of a running tree, as it is seen from outside.
type Entry struct {
	Name string `json:"name"`
	// host, client, switch (the middle) or process.
	Kind string `json:"kind"`
	// Process id in the PID namespace of whoever started the tree.
	Pid int `json:"pid"`
	// Path of the network namespace, when it is not that of the process.
	Network string `json:"network,omitempty"`
	// Management address.
	Address string `json:"address,omitempty"`
}

// The kinds of Entry.
const (
	KindHost    = "host"
	KindClient  = "client"
	KindSwitch  = "switch"
	KindProcess = "process"
)

// ErrNotRunning says that no tree uses the data directory.
var ErrNotRunning = errors.New("not running")

const maxRegistry = 1 << 20

func registryPath(dataDir string) string { return filepath.Join(dataDir, "run", "hosts.json") }

func lockPath(dataDir string) string { return filepath.Join(dataDir, "run", "up.pid") }

// Lock claims a data directory for this process until the returned file is closed or the process ends, and writes
// DATA/run/up.pid. It fails when another process has it.
func Lock(dataDir string) (*os.File, error) {
	path := lockPath(dataDir)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		return nil, errors.Join(
			fmt.Errorf("data directory %s is in use by process %s: stop that one, or choose another with --data-dir", dataDir, strings.TrimSpace(string(holder))),
			f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return f, nil
}

// running says whether a process holds the Lock.
func running(dataDir string) (bool, error) {
	f, err := os.Open(lockPath(dataDir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// WriteRegistry replaces DATA/run/hosts.json.
func WriteRegistry(dataDir string, entries []Entry) error {
	b, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return err
	}
	path := registryPath(dataDir)
	next := path + ".next"
	if err := os.WriteFile(next, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("registry of hosts: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("registry of hosts: %w", err)
	}
	return nil
}

// ReadRegistry returns the parts of the tree that uses the data directory. It returns ErrNotRunning if there is none:
// the file of a tree that was killed is not believed.
func ReadRegistry(dataDir string) ([]Entry, error) {
	alive, err := running(dataDir)
	if err != nil {
		return nil, fmt.Errorf("registry of hosts: %w", err)
	}
	if !alive {
		return nil, fmt.Errorf("nothing runs on %s: %w", dataDir, ErrNotRunning)
	}
	b, err := os.ReadFile(registryPath(dataDir))
	if err != nil {
		return nil, fmt.Errorf("registry of hosts: %w", err)
	}
	return decodeRegistry(b)
}

func decodeRegistry(b []byte) ([]Entry, error) {
	if len(b) > maxRegistry {
		return nil, fmt.Errorf("registry of hosts: %d bytes, more than the %d that can be valid", len(b), maxRegistry)
	}
	var entries []Entry
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("registry of hosts: %w", err)
	}
	for _, e := range entries {
		if e.Name == "" || e.Pid <= 0 {
			return nil, fmt.Errorf("registry of hosts: entry %q has process id %d", e.Name, e.Pid)
		}
	}
	return entries, nil
}
