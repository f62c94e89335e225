package supervise

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Reaper waits for all children of its process, so the tests of it run in a process of their own.
const reaperVariable = "PADIS_REAPER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(reaperVariable) == "" {
		os.Exit(m.Run())
	}
	if err := playReaper(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestReaper(t *testing.T) {
	t.Parallel()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), reaperVariable+"=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func playReaper() error {
	// Orphans below this process become its children, as they would be those of process 1.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := NewReaper()
	go r.Run(ctx)

	// Many short lives: each end is seen, with its status, whoever is faster.
	var all []*Process
	for i := range 50 {
		p, err := r.Start(Command{Path: "/bin/sh", Args: []string{"-c", fmt.Sprintf("exit %d", i)}})
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	for i, p := range all {
		select {
		case <-p.Done():
		case <-ctx.Done():
			return fmt.Errorf("the end of process %d was not seen", p.Pid())
		}
		if got := p.Status().ExitStatus(); got != i {
			return fmt.Errorf("exit status %d, want %d", got, i)
		}
	}
	// An orphan is reaped, and a reaped child is not signalled.
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := r.Start(Command{Path: "/bin/sh", Args: []string{"-c", "(sleep 0.05; exit 3) & echo $!"}, Output: write})
	if err != nil {
		return err
	}
	if err := write.Close(); err != nil {
		return err
	}
	var orphan int
	if _, err := fmt.Fscan(read, &orphan); err != nil {
		return err
	}
	<-p.Done()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for syscall.Kill(orphan, 0) == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("orphan %d is a zombie", orphan)
		}
	}
	if _, err := r.Start(Command{Path: "/does/not/exist"}); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		return fmt.Errorf("a program that does not exist: %v", err)
	}
	return nil
}
