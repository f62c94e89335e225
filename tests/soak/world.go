package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"padis.io/padis/tests/bench/bed"
)

const (
	owner = "soak-framework"
	// cidr has so few addresses that each is used again soon, on either host.
	cidr, first, last = "10.44.0.0/27", "10.44.0.1", "10.44.0.30"
	slots             = 16
)

var hostnames = []string{"host-1", "host-2"}

func (o options) hostPath(name string) string { return filepath.Join(o.dir, "hosts", name) }
func (o options) pins() string                { return filepath.Join(o.dir, "pins") }

// world makes two hosts on one switch, which outlive those who work on them.
func (o options) world() error {
	for _, d := range []string{"hosts", "pins"} {
		// What an earlier run left there are files only: its mounts went with it.
		if err := os.RemoveAll(filepath.Join(o.dir, d)); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(o.dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := bed.IP(`link set lo up
		link add switch0 type bridge forward_delay 0
		link set switch0 up`); err != nil {
		return err
	}
	for _, name := range hostnames {
		ns, err := bed.NewNamespace()
		if err != nil {
			return err
		}
		if err := bed.Pin(ns, o.hostPath(name)); err != nil {
			return err
		}
		if err := bed.IP(fmt.Sprintf("link add sw-%s type veth peer name eth1 netns /proc/%d/fd/%d\nlink set sw-%[1]s master switch0 up", name, os.Getpid(), ns)); err != nil {
			return err
		}
		if err := bed.Inside(ns, func() error { return bed.IP("link set lo up\nlink set eth1 up") }); err != nil {
			return err
		}
		unix.Close(ns)
	}
	return nil
}

// inHost runs f in the network namespace of a host.
func (o options) inHost(name string, f func() error) error {
	ns, err := unix.Open(o.hostPath(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	return bed.Inside(ns, f)
}

// open opens a pinned namespace; false if nothing is pinned there, or half.
func (o options) open(task string) (ns int, ok bool) {
	ns, err := unix.Open(filepath.Join(o.pins(), task), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false
	}
	var s unix.Statfs_t
	if unix.Fstatfs(ns, &s) != nil || s.Type != unix.NSFS_MAGIC {
		unix.Close(ns)
		return -1, false
	}
	return ns, true
}
