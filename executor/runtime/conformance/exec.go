package conformance

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// text is written to by a command and read by a test, at the same time.
type text struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (w *text) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.Write(b)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

func (w *text) says(t testing.TB, what string) {
	t.Helper()
	until(t, func() bool { return strings.Contains(w.String(), what) }, func() string { return "it said " + what + ", but " + w.String() })
}

func until(t testing.TB, done func() bool, never func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", never())
		}
	}
}

func (p *process) exec(spec runtime.ExecSpec) runtime.Process {
	p.t.Helper()
	x, err := p.Instance.(runtime.Executor).Exec(spec)
	if err != nil {
		p.t.Fatal(err)
	}
	return x
}

func ended(t testing.TB, x runtime.Process) runtime.Exit {
	t.Helper()
	c := make(chan runtime.Exit, 1)
	go func() { c <- x.Wait() }()
	select {
	case e := <-c:
		return e
	case <-time.After(patience):
		t.Fatal("the command does not end")
		return runtime.Exit{}
	}
}

func execPlain(t *testing.T, s suite) {
	p := s.start(t, nil, "sleep", "1000")
	var out, errs text
	x := p.exec(runtime.ExecSpec{
		Command: []string{"sh", "-c", `cat; echo "$GREETING $MORE"; echo oops >&2; exit 5`}, Env: []string{"MORE=and more"},
		Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errs,
	})
	for range 2 {
		expect(t, ended(t, x), runtime.Exit{Code: 5})
	}
	expect(t, out.String(), "typed\nhello world and more\n")
	expect(t, errs.String(), "oops\n")
	expect(t, x.Signal("SIGTERM"), nil)

	// Much output is written whole; nobody need hear it, nor say anything.
	var much text
	x = p.exec(runtime.ExecSpec{Command: []string{"sh", "-c", "head -c 300000 /dev/zero"}, Stdout: &much})
	expect(t, ended(t, x), runtime.Exit{})
	expect(t, len(much.String()), 300000)
	expect(t, ended(t, p.exec(runtime.ExecSpec{Command: []string{"sh", "-c", "cat; echo x; echo y >&2"}})), runtime.Exit{})

	expect(t, ended(t, p.exec(runtime.ExecSpec{Command: []string{"cat"}, Stdin: strings.NewReader("")})), runtime.Exit{})

	// What a command leaves in the background holds nothing up.
	var first text
	expect(t, ended(t, p.exec(runtime.ExecSpec{Command: []string{"sh", "-c", "sleep 1000 & echo first"}, Stdout: &first})), runtime.Exit{})
	expect(t, first.String(), "first\n")

	x = p.exec(runtime.ExecSpec{Command: []string{"sleep", "1000"}})
	if err := x.Signal("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	expect(t, ended(t, x).Signal, "SIGTERM")

	var start *runtime.StartError
	_, err := p.Instance.(runtime.Executor).Exec(runtime.ExecSpec{Command: []string{"no-such-program"}})
	if !errors.As(err, &start) || start.Reason != padisv1.ReasonCommandNotFound {
		t.Errorf("a command that does not exist: %v", err)
	}
	_, err = p.Instance.(runtime.Executor).Exec(runtime.ExecSpec{Command: []string{"id"}, User: "no-such-user"})
	if !errors.As(err, &start) || start.Reason != padisv1.ReasonUserNotFound {
		t.Errorf("a user who does not exist: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait()
	if _, err := p.Instance.(runtime.Executor).Exec(runtime.ExecSpec{Command: []string{"id"}}); !errors.As(err, &start) {
		t.Errorf("a command in what has ended: %v", err)
	}
}

func execTerminal(t *testing.T, s suite) {
	p := s.start(t, nil, "sleep", "1000")
	in, typed := io.Pipe()
	var out text
	x := p.exec(runtime.ExecSpec{
		Command: []string{"sh", "-c", `trap "stty size" WINCH; stty size; echo ready; until [ "$line" = hello ]; do read line || :; done; echo "got $line"; read line; exit 6`},
		TTY:     true, Width: 91, Height: 27, Stdin: in, Stdout: &out,
	})
	out.says(t, "27 91")
	out.says(t, "ready")
	if err := x.Resize(120, 40); err != nil {
		t.Fatal(err)
	}
	out.says(t, "40 120")
	if _, err := typed.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	out.says(t, "got hello")
	if _, err := typed.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	expect(t, ended(t, x), runtime.Exit{Code: 6})
	typed.Close()

	// Ctrl-C is for the command.
	in, typed = io.Pipe()
	x = p.exec(runtime.ExecSpec{Command: []string{"sleep", "1000"}, TTY: true, Width: 80, Height: 24, Stdin: in})
	defer typed.Close()
	if _, err := typed.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	expect(t, ended(t, x).Signal, "SIGINT")
}
