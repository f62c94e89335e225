package kernel

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// inLab is what the test binary does in the lab.
const inLab = "PADIS_IN_LAB"

func need(t *testing.T) {
	t.Helper()
	switch reason, impossible := Missing(); {
	case impossible:
		t.Skip(reason)
	case reason != "":
		t.Fatal(reason)
	}
}

func TestMain(m *testing.M) {
	if what := os.Getenv(inLab); what != "" {
		if what == "hang" {
			os.Stdout.WriteString("hanging\n")
			for {
				time.Sleep(time.Hour)
			}
		}
		code, err := strconv.Atoi(what)
		if err != nil {
			code = 99
		}
		os.Stdout.WriteString(strings.Join(os.Args[1:], "|") + "\n" + strings.Repeat("0123456789abcdef\n", 1<<13))
		os.Stderr.WriteString("the end")
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// A test binary gets its arguments as they are, and all of its output and its exit code come back, by several kernels at
// the same time, with and without the preloaded ptrace.
func TestABinaryRunsAsItIs(t *testing.T) {
	need(t)
	for _, shim := range []bool{false, true} {
		for _, code := range []int{0, 3} {
			t.Run(strconv.FormatBool(shim)+strconv.Itoa(code), func(t *testing.T) {
				t.Parallel()
				var live strings.Builder
				l := Lab{Memory: 128, Env: []string{inLab + "=" + strconv.Itoa(code)}, Output: &live, shim: shim}
				r, err := l.Run(t.Context(), os.Args[0], "a b", "it's", `$HOME "\`)
				if err != nil {
					t.Fatal(err)
				}
				want := `a b|it's|$HOME "\` + "\n" + strings.Repeat("0123456789abcdef\n", 1<<13) + "the end"
				if r.ExitCode != code || r.Output != want {
					t.Errorf("exit code %d, %d bytes of output, want %d and %d", r.ExitCode, len(r.Output), code, len(want))
				}
				if live.String() != r.Output {
					t.Errorf("%d bytes as they were written, %d at last", live.Len(), len(r.Output))
				}
			})
		}
	}
}

// What the machine's kernel may lack is there.
func TestModulesAreThere(t *testing.T) {
	need(t)
	l := Lab{Modules: []string{"8021q", "openvswitch", "ip_vs_mh"}, Memory: 128}
	r, err := l.Run(t.Context(), "/bin/sh", "-c", "ip link add v0 type veth peer name v1 && ip link add link v0 name v0.5 type vlan id 5 && ip -d link show v0.5 && cat /proc/net/ip_vs")
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 || !strings.Contains(r.Output, "vlan protocol 802.1Q id 5") || !strings.Contains(r.Output, "IP Virtual Server") {
		t.Errorf("exit code %d: %s", r.ExitCode, r.Output)
	}
	l.Modules = []string{"no-such-module"}
	if r, err = l.Run(t.Context(), "/bin/true"); err != nil || r.ExitCode != 125 || !strings.Contains(r.Output, "has no module no-such-module") {
		t.Errorf("%+v, %v", r, err)
	}
}

// A command that does not end is ended, with its kernel and all that runs in it, and nothing of it stays.
func TestWhatHangsIsEnded(t *testing.T) {
	need(t)
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := Lab{Memory: 128, Env: []string{inLab + "=hang"}, Output: writer(cancel)}.Run(ctx, os.Args[0])
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "hanging") {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// All of it had this directory's name in its command line, or was traced by who had.
	if err := exec.Command("pgrep", "-f", os.Getenv("TMPDIR")).Run(); err == nil {
		t.Error("a process of the lab is still there")
	}
}

// writer ends the lab as soon as something is written.
type writer func()

func (w writer) Write(b []byte) (int, error) {
	w()
	return len(b), nil
}
