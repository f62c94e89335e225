package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"padis.io/padis/tests/bench/bed"
)

// store has the ledger's etcd until it is killed.
func store(o options) error {
	// Whoever starts it may be killed, too.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	s, err := bed.Store(filepath.Join(o.dir, "control"))
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// endpoint is that of the store.
func (o options) endpoint() string { return "unix://" + filepath.Join(o.dir, "control", "etcd.sock") }
