package ovs

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

const owner = "frame-work"

// start runs an Open vSwitch of its own in the namespace, without anything in common with that of the machine.
func start(t testing.TB, host *namespace) *Switches {
	t.Helper()
	if tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skipf("the userspace datapath needs /dev/net/tun: %v", err)
	} else {
		tun.Close()
	}
	// The path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "ovs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s; run .ci/setup", name, err, out)
		}
	}
	daemon := func(name string, args ...string) {
		t.Helper()
		log, err := os.Create(at(name + ".out"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(name, append(args, "--pidfile="+at(name+".pid"), "--unixctl="+at(name+".ctl"), "--no-chdir")...)
		cmd.Env = append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_DBDIR="+dir, "OVS_SYSCONFDIR="+dir, "OVS_LOGDIR="+dir)
		cmd.Stdout, cmd.Stderr = log, log
		// It ends with the thread of the namespace at the latest.
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		host.do(t, cmd.Start)
		t.Cleanup(func() {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			cmd.Wait()
			log.Close()
			if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
				t.Logf("%s: %s", name, b)
			}
		})
	}
	run("ovsdb-tool", "create", at("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	daemon("ovsdb-server", at("conf.db"), "--remote=punix:"+at("db.sock"))
	run("ovs-vsctl", "--db=unix:"+at("db.sock"), "--retry", "--timeout=30", "--no-wait", "init")
	daemon("ovs-vswitchd", "unix:"+at("db.sock"))
	return New(network.OwnerTag(owner), Config{RunDir: dir})
}

// settle makes the daemon forget what it remembers of packets; after a change it looks for itself, but some time later.
func settle(t testing.TB, s *Switches) {
	t.Helper()
	if out, err := exec.Command("ovs-appctl", "--timeout=20", "-t", filepath.Join(s.c.RunDir, "ovs-vswitchd.ctl"), "revalidator/purge").CombinedOutput(); err != nil {
		t.Fatalf("ovs-appctl: %v: %s", err, out)
	}
}

func apply(t testing.TB, s *Switches, ops ...network.Op) {
	t.Helper()
	for _, op := range ops {
		if err := s.Apply(op); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
}
