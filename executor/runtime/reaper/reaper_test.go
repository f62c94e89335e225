package reaper

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is, by its first argument, also the init.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		os.Exit(Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func command(args ...string) *exec.Cmd {
	return exec.Command("/proc/self/exe", append([]string{Verb}, args...)...)
}

func TestExitCodes(t *testing.T) {
	for line, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		cmd := command("--", "sh", "-c", line)
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit code %d, want %d", line, got, want)
		}
	}
}

func TestWhatCannotRun(t *testing.T) {
	for _, c := range []struct {
		want int
		args []string
	}{{2, nil}, {2, []string{"sh"}}, {2, []string{"--"}}, {127, []string{"--", "no-such-program"}}, {127, []string{"--", "/no/such/program"}}, {126, []string{"--", "/etc/passwd"}}} {
		cmd := command(c.args...)
		var said bytes.Buffer
		cmd.Stderr = &said
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.want || said.Len() == 0 {
			t.Errorf("%q: exit code %d, want %d; it said %q", c.args, got, c.want, said.String())
		}
	}
}

func TestSignalsAreHandedOn(t *testing.T) {
	cmd := command("--", "sh", "-c", `trap "echo bye; exit 9" TERM; echo ready; while :; do sleep 0.02; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatal(lines.Text())
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "bye" {
		t.Error(lines.Text())
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 9 {
		t.Errorf("exit code %d", got)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a PID namespace needs root")
	}
	// In a /proc of its own, a zombie would be seen for ever.
	cmd := command("--", "sh", "-c", `mount -t proc proc /proc || exit 1; sh -c 'sleep 0 & sleep 0 & exit 0'; while grep -sq "State:.Z" /proc/[0-9]*/status; do sleep 0.01; done; echo clean`)
	// Unshareflags, unlike Cloneflags, make the mounts private first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	out, err := cmd.Output()
	if err != nil || !strings.HasSuffix(string(out), "clean\n") {
		t.Errorf("%q, %v", out, err)
	}
}
