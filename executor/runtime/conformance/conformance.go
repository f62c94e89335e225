// Package conformance is what every runtime must do, as a test that a runtime's own test calls: Run for plain processes,
// RunKeeper for containers, of which more is asked. Edge: talks to the runtime under test.
package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// patience bounds how long a case waits for a process; no case depends on how long something takes.
const patience = 20 * time.Second

// cases are what all runtimes do.
var cases = map[string]func(*testing.T, suite){
	"arguments and environment": environment,
	"exit codes":                exitCodes,
	"first of its processes":    firstProcess,
	"names and files":           names,
	"own network":               ownNetwork,
	"network of the host":       hostNetwork,
	"stop by default action":    stopByDefault,
	"stop by a handler":         stopByHandler,
	"stop ignored, then kill":   stopIgnored,
	"end takes all processes":   endTakesAll,
	"kill before start":         killBeforeStart,
	"kill and close":            killAndClose,
	"command not found":         commandNotFound,
	"user":                      user,
	"run":                       runInside,
	"exec":                      execPlain,
	"exec with a terminal":      execTerminal,
	"many at once":              many,
}

// processCases are what plain processes do, and containers otherwise.
var processCases = map[string]func(*testing.T, suite){
	"working directory": workingDirectory,
	"not a program":     notAProgram,
}

// Run holds a runtime of plain processes against all cases. The host needs sh, sleep, cat, id and hostname.
func Run(t *testing.T, rt runtime.Runtime) {
	s := suite{rt: rt, home: "none", unknownGroup: "4711"}
	s.run(t, cases)
	s.run(t, processCases)
}

func (s suite) run(t *testing.T, all map[string]func(*testing.T, suite)) {
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, s)
		})
	}
}

// suite is a runtime under test, and how instances of its kind differ.
type suite struct {
	rt runtime.Runtime
	// containers is set when it runs images.
	containers *Containers
	// dir is where every user may write; empty is the working directory. home is $HOME of root. unknownGroup is the group
	// of a user by number whom nobody knows.
	dir, home, unknownGroup string
}

// made numbers instances, whose names are unique for all times.
var made atomic.Int64

// process is an instance and what it has written.
type process struct {
	runtime.Instance
	t       testing.TB
	spec    runtime.Spec
	readers []*os.File
	mu      sync.Mutex
	output  bytes.Buffer
	eof     chan struct{}
	// left tells that somebody else has it now.
	left bool
}

// Sandbox makes a sandbox as the executor does.
func Sandbox(t testing.TB) string {
	dir := t.TempDir()
	for _, d := range []string{"work", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/hosts": "127.0.0.1 localhost\n10.44.0.5 web-0\n", "etc/resolv.conf": "nameserver 10.44.0.53\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The user of an instance must be able to reach its sandbox.
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (s suite) spec(t testing.TB, change func(*runtime.Spec), command []string) runtime.Spec {
	t.Helper()
	spec := runtime.Spec{
		ID:  fmt.Sprintf("%s-%d", strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()), made.Add(1)),
		Dir: Sandbox(t), Hostname: "web-0", Command: command,
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "GREETING=hello world"},
	}
	if s.containers != nil {
		spec.Container = &runtime.Container{Image: s.containers.Image}
	}
	if change != nil {
		change(&spec)
	}
	return spec
}

func (s suite) create(t testing.TB, change func(*runtime.Spec), command ...string) *process {
	t.Helper()
	p, err := s.tryCreate(t, change, command...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s suite) tryCreate(t testing.TB, change func(*runtime.Spec), command ...string) (*process, error) {
	t.Helper()
	spec := s.spec(t, change, command)
	p := &process{t: t, spec: spec, eof: make(chan struct{})}
	var theirs *os.File
	if spec.Container == nil {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p.readers, theirs = []*os.File{r}, w
		spec.Stdout, spec.Stderr = int(w.Fd()), int(w.Fd())
	} else {
		p.readers = namedPipes(t, spec.Dir)
	}
	i, err := s.rt.Create(spec)
	if theirs != nil {
		theirs.Close()
	}
	if err != nil {
		for _, r := range p.readers {
			r.Close()
		}
		return nil, err
	}
	p.Instance = i
	p.listen()
	t.Cleanup(p.end)
	return p, nil
}

// end removes an instance, however it is by then.
func (p *process) end() {
	if p.left {
		return
	}
	if err := p.Kill(); err != nil {
		p.t.Error(err)
	}
	p.wait()
	if err := p.Close(); err != nil {
		p.t.Error(err)
	}
}

func (p *process) listen() {
	var all sync.WaitGroup
	for _, r := range p.readers {
		all.Go(func() { p.hear(r) })
	}
	go func() {
		all.Wait()
		close(p.eof)
	}()
}

func (p *process) hear(r *os.File) {
	defer r.Close()
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		p.mu.Lock()
		p.output.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.t.Errorf("read the output: %v", err)
			}
			return
		}
	}
}

func (s suite) start(t testing.TB, change func(*runtime.Spec), command ...string) *process {
	t.Helper()
	p := s.create(t, change, command...)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) wait() runtime.Exit {
	p.t.Helper()
	c := make(chan runtime.Exit, 1)
	go func() { c <- p.Wait() }()
	select {
	case e := <-c:
		return e
	case <-time.After(patience):
		p.t.Fatal("the instance does not end")
		return runtime.Exit{}
	}
}

// all returns the whole output, when nobody can write any more.
func (p *process) all() string {
	p.t.Helper()
	select {
	case <-p.eof:
	case <-time.After(patience):
		p.t.Fatal("somebody still holds the output")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func (p *process) says(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		have := p.output.String()
		p.mu.Unlock()
		if strings.Contains(have, text) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("it never said %q, but %q", text, have)
		}
	}
}

func expect(t testing.TB, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func environment(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", `echo "$GREETING|$1|$2|${HOME-none}"; echo oops >&2`, "sh", "a b", "")
	expect(t, p.wait(), runtime.Exit{})
	if got, out, err := p.all(), "hello world|a b||"+s.home+"\n", "oops\n"; got != out+err && got != err+out {
		t.Errorf("it said %q, want %q and %q", got, out, err)
	}
}

func exitCodes(t *testing.T, s suite) {
	for _, code := range []int{0, 1, 7, 255} {
		expect(t, s.start(t, nil, "sh", "-c", fmt.Sprint("exit ", code)).wait(), runtime.Exit{Code: code})
	}
}

func firstProcess(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l")
	p.wait()
	// The shell and the two of the pipeline at most: a /proc of its own.
	lines := strings.Fields(p.all())
	if len(lines) != 2 || lines[0] != "1" || len(lines[1]) > 1 {
		t.Errorf("process id and number of processes: %v", lines)
	}
}

func names(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", "hostname; cat /etc/hosts /etc/resolv.conf")
	expect(t, p.wait(), runtime.Exit{})
	expect(t, p.all(), "web-0\n127.0.0.1 localhost\n10.44.0.5 web-0\nnameserver 10.44.0.53\n")
}

func ownNetwork(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1; readlink /proc/self/ns/net")
	p.wait()
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(p.all())
	if len(lines) != 2 || lines[0] != "lo" || lines[1] == host {
		t.Errorf("interfaces and namespace: %v; the host's is %s", lines, host)
	}
	expect(t, p.NetworkNamespace() > 0, true)
}

// With the host's network an instance has its own names and files all the same.
func hostNetwork(t *testing.T, s suite) {
	p := s.start(t, func(spec *runtime.Spec) { spec.HostNetwork = true }, "sh", "-c", "readlink /proc/self/ns/net; hostname; cat /etc/resolv.conf; sleep 1000")
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	p.says(host + "\nweb-0\nnameserver 10.44.0.53\n")
	own, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.NetworkNamespace()))
	expect(t, err, nil)
	expect(t, own, host)
}

func stopByDefault(t *testing.T, s suite) {
	for _, sig := range []string{"SIGTERM", "SIGINT", "SIGUSR1"} {
		p := s.start(t, nil, "sleep", "1000")
		if err := p.Stop(sig); err != nil {
			t.Fatal(err)
		}
		expect(t, p.wait().Signal, sig)
	}
	// What the signal's default action ignores, does not end it.
	p := s.start(t, nil, "sleep", "1000")
	if err := p.Stop("SIGWINCH"); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	expect(t, p.wait().Signal, "SIGKILL")
	if err := p.Stop("SIGNONSENSE"); err == nil {
		t.Error("there is no such signal")
	}
}

func stopByHandler(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", `trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.02; done`)
	p.says("ready")
	if err := p.Stop("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	expect(t, p.wait(), runtime.Exit{Code: 7})
	expect(t, p.all(), "ready\nbye\n")
}

func stopIgnored(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.02; echo on; done`)
	p.says("ready")
	if err := p.Stop("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	p.says("on\non\non\n")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	expect(t, p.wait().Signal, "SIGKILL")
}

func endTakesAll(t *testing.T, s suite) {
	p := s.start(t, nil, "sh", "-c", "(trap '' HUP TERM; sleep 1000) & setsid sleep 1000 & echo ready; exit 0")
	p.says("ready")
	expect(t, p.wait(), runtime.Exit{})
	p.all()
}

func killBeforeStart(t *testing.T, s suite) {
	p := s.create(t, nil, "sleep", "1000")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	expect(t, p.wait().Signal, "SIGKILL")
	if err := p.Start(); err == nil {
		t.Error("started what was killed")
	}
}

func killAndClose(t *testing.T, s suite) {
	p := s.start(t, nil, "sleep", "1000")
	if err := p.Close(); err == nil {
		t.Error("closed what still runs")
	}
	for range 3 {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	p.wait()
	for _, err := range []error{p.Kill(), p.Stop("SIGTERM")} {
		if err != nil {
			t.Errorf("after the end: %v", err)
		}
	}
}

// refused returns what Create or Start says of an instance that cannot be.
func (s suite) refused(t *testing.T, reason string, change func(*runtime.Spec), command ...string) string {
	t.Helper()
	p, err := s.tryCreate(t, change, command...)
	if err == nil {
		err = p.Start()
	}
	var start *runtime.StartError
	if !errors.As(err, &start) || start.Reason != reason {
		t.Errorf("%v: got %v, want a StartError of reason %s", command, err, reason)
		return ""
	}
	if p != nil {
		p.wait()
	}
	return start.Message
}

func commandNotFound(t *testing.T, s suite) {
	message := s.refused(t, padisv1.ReasonCommandNotFound, nil, "no-such-program", "x")
	if !strings.Contains(message, "no-such-program") || !strings.Contains(message, "template.command") {
		t.Errorf("%q does not say what to do", message)
	}
	s.refused(t, padisv1.ReasonCommandNotFound, nil, "/no/such/program")
	s.refused(t, padisv1.ReasonCommandNotFound, nil, "/etc/passwd")
	s.refused(t, padisv1.ReasonCommandNotFound, nil, "/")
	s.refused(t, padisv1.ReasonCommandNotFound, nil)
}

func notAProgram(t *testing.T, s suite) {
	s.refused(t, padisv1.ReasonCommandNotFound, func(s *runtime.Spec) {
		name := filepath.Join(s.Dir, "work", "garbage")
		if err := os.WriteFile(name, []byte("\x00garbage"), 0o755); err != nil {
			t.Fatal(err)
		}
	}, "./garbage")
}

func user(t *testing.T, s suite) {
	message := s.refused(t, padisv1.ReasonUserNotFound, func(s *runtime.Spec) { s.User = "no-such-user" }, "id")
	if !strings.Contains(message, "no-such-user") {
		t.Errorf("%q does not name the user", message)
	}
	s.refused(t, padisv1.ReasonUserNotFound, func(s *runtime.Spec) { s.User = "root:no-such-group" }, "id")
	if b, err := os.ReadFile("/proc/self/uid_map"); err != nil || len(strings.Fields(string(b))) != 3 || !strings.HasSuffix(strings.TrimSpace(string(b)), "4294967295") {
		t.Log("in a user namespace: no other users to run as")
		return
	}
	for name, want := range map[string]string{"nobody": "65534 65534", "4711": "4711 " + s.unknownGroup, "4711:12": "4711 12", "root": "0 0"} {
		p := s.start(t, func(spec *runtime.Spec) { spec.User, spec.WorkingDir = name, s.dir }, "sh", "-c", "echo $(id -u) $(id -g) $(grep NoNewPrivs /proc/self/status); echo x >mine && echo y >/dev/stdout")
		expect(t, p.wait(), runtime.Exit{})
		expect(t, p.all(), want+" NoNewPrivs: 1\ny\n")
		out, err := p.Run([]string{"id", "-u"}, patience)
		if err == nil {
			t.Errorf("ran %+v in what has ended", out)
		}
	}
	p := s.start(t, func(s *runtime.Spec) { s.User = "nobody" }, "sleep", "1000")
	out, err := p.Run([]string{"id", "-u"}, patience)
	expect(t, err, nil)
	expect(t, out.Text, "65534")
}

func workingDirectory(t *testing.T, s suite) {
	var dir string
	p := s.start(t, func(s *runtime.Spec) { dir = s.Dir }, "pwd")
	p.wait()
	expect(t, p.all(), filepath.Join(dir, "work")+"\n")
	p = s.start(t, func(s *runtime.Spec) { s.WorkingDir = "/usr/bin" }, "pwd")
	p.wait()
	expect(t, p.all(), "/usr/bin\n")
	message := s.refused(t, padisv1.ReasonSandboxFailed, func(s *runtime.Spec) { s.WorkingDir = "missing" }, "pwd")
	if !strings.Contains(message, "template.workingDir") {
		t.Errorf("%q does not say what to do", message)
	}
}

func runInside(t *testing.T, s suite) {
	p := s.start(t, nil, "sleep", "1000")
	out, err := p.Run([]string{"sh", "-c", `hostname; echo "$GREETING"; readlink /proc/self/ns/net; exit 3`}, patience)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.NetworkNamespace()))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, out, runtime.Output{Exit: runtime.Exit{Code: 3}, Text: "web-0\nhello world\n" + ns})
	out, err = p.Run([]string{"sh", "-c", "echo slow; sleep 1000"}, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, out.TimedOut, true)
	var start *runtime.StartError
	if _, err := p.Run([]string{"no-such-program"}, patience); !errors.As(err, &start) || start.Reason != padisv1.ReasonCommandNotFound {
		t.Errorf("a command that does not exist: %v", err)
	}
	out, err = p.Run([]string{"sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x"}, patience)
	if err != nil || out.Code != 0 || len(out.Text) > 4096 {
		t.Errorf("long output: %d bytes, %v, %v", len(out.Text), out.Exit, err)
	}
}

func many(t *testing.T, s suite) {
	var all [14]*process
	for i := range all {
		all[i] = s.create(t, nil, "sh", "-c", fmt.Sprintf("echo %d; exec sleep 1000", i))
	}
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			if err := p.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, p := range all {
		p.says(fmt.Sprint(i))
	}
}
