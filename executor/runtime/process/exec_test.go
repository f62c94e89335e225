package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// sleeper is an instance that runs until the test ends.
func sleeper(t *testing.T) runtime.Executor {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"work", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"hosts", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i, err := New("/proc/self/exe", 1).Create(runtime.Spec{
		ID: "sleeper", Dir: dir, Hostname: "sleeper", Command: []string{"sleep", "600"}, Env: []string{"PATH=/usr/bin:/bin", "COLOUR=red"}, Stdout: 2, Stderr: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Kill(); err != nil {
			t.Error(err)
		}
		i.Wait()
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := i.Start(); err != nil {
		t.Fatal(err)
	}
	return i.(runtime.Executor)
}

// transcript is output that a test waits for.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestExecReadsAndWrites(t *testing.T) {
	t.Parallel()
	i := sleeper(t)
	var out, errOut bytes.Buffer
	p, err := i.Exec(runtime.ExecSpec{
		Command: []string{"sh", "-c", "cat; hostname; echo $COLOUR $SHAPE; pwd >&2; exit 7"}, Env: []string{"COLOUR=blue", "SHAPE=round"}, WorkingDir: "/usr",
		Stdin: strings.NewReader("hello\n"), Stdout: &out, Stderr: &errOut,
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Code != 7 || e.Signal != "" || out.String() != "hello\nsleeper\nblue round\n" || errOut.String() != "/usr\n" {
		t.Errorf("%v, out %q, err %q", e, out.String(), errOut.String())
	}
	if err := p.Resize(1, 1); err != nil {
		t.Errorf("resize after the end: %v", err)
	}
}

func TestExecCarriesMuch(t *testing.T) {
	t.Parallel()
	i := sleeper(t)
	const size = 8 << 20
	var out bytes.Buffer
	p, err := i.Exec(runtime.ExecSpec{Command: []string{"cat"}, Stdin: io.LimitReader(zeros{}, size), Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Code != 0 || out.Len() != size {
		t.Errorf("%v, %d bytes", e, out.Len())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestExecWithATerminal(t *testing.T) {
	t.Parallel()
	i := sleeper(t)
	in, typing := io.Pipe()
	defer typing.Close()
	var out transcript
	p, err := i.Exec(runtime.ExecSpec{Command: []string{"sh"}, TTY: true, Width: 100, Height: 40, Stdin: in, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	typed := func(line, answer string) {
		t.Helper()
		if _, err := io.WriteString(typing, line+"\n"); err != nil {
			t.Fatal(err)
		}
		until(t, answer, func() bool { return strings.Contains(out.String(), answer) })
	}
	typed("stty size", "40 100")
	if err := p.Resize(120, 50); err != nil {
		t.Fatal(err)
	}
	typed("stty size", "50 120")
	typed("test -t 1 && echo on a$((1))terminal > /dev/tty", "on a1terminal")
	typed("exit 3", "exit 3")
	if e := p.Wait(); e.Code != 3 {
		t.Errorf("%v: %s", e, out.String())
	}
}

func TestExecIsToldTheEndOfItsInputByATerminal(t *testing.T) {
	t.Parallel()
	var out transcript
	p, err := sleeper(t).Exec(runtime.ExecSpec{Command: []string{"sh"}, TTY: true, Stdin: strings.NewReader("echo a$((1))b\n"), Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Code != 0 || !strings.Contains(out.String(), "a1b") {
		t.Errorf("%v: %s", e, out.String())
	}
}

func TestExecEndsBySignal(t *testing.T) {
	t.Parallel()
	p, err := sleeper(t).Exec(runtime.ExecSpec{Command: []string{"sleep", "600"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal("SIGNONE"); err == nil {
		t.Error("SIGNONE was sent")
	}
	if err := p.Signal("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Signal != "SIGTERM" || e.Code != 143 {
		t.Errorf("%v", e)
	}
	if err := p.Signal("SIGKILL"); err != nil {
		t.Errorf("a signal after the end: %v", err)
	}
}

func TestExecDoesNotWaitForWhatTheCommandLeft(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	began := time.Now()
	p, err := sleeper(t).Exec(runtime.ExecSpec{Command: []string{"sh", "-c", "sleep 500 & echo left"}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if e := p.Wait(); e.Code != 0 || out.String() != "left\n" || time.Since(began) > time.Minute {
		t.Errorf("%v after %s: %q", e, time.Since(began), out.String())
	}
}

func TestExecSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	i := sleeper(t)
	for reason, s := range map[string]runtime.ExecSpec{
		padisv1.ReasonCommandNotFound: {Command: []string{"no-such-command"}},
		padisv1.ReasonUserNotFound:    {Command: []string{"true"}, User: "nobody-of-that-name"},
		padisv1.ReasonSandboxFailed:   {Command: []string{"true"}, WorkingDir: "/no/such/directory"},
	} {
		_, err := i.Exec(s)
		var start *runtime.StartError
		if !errors.As(err, &start) || start.Reason != reason {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	if got := strings.Join(overlay([]string{"A=1", "B=2"}, []string{"B=3", "C="}), " "); got != "A=1 B=3 C=" {
		t.Error(got)
	}
}
