package hostfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/volume"
	"padis.io/padis/executor/volume/quota/quotatest"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	innerEnv = "PADIS_TEST_INNER"
	waitVerb = "wait-for-stdin"
)

// TestMain runs the tests in a mount namespace of their own: what they mount ends with them.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == waitVerb {
		fmt.Println("waiting")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	if os.Getenv(innerEnv) == "" {
		os.Exit(outer())
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func outer() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), innerEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		return 1
	}
	return 0
}

// world is one host with one instance's directory.
type world struct {
	t          *testing.T
	state, dir string
	config     Config
	warned     *observer.ObservedLogs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	core, warned := observer.New(zap.WarnLevel)
	w := &world{t: t, state: filepath.Join(t.TempDir(), "state with a space"), warned: warned}
	w.dir = filepath.Join(w.state, "instances", "shop.web.0.1")
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.config = Config{State: w.state, NFSTimeout: 5 * time.Second, Log: zap.New(core)}
	t.Cleanup(func() {
		w.config.Namespace = nil
		if err := w.host().Release(w.dir); err != nil {
			t.Error(err)
		}
		if left := w.mounted(); len(left) > 0 {
			t.Errorf("still mounted: %v", left)
		}
	})
	return w
}

// host is another executor process each time: nothing is remembered.
func (w *world) host() *Host { return New(w.config) }

func (w *world) mounted() []string {
	w.t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		w.t.Fatal(err)
	}
	return volume.MountPoints(string(b), w.state)
}

func (w *world) prepare(l *padisv1.Launch) []runtime.Mount {
	w.t.Helper()
	mounts, err := w.host().Prepare(w.t.Context(), w.dir, l)
	if err != nil {
		w.t.Fatal(err)
	}
	return mounts
}

// refused wants an error with a reason, and nothing left.
func (w *world) refused(l *padisv1.Launch, reason, says string) {
	w.t.Helper()
	mounts, err := w.host().Prepare(w.t.Context(), w.dir, l)
	var s *runtime.StartError
	if !errors.As(err, &s) || s.Reason != reason || !strings.Contains(s.Message, says) {
		w.t.Errorf("%v, %#v; want %s and %q", mounts, err, reason, says)
	}
	if _, err := os.Lstat(volume.Dir(w.dir)); !errors.Is(err, os.ErrNotExist) {
		w.t.Errorf("after %s: %v", s, err)
	}
	if left := w.mounted(); len(left) > 0 {
		w.t.Errorf("after %s still mounted: %v", s, left)
	}
}

func launch(user string, volumes ...*padisv1.Volume) *padisv1.Launch {
	return &padisv1.Launch{Template: &padisv1.Template{User: user, Volumes: volumes}, Attachments: []*padisv1.Attachment{{Address: "10.44.1.1"}}}
}

func host(p string) *padisv1.Volume {
	return &padisv1.Volume{Name: "host", MountPath: "/host", Source: &padisv1.Volume_HostPath{HostPath: &padisv1.HostPath{Path: p}}}
}

func empty(mib int64, memory bool) *padisv1.Volume {
	return &padisv1.Volume{Name: "empty", MountPath: "/empty", Source: &padisv1.Volume_EmptyDir{EmptyDir: &padisv1.EmptyDir{SizeMib: mib, Memory: memory}}}
}

func share(server string) *padisv1.Volume {
	return &padisv1.Volume{Name: "nfs", MountPath: "/nfs", Source: &padisv1.Volume_Nfs{Nfs: &padisv1.Nfs{Server: server, Path: "/export"}}}
}

func (w *world) write(name, content string, mode os.FileMode) string {
	w.t.Helper()
	p := filepath.Join(w.t.TempDir(), name)
	if err := os.WriteFile(p, []byte(content), mode); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func mode(t *testing.T, p string) string {
	t.Helper()
	info, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%o %d:%d", s.Mode&0o7777, s.Uid, s.Gid)
}

// one is a user that the tests can give files to, and the owner that files then have.
func one() (user, owner string) {
	if os.Getenv(innerEnv) != "" && mapped() {
		return "1000:2000", "1000:2000"
	}
	return "0:0", "0:0"
}

// mapped tells whether other users than root exist in this user namespace.
func mapped() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.HasSuffix(strings.TrimSpace(string(b)), "4294967295")
}

func TestHostPath(t *testing.T) {
	w := newWorld(t)
	file := w.write("data", "of the host", 0o644)
	inner := filepath.Dir(file)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(inner, link); err != nil {
		t.Fatal(err)
	}
	got := w.prepare(launch("", host(link)))
	if len(got) != 1 || got[0].Source != inner || got[0].Target != "/host" || got[0].Type != "bind" || strings.Join(got[0].Options, ",") != "rbind,rprivate,rw" {
		t.Errorf("got %+v", got)
	}
	if err := w.host().Release(w.dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "of the host" {
		t.Errorf("the host's file after release: %q, %v", b, err)
	}
	w.refused(launch("", host(filepath.Join(inner, "absent"))), padisv1.ReasonVolumeFailed, "create it there")

	w.config.HostPaths = []string{inner}
	if got := w.prepare(launch("", host(file))); got[0].Source != file {
		t.Errorf("got %+v", got)
	}
	if err := w.host().Release(w.dir); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"out": "/etc", "root": "/", "state": w.state, "parent": filepath.Dir(w.state)} {
		link := filepath.Join(inner, name)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		w.refused(launch("", host(link)), padisv1.ReasonVolumeForbidden, "hostPath")
	}
	// An allowed directory that is a link is what it leads to.
	w.config.HostPaths = []string{link}
	if got := w.prepare(launch("", host(file))); got[0].Source != file {
		t.Errorf("got %+v", got)
	}
}

// silent mounts a file system that answers nothing until the test ends, as one of a server that is down.
func silent(t *testing.T) string {
	t.Helper()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = fuse.Close() })
	dir := filepath.Join(t.TempDir(), "mounted")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("silent", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAHostPathThatDoesNotAnswerIsGivenUp(t *testing.T) {
	w := newWorld(t)
	w.config.NFSTimeout = 200 * time.Millisecond
	dir := silent(t)
	for _, p := range []string{dir, filepath.Join(dir, "deep", "below")} {
		w.refused(launch("", empty(0, false), host(p)), padisv1.ReasonVolumeFailed, p+" does not answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.host().Prepare(ctx, w.dir, launch("", host(dir))); err == nil {
		t.Error("prepared, though nobody waits")
	}
}

func TestEmptyDir(t *testing.T) {
	user, owner := one()
	w := newWorld(t)
	got := w.prepare(launch(user, empty(0, false)))
	if got[0].Source != filepath.Join(w.dir, "volumes/empty") || mode(t, got[0].Source) != "777 "+owner {
		t.Errorf("%+v, %s", got, mode(t, got[0].Source))
	}
	// Links that a program leaves behind are removed, not followed.
	outside := w.write("precious", "x", 0o644)
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(got[0].Source, "way-out")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.host().Release(w.dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(volume.Dir(w.dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after release: %v", err)
	}
	if err := w.host().Release(filepath.Join(w.state, "instances/never")); err != nil {
		t.Errorf("release what never was: %v", err)
	}
}

func TestMemory(t *testing.T) {
	w := newWorld(t)
	got := w.prepare(launch("", empty(64, true)))
	if len(got) != 1 || got[0].Type != "tmpfs" || got[0].Source != "" || strings.Join(got[0].Options, ",") != "nosuid,nodev,mode=1777,size=67108864" {
		t.Errorf("got %+v", got)
	}
	if left := w.mounted(); len(left) > 0 {
		t.Errorf("mounted on the host: %v", left)
	}
}

// A size is a limit where the host can make it one; where it cannot, that is said.
func TestSize(t *testing.T) {
	if !mapped() {
		t.Skip("loop devices need the host's root")
	}
	user, owner := one()
	w := newWorld(t)
	if missing := missingForImages(); missing != "" {
		t.Logf("this host has no %s", missing)
		w.prepare(launch(user, empty(8, false)))
		if w.warned.Len() != 1 {
			t.Errorf("warnings: %v", w.warned.All())
		}
		return
	}
	source := w.prepare(launch(user, empty(8, false)))[0].Source
	if mode(t, source) != "777 "+owner {
		t.Errorf("mode %s", mode(t, source))
	}
	if entries, err := os.ReadDir(source); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v; want nothing", entries, err)
	}
	if w.warned.Len() > 0 || len(w.mounted()) != 1 {
		t.Errorf("warned %v, mounted %v", w.warned.All(), w.mounted())
	}
	if err := os.WriteFile(filepath.Join(source, "fits"), make([]byte, 4<<20), 0o644); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(source, "too-much"), make([]byte, 8<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("12 MiB in 8: %v", err)
	}
	image := filepath.Join(w.dir, "volumes/.empty.image")
	if err := w.host().Release(w.dir); err != nil {
		t.Fatal(err)
	}
	if left := loops(t, image); len(left) > 0 {
		t.Errorf("loop devices of %s after release: %v", image, left)
	}
}

// Where there are no loop devices, the file system below may bound a directory.
func TestSizeByQuota(t *testing.T) {
	t.Setenv("TMPDIR", quotatest.Mount(t, "ext4"))
	w := newWorld(t)
	v := volume.Volume{Name: "scratch", Path: filepath.Join(volume.Dir(w.dir), "scratch"), Size: 4 << 20}
	if err := os.MkdirAll(v.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		t.Helper()
		var st unix.Statfs_t
		if err := unix.Statfs(v.Path, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks) * st.Bsize
	}
	all := size()
	h := w.host()
	if err := h.limit(v, "loop devices"); err != nil {
		t.Fatal(err)
	}
	if n := size(); n != v.Size || w.warned.Len() > 0 {
		t.Errorf("df shows %d bytes; said: %v", n, w.warned.All())
	}
	giveBack(volume.Dir(w.dir))
	if n := size(); n != all {
		t.Errorf("given back, df shows %d bytes", n)
	}
	if err := h.Release(w.dir); err != nil {
		t.Error(err)
	}
}

func TestSizeThatCannotBeEnforcedIsSaid(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.state, "tmpfs")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	if err := w.host().limit(volume.Volume{Name: "scratch", Path: path, Size: 1 << 20}, "loop devices"); err != nil {
		t.Error(err)
	}
	if all := w.warned.All(); len(all) != 1 || all[0].ContextMap()["missing"] != "loop devices" || all[0].ContextMap()["quota"] == "" {
		t.Errorf("said: %v", all)
	}
}

// loops are the loop devices that hold a file.
func loops(t *testing.T, file string) []string {
	t.Helper()
	all, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p string) bool {
		b, err := os.ReadFile(p)
		return err != nil || !strings.HasPrefix(string(b), file)
	})
}

func TestNoSpace(t *testing.T) {
	w := newWorld(t)
	if err := unix.Mount("tmpfs", w.dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(w.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	l := launch("", &padisv1.Volume{Name: "files", MountPath: "/files", Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{Config: "configmap/big"}}})
	l.Configs = []*padisv1.ConfigData{{Name: "configmap/big", Data: map[string][]byte{"big": make([]byte, 1<<20)}}}
	_, err := w.host().Prepare(t.Context(), w.dir, l)
	var s *runtime.StartError
	if !errors.As(err, &s) || s.Reason != padisv1.ReasonInsufficientSpace {
		t.Errorf("%v", err)
	}
}

func TestLogs(t *testing.T) {
	user, owner := one()
	w := newWorld(t)
	v := &padisv1.Volume{Name: "logs", MountPath: "/persist/logs", Source: &padisv1.Volume_Logs{Logs: &padisv1.AddressLogs{}}}
	source := w.prepare(launch(user, v))[0].Source
	if source != filepath.Join(w.state, "logs/10.44.1.1") || mode(t, source) != "755 "+owner || !strings.HasPrefix(mode(t, filepath.Dir(source)), "750 ") {
		t.Errorf("%s %s in %s", source, mode(t, source), mode(t, filepath.Dir(source)))
	}
	if err := os.WriteFile(filepath.Join(source, "app.log"), []byte("first\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.host().Release(w.dir); err != nil {
		t.Fatal(err)
	}
	// The next one with the address, of whatever user, finds them.
	if again := w.prepare(launch("app", v))[0].Source; again != source || mode(t, source) != "1777 0:0" {
		t.Errorf("%s %s", again, mode(t, source))
	}
	if b, err := os.ReadFile(filepath.Join(source, "app.log")); err != nil || string(b) != "first\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := w.host().Release(w.dir); err != nil {
		t.Fatal(err)
	}
	none := launch("", v)
	none.Attachments = nil
	w.refused(none, padisv1.ReasonVolumeFailed, "give the App a network")
}

// helper is a mount.nfs that does what the script says.
func (w *world) helper(script string) {
	w.config.MountNFS = filepath.Join(w.t.TempDir(), "mount.nfs")
	if err := os.WriteFile(w.config.MountNFS, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		w.t.Fatal(err)
	}
}

func TestNFS(t *testing.T) {
	w := newWorld(t)
	said := filepath.Join(t.TempDir(), "said")
	w.helper(`echo "$@" > ` + said + `; exec mount -t tmpfs tmpfs "$2"`)
	source := w.prepare(launch("", share("192.0.2.7")))[0].Source
	b, err := os.ReadFile(said)
	if want := "192.0.2.7:/export " + source + " -o nosuid,nodev,soft,timeo=50,retrans=2,retry=0\n"; err != nil || string(b) != want {
		t.Errorf("said %q, want %q (%v)", b, want, err)
	}
	if got := w.mounted(); !slices.Equal(got, []string{source}) {
		t.Errorf("mounted %v", got)
	}
	// Somebody uses it.
	open, err := os.Create(filepath.Join(source, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := w.host().Release(w.dir); err != nil || len(w.mounted()) > 0 {
		t.Errorf("%v, mounted %v", err, w.mounted())
	}
}

func TestNFSFails(t *testing.T) {
	w := newWorld(t)
	w.helper(`echo "mount.nfs: access denied by server" >&2; exit 32`)
	w.refused(launch("", empty(0, false), share("192.0.2.7")), padisv1.ReasonVolumeFailed, "access denied by server")
	w.helper(`echo "mount.nfs: No such device" >&2; exit 32`)
	w.refused(launch("", share("192.0.2.7")), padisv1.ReasonVolumeFailed, "no NFS client")

	// A server that does not answer, with a helper whose children hold its output, too.
	w.config.NFSTimeout = 200 * time.Millisecond
	w.helper(`sleep 1000 & sleep 1000`)
	start := time.Now()
	w.refused(launch("", share("192.0.2.7")), padisv1.ReasonVolumeFailed, "no answer within 200ms")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.host().Prepare(ctx, w.dir, launch("", share("192.0.2.7"))); err == nil || !strings.Contains(err.Error(), "no longer wanted") {
		t.Errorf("%v", err)
	}
}

// Without a helper the kernel mounts; whether it has an NFS client or not, nobody serves here.
func TestNFSByKernel(t *testing.T) {
	w := newWorld(t)
	cmd, err := w.host().nfsCommand(t.Context(), volume.Volume{Export: "127.0.0.1:/export", Server: "127.0.0.1", Path: "/p"})
	if err != nil {
		t.Fatal(err)
	}
	if program("mount.nfs") == "" && strings.Join(cmd.Args, " ") != "mount -i -t nfs -o nosuid,nodev,soft,timeo=50,retrans=2,vers=4.2,addr=127.0.0.1 127.0.0.1:/export /p" {
		t.Errorf("%v", cmd.Args)
	}
	w.config.NFSTimeout = 3 * time.Second
	w.refused(launch("", share("127.0.0.1")), padisv1.ReasonVolumeFailed, "mount 127.0.0.1:/export: ")
}

// What an executor that was killed left half made is taken away by the next one, and nothing else.
func TestReleaseWhatAnotherMade(t *testing.T) {
	w := newWorld(t)
	precious := w.write("precious", "x", 0o644)
	dir := filepath.Join(volume.Dir(w.dir), "half")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(filepath.Dir(precious), inner, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := w.host().Release(w.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if left := w.mounted(); len(left) > 0 {
		t.Errorf("mounted %v", left)
	}
	w.prepare(launch("", empty(0, false)))
	if _, err := w.host().Prepare(t.Context(), w.dir, launch("", empty(0, false))); err == nil {
		t.Error("prepared twice")
	}
}

// The container runtime may live in another mount namespace than the executor: what is mounted is mounted there.
func TestNamespace(t *testing.T) {
	w := newWorld(t)
	cmd := exec.Command("/proc/self/exe", waitVerb)
	cmd.Env = append(os.Environ(), innerEnv+"=")
	// No Pdeathsig: it comes when the thread ends that started the process, and threads end here.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); _ = cmd.Wait() }()
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	found := func() (string, error) { return fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid), nil }
	w.config.Namespace = found
	w.helper(`exec mount -t tmpfs tmpfs "$2"`)
	l := secret("one")
	l.Template.Volumes = append(l.Template.Volumes, share("192.0.2.7"))
	mounts := w.prepare(l)
	there := func() []string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return volume.MountPoints(string(b), w.state)
	}
	if len(w.mounted()) > 0 || len(there()) != 2 {
		t.Errorf("here %v, there %v", w.mounted(), there())
	}
	key := filepath.Join(fmt.Sprintf("/proc/%d/root", cmd.Process.Pid), mounts[1].Source, "key")
	if b, err := os.ReadFile(key); err != nil || string(b) != "one" {
		t.Errorf("%q, %v", b, err)
	}
	signals, err := w.host().Update(w.dir, l, secret("two").GetConfigs())
	if b, _ := os.ReadFile(key); err != nil || string(b) != "two" || !slices.Equal(signals, []string{"SIGHUP"}) {
		t.Errorf("%q, %v, %v", b, signals, err)
	}
	if err := w.host().Release(w.dir); err != nil || len(there()) > 0 {
		t.Errorf("%v, there %v", err, there())
	}

	// While the container runtime is away, its namespace is the one that was known; if none was, nothing is mounted.
	away := false
	w.config.Namespace = func() (string, error) {
		if away {
			return "", errors.New("it is away")
		}
		return found()
	}
	known := w.host()
	if _, err := known.Prepare(t.Context(), w.dir, l); err != nil || len(there()) != 2 {
		t.Fatalf("%v, there %v", err, there())
	}
	away = true
	if err := w.host().Release(w.dir); err == nil || !strings.Contains(err.Error(), "it is away") {
		t.Errorf("%v", err)
	}
	err = known.Release(w.dir)
	if left := there(); err != nil || len(left) > 0 {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", cmd.Process.Pid))
		t.Errorf("%v, left %v\n%s", err, left, b)
	}
	away = false
}

func TestNamespaceOf(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := NamespaceOf(socket)
	if want := fmt.Sprintf("/proc/%d/ns/mnt", os.Getpid()); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := NamespaceOf(socket + "-absent"); err == nil {
		t.Error("found at a socket that is not there")
	}
}
