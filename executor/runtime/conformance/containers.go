package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Containers is a runtime of images under test.
type Containers struct {
	// Open opens the same owner's runtime once more, as another executor does; leave ends that executor.
	Open func(testing.TB) (k runtime.Keeper, leave func())
	// Image has busybox, the users root and nobody, a /tmp for all, a directory /data with a file "of-the-image", the
	// environment FROM_IMAGE=yes, and neither entrypoint nor arguments. ImageThatSays has, beside that, the entrypoint
	// "echo entry" and the argument "point", the user nobody and the working directory /tmp.
	Image, ImageThatSays runtime.Image
	// Restart kills whatever daemon serves the runtime, and starts it again.
	Restart func(testing.TB)
	// Traces lists what is on the host because of containers: records, file systems, mounts, control groups, processes.
	Traces func(testing.TB) []string
}

var containerCases = map[string]func(*testing.T, suite){
	"image":                     imageDefaults,
	"working directory":         containerDirectory,
	"limits":                    limits,
	"memory":                    memory,
	"read-only root":            readOnlyRoot,
	"capabilities":              capabilities,
	"privileges":                privileges,
	"mounts":                    mounts,
	"init":                      withInit,
	"signals of a program":      ownSignals,
	"adopt what runs":           adoptRunning,
	"adopt what has ended":      adoptEnded,
	"adopt what was asked to":   adoptAsked,
	"adopt what is not there":   adoptNothing,
	"discard":                   discard,
	"names are unique":          uniqueNames,
	"files of a container":      ownFiles,
	"image that is not there":   noImage,
	"user of a command":         userOfCommand,
	"many labels are too many":  manyLabels,
	"clean after what is wrong": nothingOfARefusal,
}

// RunKeeper holds a runtime of images against all cases, and looks that they leave nothing behind.
func RunKeeper(t *testing.T, c Containers) {
	k, leave := c.Open(t)
	defer leave()
	s := suite{rt: k, containers: &c, dir: "/tmp", home: "/root", unknownGroup: "0"}
	before := c.Traces(t)
	t.Run("cases", func(t *testing.T) {
		s.run(t, cases)
		s.run(t, containerCases)
	})
	// Alone, since it takes the daemon from all.
	t.Run("daemon away", func(t *testing.T) { daemonAway(t, s) })
	var after []string
	until(t, func() bool {
		after = c.Traces(t)
		return slices.Equal(before, after)
	}, func() string { return fmt.Sprintf("nothing is left: before %q, after %q", before, after) })
}

func (s suite) keeper() runtime.Keeper { return s.rt.(runtime.Keeper) }

// namedPipes makes the pipes of a container's output, and returns the ends that are read.
func namedPipes(t testing.TB, dir string) []*os.File {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "io"), 0o700); err != nil {
		t.Fatal(err)
	}
	var all []*os.File
	for _, name := range []string{"stdout", "stderr"} {
		path := filepath.Join(dir, "io", name)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

func (s suite) says(t testing.TB, change func(*runtime.Spec), script string) string {
	t.Helper()
	p := s.start(t, change, "sh", "-c", script)
	expect(t, p.wait(), runtime.Exit{})
	return p.all()
}

func imageDefaults(t *testing.T, s suite) {
	expect(t, s.says(t, nil, "echo $FROM_IMAGE $GREETING"), "yes hello world\n")
	expect(t, s.says(t, func(s *runtime.Spec) { s.Env = append(s.Env, "FROM_IMAGE=no") }, "echo $FROM_IMAGE"), "no\n")
	ready := func(change func(*runtime.Spec)) string {
		p := s.start(t, func(spec *runtime.Spec) {
			spec.Container.Image = s.containers.ImageThatSays
			if change != nil {
				change(spec)
			}
		})
		expect(t, p.wait(), runtime.Exit{})
		return p.all()
	}
	expect(t, ready(nil), "entry point\n")
	expect(t, ready(func(s *runtime.Spec) { s.Container.Args = []string{"of", "ours"} }), "entry of ours\n")
	expect(t, ready(func(s *runtime.Spec) { s.Command = []string{"sh", "-c", "id -u; pwd"} }), "65534\n/tmp\n")
	expect(t, ready(func(s *runtime.Spec) {
		s.Command, s.Container.Args = []string{"sh", "-c", `echo "$@"; id -u`, "sh"}, []string{"more", "of it"}
		s.User = "root"
	}), "more of it\n0\n")
}

func containerDirectory(t *testing.T, s suite) {
	expect(t, s.says(t, nil, "pwd"), "/\n")
	expect(t, s.says(t, func(s *runtime.Spec) { s.WorkingDir = "/usr/bin" }, "pwd"), "/usr/bin\n")
	expect(t, s.says(t, func(spec *runtime.Spec) {
		spec.Container.Image, spec.WorkingDir, spec.User = s.containers.ImageThatSays, "below", "root"
	}, "pwd"), "/tmp/below\n")
}

func limits(t *testing.T, s suite) {
	const show = "cd /sys/fs/cgroup; cat %[1]s/%[2]s 2>/dev/null || cat %[3]s"
	for _, c := range []struct{ dir, v1, v2, want1, want2 string }{
		{"cpu", "cpu.cfs_quota_us", "cpu.max", "25000\n", "25000 100000\n"},
		{"memory", "memory.limit_in_bytes", "memory.max", "67108864\n", "67108864\n"},
		{"pids", "pids.max", "pids.max", "17\n", "17\n"},
	} {
		got := s.says(t, func(s *runtime.Spec) {
			s.Container.Limits = runtime.Limits{CPUMilli: 250, MemoryBytes: 64 << 20, Pids: 17}
		}, fmt.Sprintf(show, c.dir, c.v1, c.v2))
		if got != c.want1 && got != c.want2 {
			t.Errorf("limit of %s: %q", c.dir, got)
		}
	}
	p := s.start(t, func(s *runtime.Spec) { s.Container.Limits.Pids = 8 }, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo all")
	p.wait()
	if got := p.all(); !strings.Contains(got, "fork") {
		t.Errorf("more processes than allowed: %q", got)
	}
}

func memory(t *testing.T, s suite) {
	small := func(s *runtime.Spec) { s.Container.Limits.MemoryBytes = 32 << 20 }
	p := s.start(t, small, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
	expect(t, p.wait(), runtime.Exit{Code: 137, Signal: "SIGKILL", OOMKilled: true})
	// A process of it, not the first.
	p = s.start(t, small, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1; exit 3")
	expect(t, p.wait(), runtime.Exit{Code: 3, OOMKilled: true})
	p = s.start(t, small, "sleep", "1000")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	expect(t, p.wait(), runtime.Exit{Code: 137, Signal: "SIGKILL"})
}

func secure(change func(*padisv1.Security)) func(*runtime.Spec) {
	return func(s *runtime.Spec) {
		s.Container.Security = &padisv1.Security{}
		change(s.Container.Security)
	}
}

func readOnlyRoot(t *testing.T, s suite) {
	const try = "if (echo x >/file) 2>/dev/null; then echo written; else echo not; fi; cat /etc/hosts | head -n 1"
	expect(t, s.says(t, nil, try), "written\n127.0.0.1 localhost\n")
	expect(t, s.says(t, secure(func(s *padisv1.Security) { s.ReadOnlyRoot = true }), try), "not\n127.0.0.1 localhost\n")
}

func capabilities(t *testing.T, s suite) {
	const show = "grep CapEff /proc/self/status | cut -f2"
	for want, change := range map[string]func(*padisv1.Security){
		"00000000a80425fb\n": func(*padisv1.Security) {},
		"00000000a80425da\n": func(s *padisv1.Security) { s.DropCapabilities = []string{"CHOWN", "cap_kill"} },
		"00000000a80435fb\n": func(s *padisv1.Security) { s.AddCapabilities = []string{"NET_ADMIN"} },
		"0000000000000000\n": func(s *padisv1.Security) { s.DropCapabilities = []string{"ALL"} },
		"0000000000000400\n": func(s *padisv1.Security) {
			s.DropCapabilities, s.AddCapabilities = []string{"ALL"}, []string{"NET_BIND_SERVICE"}
		},
	} {
		expect(t, s.says(t, secure(change), show), want)
	}
	message := s.refused(t, padisv1.ReasonInvalidLaunch, secure(func(s *padisv1.Security) { s.AddCapabilities = []string{"FLY"} }), "id")
	if !strings.Contains(message, "CAP_FLY") {
		t.Errorf("%q does not name the capability", message)
	}
	// A capability not given is felt, and given to commands neither.
	p := s.start(t, secure(func(s *padisv1.Security) { s.DropCapabilities = []string{"CHOWN"} }), "sleep", "1000")
	out, err := p.Run([]string{"chown", "nobody", "/data"}, patience)
	if err != nil || out.Code == 0 {
		t.Errorf("chown without the capability: %+v, %v", out, err)
	}
}

func privileges(t *testing.T, s suite) {
	const show = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f2"
	expect(t, s.says(t, nil, show), "1\n2\n")
	expect(t, s.says(t, secure(func(s *padisv1.Security) { s.AllowPrivilegeEscalation, s.SeccompUnconfined = true, true }), show), "0\n0\n")
}

func mounts(t *testing.T, s suite) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("of the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	with := func(all ...runtime.Mount) func(*runtime.Spec) {
		return func(s *runtime.Spec) { s.Container.Mounts = all }
	}
	expect(t, s.says(t, with(
		runtime.Mount{Type: "bind", Source: dir, Target: "/data"},
		runtime.Mount{Type: "bind", Source: filepath.Join(dir, "file"), Target: "/deep/below/file", Options: []string{"ro"}},
		runtime.Mount{Type: "tmpfs", Target: "/cache", Options: []string{"size=64k", "mode=1777"}},
	), `cat /data/file /deep/below/file; echo more >/data/written; echo x 2>/dev/null >/deep/below/file || echo read-only; head -c 100000 /dev/zero 2>/dev/null >/cache/big || echo full`),
		"of the host\nof the host\nread-only\nfull\n")
	if b, err := os.ReadFile(filepath.Join(dir, "written")); err != nil || string(b) != "more\n" {
		t.Errorf("written to the host's directory: %q, %v", b, err)
	}
	message := s.refused(t, padisv1.ReasonVolumeFailed, with(runtime.Mount{Type: "bind", Source: dir + "/missing", Target: "/data"}), "id")
	if !strings.Contains(message, dir+"/missing") {
		t.Errorf("%q does not name the path", message)
	}
	s.refused(t, padisv1.ReasonVolumeFailed, with(runtime.Mount{Type: "bind", Source: dir, Target: "/data/of-the-image"}), "id")
	s.refused(t, padisv1.ReasonVolumeFailed, with(runtime.Mount{Type: "nfs", Source: dir, Target: "/data"}), "id")
}

func withInit(t *testing.T, s suite) {
	init := func(s *runtime.Spec) { s.Container.Init = true }
	expect(t, s.says(t, init, "[ $$ != 1 ] && echo not the first"), "not the first\n")
	expect(t, s.start(t, init, "sh", "-c", "exit 9").wait(), runtime.Exit{Code: 9})
	for _, sig := range []string{"SIGTERM", "SIGUSR1"} {
		p := s.start(t, init, "sleep", "1000")
		if err := p.Stop(sig); err != nil {
			t.Fatal(err)
		}
		expect(t, p.wait().Signal, sig)
	}
	p := s.start(t, init, "sh", "-c", `trap "exit 4" TERM; echo ready; while :; do sleep 0.02; done`)
	p.says("ready")
	if err := p.Stop("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	expect(t, p.wait(), runtime.Exit{Code: 4})
	s.refused(t, padisv1.ReasonCommandNotFound, init, "no-such-program")
	s.refused(t, padisv1.ReasonCommandNotFound, init, "/no/such/program")
}

// ownSignals tells exit codes that look like signals from signals.
func ownSignals(t *testing.T, s suite) {
	expect(t, s.start(t, nil, "sh", "-c", "exit 143").wait(), runtime.Exit{Code: 143})
}

// leave lets another executor have an instance.
func (p *process) leave() { p.left = true }

// adopt is the same instance as another executor sees it.
func (p *process) adopt(k runtime.Keeper) *process {
	p.t.Helper()
	i, err := k.Adopt(context.Background(), p.spec.ID)
	if err != nil {
		p.t.Fatal(err)
	}
	next := &process{Instance: i, t: p.t, spec: p.spec, eof: p.eof}
	p.t.Cleanup(next.end)
	return next
}

// other is a suite whose executor can be ended before the test is.
func (s suite) other(t testing.TB) (suite, func()) {
	k, leave := s.containers.Open(t)
	o := s
	o.rt = k
	return o, leave
}

func adoptRunning(t *testing.T, s suite) {
	first, leave := s.other(t)
	p := first.start(t, nil, "sh", "-c", `trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.02; done`)
	p.says("ready")
	p.exec(runtime.ExecSpec{Command: []string{"sleep", "4321"}})
	p.leave()
	leave()
	next := p.adopt(s.keeper())
	expect(t, next.PID(), p.PID())
	expect(t, next.NetworkNamespace() > 0, true)
	// Nobody hears what the first executor ran, so it is ended.
	until(t, func() bool {
		out, err := next.Run([]string{"sh", "-c", "ps | grep -c '[s]leep 4321'"}, patience)
		return err == nil && out.Text == "0"
	}, func() string { return "the command of the first executor ends" })
	out, err := next.Run([]string{"sh", "-c", `echo "$GREETING"; hostname`}, patience)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, out.Text, "hello world\nweb-0")
	expect(t, ended(t, next.exec(runtime.ExecSpec{Command: []string{"sh", "-c", "exit 3"}})), runtime.Exit{Code: 3})
	found, err := s.keeper().Found(context.Background())
	if err != nil || !slices.Contains(found, p.spec.ID) {
		t.Errorf("found %q, %v", found, err)
	}
	if err := next.Stop("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	expect(t, next.wait(), runtime.Exit{Code: 7})
	expect(t, p.all(), "ready\nbye\n")
}

func adoptEnded(t *testing.T, s suite) {
	for name, seen := range map[string]bool{"seen by the first": true, "seen by nobody": false} {
		t.Run(name, func(t *testing.T) {
			first, leave := s.other(t)
			p := first.start(t, func(s *runtime.Spec) {
				if err := syscall.Mkfifo(filepath.Join(s.Dir, "wait"), 0o600); err != nil {
					t.Fatal(err)
				}
				s.Container.Mounts = []runtime.Mount{{Type: "bind", Source: filepath.Join(s.Dir, "wait"), Target: "/wait"}}
			}, "sh", "-c", "read line </wait; echo last; exit 5")
			p.leave()
			if !seen {
				leave()
			}
			w, err := os.OpenFile(filepath.Join(p.spec.Dir, "wait"), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteString("go\n"); err != nil {
				t.Fatal(err)
			}
			w.Close()
			if seen {
				expect(t, p.wait(), runtime.Exit{Code: 5})
				leave()
			} else {
				until(t, func() bool { return syscall.Kill(p.PID(), 0) != nil }, func() string { return "it ends by itself" })
			}
			next := p.adopt(s.keeper())
			expect(t, next.wait(), runtime.Exit{Code: 5})
			expect(t, p.all(), "last\n")
			expect(t, next.Kill(), nil)
			expect(t, next.Stop("SIGTERM"), nil)
		})
	}
}

// adoptAsked is what was stopped by the first executor, and ends when there is another.
func adoptAsked(t *testing.T, s suite) {
	first, leave := s.other(t)
	p := first.start(t, nil, "sleep", "1000")
	p.leave()
	leave()
	if err := p.Stop("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	expect(t, p.adopt(s.keeper()).wait().Signal, "SIGTERM")
}

func (s suite) gone(t *testing.T, k runtime.Keeper, id string) {
	t.Helper()
	_, err := k.Adopt(context.Background(), id)
	var start *runtime.StartError
	if !errors.As(err, &start) || start.Reason != padisv1.ReasonContainerGone {
		t.Errorf("adopted %s: %v, want a StartError of reason %s", id, err, padisv1.ReasonContainerGone)
	}
}

func adoptNothing(t *testing.T, s suite) {
	s.gone(t, s.keeper(), "no-such-instance")
	first, leave := s.other(t)
	p := first.create(t, nil, "sleep", "1000")
	p.leave()
	leave()
	s.gone(t, s.keeper(), p.spec.ID)
	if err := s.keeper().Discard(context.Background(), p.spec.ID); err != nil {
		t.Fatal(err)
	}
	p.all()
}

func discard(t *testing.T, s suite) {
	ctx := context.Background()
	for range 2 {
		expect(t, s.keeper().Discard(ctx, "no-such-instance"), nil)
	}
	for name, make := range map[string]func(s suite) *process{
		"running": func(s suite) *process { return s.start(t, nil, "sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000") },
		"ended": func(s suite) *process {
			p := s.start(t, nil, "true")
			p.wait()
			return p
		},
		"not started": func(s suite) *process { return s.create(t, nil, "true") },
	} {
		first, leave := s.other(t)
		p := make(first)
		p.leave()
		leave()
		if err := s.keeper().Discard(ctx, p.spec.ID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		p.all()
		s.gone(t, s.keeper(), p.spec.ID)
		found, err := s.keeper().Found(ctx)
		if err != nil || slices.Contains(found, p.spec.ID) {
			t.Errorf("%s: found %q, %v", name, found, err)
		}
	}
}

func uniqueNames(t *testing.T, s suite) {
	p := s.start(t, nil, "sleep", "1000")
	namedPipes(t, filepath.Join(p.spec.Dir, "again"))
	again := p.spec
	again.Dir = filepath.Join(p.spec.Dir, "again")
	if _, err := s.rt.Create(again); err == nil {
		t.Error("made twice under one name")
	}
	// The first does not mind.
	out, err := p.Run([]string{"echo", "on"}, patience)
	if err != nil || out.Text != "on" {
		t.Errorf("the first: %+v, %v", out, err)
	}
}

func ownFiles(t *testing.T, s suite) {
	expect(t, s.says(t, nil, "cat /etc/hostname; ls /data; touch /data/x; ls -l /dev/null | cut -c1-10"), "web-0\nof-the-image\ncrw-rw-rw-\n")
	// What one writes is not seen by the next.
	expect(t, s.says(t, nil, "ls /data"), "of-the-image\n")
}

func noImage(t *testing.T, s suite) {
	message := s.refused(t, padisv1.ReasonContainerFailed, func(s *runtime.Spec) {
		s.Container.Image = runtime.Image{Ref: "example.com/gone:1", Digest: "sha256:" + strings.Repeat("0", 64)}
	}, "id")
	if !strings.Contains(message, "example.com/gone:1") {
		t.Errorf("%q does not name the image", message)
	}
}

func userOfCommand(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", "echo eve:x:500:501::/:/bin/sh >>/etc/passwd; echo ready; exec sleep 1000")
	p.says("ready")
	for user, want := range map[string]string{"": "0 0\n", "nobody": "65534 65534\n", "eve": "500 501\n", "12:13": "12 13\n"} {
		var out text
		x := p.exec(runtime.ExecSpec{Command: []string{"sh", "-c", "echo $(id -u) $(id -g)"}, User: user, WorkingDir: "/tmp", Stdout: &out})
		expect(t, ended(t, x), runtime.Exit{})
		expect(t, out.String(), want)
	}
}

func manyLabels(t *testing.T, s suite) {
	s.refused(t, padisv1.ReasonInvalidLaunch, func(s *runtime.Spec) {
		s.Container.Labels = map[string]string{}
		for i := range 50 {
			s.Container.Labels[fmt.Sprint("example.com/label-", i)] = strings.Repeat("x", 90)
		}
	}, "id")
}

// nothingOfARefusal looks that what Create refused is not found afterwards.
func nothingOfARefusal(t *testing.T, s suite) {
	var id string
	if _, err := s.tryCreate(t, func(s *runtime.Spec) { id = s.ID }, "no-such-program"); err == nil {
		return // then Start refuses, and the instance is there until Close
	}
	if found, err := s.keeper().Found(context.Background()); err != nil || slices.Contains(found, id) {
		t.Errorf("found %q, %v", found, err)
	}
}

// daemonAway kills what serves the runtime while containers run, and ends some meanwhile.
func daemonAway(t *testing.T, s suite) {
	first, leave := s.other(t)
	stays := s.start(t, nil, "sh", "-c", `trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.02; done`)
	adopted := first.start(t, nil, "sh", "-c", `trap "echo bye; exit 8" TERM; echo ready; while :; do sleep 0.02; done`)
	ends := s.start(t, nil, "sh", "-c", `trap "echo bye; exit 9" TERM; echo ready; while :; do sleep 0.02; done`)
	for _, p := range []*process{stays, adopted, ends} {
		p.says("ready")
	}
	adopted.leave()
	leave()
	// It ends at about the time at which nobody is there to ask.
	if err := ends.Stop("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	s.containers.Restart(t)
	expect(t, ends.wait(), runtime.Exit{Code: 9})
	next := adopted.adopt(s.keeper())
	for p, code := range map[*process]int{stays: 7, next: 8} {
		out, err := p.Run([]string{"echo", "on"}, patience)
		if err != nil || out.Text != "on" {
			t.Errorf("a command: %+v, %v", out, err)
		}
		if err := p.Stop("SIGTERM"); err != nil {
			t.Fatal(err)
		}
		expect(t, p.wait(), runtime.Exit{Code: code})
	}
	for _, p := range []*process{stays, adopted, ends} {
		expect(t, p.all(), "ready\nbye\n")
	}
	// New ones can be made, too.
	expect(t, s.says(t, nil, "echo new"), "new\n")
}
