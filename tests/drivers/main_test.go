// Package drivers is one conformance suite for all drivers of networks. Two hosts and a machine outside, each a network
// namespace, hang on one switch; instances are plugged in by the executor's own edges from launch payloads as they come by
// the wire, and then everything is tried that docs/network.md promises. What the machine's kernel can do is tried with
// that; all of it, and what Debian's cloud kernels lack, in a kernel of the tests' own (tests/kernel).
package drivers

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

	"padis.io/padis/tests/kernel"
)

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

// TestMain runs the tests in network, mount and PID namespaces of their own - without root, in a user namespace, too - so that
// nothing of the machine is touched, and nothing is left behind, daemons included.
func TestMain(m *testing.M) {
	if os.Getenv(inner) != "" {
		if err := ownProc(); err != nil {
			fmt.Fprintln(os.Stderr, "mount /proc:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ownProc mounts the /proc of the PID namespace, in which threads find themselves.
func ownProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// TestConformance is the suite, for the drivers that kernels everywhere have, in the lab for the others. The lab's kernel has
// no nftables of family inet, by which routed networks are guarded and those with gateways on hosts kept apart.
func TestConformance(t *testing.T) {
	for _, d := range drivers() {
		if d.labOnly != lab() {
			continue
		}
		for _, f := range []family{ipv4, ipv6, dual} {
			if d.families != nil && !slices.Contains(d.families, f) {
				continue
			}
			t.Run(d.name+"/"+string(f), func(t *testing.T) {
				t.Parallel()
				conform(t, d, f)
			})
		}
	}
}

// TestConformanceInTheLab runs the suite in the lab, each half in a kernel of its own, because a lab has one processor.
func TestConformanceInTheLab(t *testing.T) {
	if lab() {
		t.Skip("this is the lab")
	}
	if testing.Short() {
		t.Skip("takes two kernels")
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
	for name, pattern := range map[string]string{"VLAN": "^(vlan|ovs-netdev-tagged|ovs-system)$", "Open vSwitch": "^ovs-system-tagged$"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			l := kernel.Lab{Modules: []string{"8021q", "openvswitch", "nf_tables", "sch_tbf", "tun", "nft_ct"}, Memory: 768, Env: []string{inLab + "=1"}}
			if testing.Verbose() {
				l.Output = os.Stdout
			}
			r, err := l.Run(ctx, self, "-test.run=^TestConformance$/"+pattern, "-test.v", "-test.parallel=1", "-test.timeout=9m")
			if err != nil {
				t.Fatal(err)
			}
			if r.ExitCode != 0 || !strings.Contains(r.Output, "--- PASS: TestConformance/") {
				t.Fatalf("exit code %d:\n%s", r.ExitCode, r.Output)
			}
			t.Log(r.Output)
		})
	}
}
