package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
	"padis.io/padis/tests/kernel"
)

// subject is a dataplane under test.
type subject struct {
	name string
	// modules of the lab's kernel that it needs; nil means that it is tried with the machine's own.
	modules []string
	// open makes one for a director; it is called in the director's network namespace.
	open func(director *machine) (lb.Dataplane, error)
	// relays makes those that the real servers' hosts have beside this dataplane, and returns how they are told; nil: none.
	relays func(s *site) func([]lb.Forwarding) error
	// lacks says of trials that it does not promise what they try, and why.
	lacks map[string]string
}

func (d *subject) promises(trial string) bool { return d.lacks[trial] == "" }

// subjects are all dataplanes there are.
func subjects() []*subject { return slices.Concat(tcxSubjects, nftSubjects, ipvsSubjects) }

const (
	// inner is set in the child that runs the tests, in the lab in both.
	inner = "PADIS_TEST_INNER"
	inLab = "PADIS_TEST_LAB"
)

func lab() bool { return os.Getenv(inLab) != "" }

// patience is how long something may take that must happen; nothing waits so long that does happen.
func patience() time.Duration {
	if lab() {
		return 2 * time.Minute
	}
	return 30 * time.Second
}

// TestMain runs the tests in network and mount namespaces of their own, so that nothing of the machine is touched and nothing is
// left behind.
func TestMain(m *testing.M) {
	if os.Getenv(inner) != "" || os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestConformance is the suite, for the dataplanes that the machine's kernel has; in the lab, for the others.
func TestConformance(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for programs in the kernel and namespaces of the machine; run as root")
	}
	for _, d := range subjects() {
		if (d.modules != nil) != lab() {
			continue
		}
		t.Run(d.name, func(t *testing.T) { conform(t, d) })
	}
}

// TestConformanceInTheLab boots a kernel for each dataplane that needs one.
func TestConformanceInTheLab(t *testing.T) {
	if lab() {
		t.Skip("this is the lab")
	}
	if testing.Short() {
		t.Skip("takes a kernel")
	}
	switch reason, impossible := kernel.Missing(); {
	case impossible:
		t.Skip(reason)
	case reason != "":
		t.Fatal(reason)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range subjects() {
		if d.modules == nil {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			l := kernel.Lab{Modules: d.modules, Memory: 768, Env: []string{inLab + "=1"}}
			if testing.Verbose() {
				l.Output = os.Stdout
			}
			r, err := l.Run(ctx, self, "-test.run=^TestConformance$/^"+d.name+"$", "-test.v", "-test.timeout=9m")
			if err != nil {
				t.Fatal(err)
			}
			if r.ExitCode != 0 || !strings.Contains(r.Output, "--- PASS: TestConformance/"+d.name) {
				t.Fatalf("exit code %d:\n%s", r.ExitCode, r.Output)
			}
		})
	}
}
