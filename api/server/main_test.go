package server

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/server/live"
)

// The test binary is also kubectl, and a server in a process of its own, when it is asked to be.
const (
	envRole    = "PADIS_TEST_ROLE"
	envDataDir = "PADIS_TEST_DATA"
	envAddress = "PADIS_TEST_ADDRESS"
)

// patience bounds how long a test waits for something that should happen at once.
const patience = 30 * time.Second

// shared is the server that most tests use; each works in namespaces and on names of its own.
var shared *instance

// instance is a running server.
type instance struct {
	*Server
	live *live.Stores
	logs *scriptedLogs
	into *fakeAccess
	stop func() error
}

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			cmdutil.CheckErr(err)
		}
		os.Exit(0)
	case "server":
		if err := serveUntilSignal(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testWithServer(m))
}

func testWithServer(m *testing.M) int {
	dir, err := os.MkdirTemp("", "padis-api-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tokens := "plain-token,bob,1,\"tenant-a\"\nmaster-token,alice,2,\"system:masters\"\n"
	if err := os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(tokens), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if shared, err = start(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		return 1
	}
	return code
}

// start runs a server on a data directory and a free port, and waits until it is ready.
func start(dir string) (*instance, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	out := &instance{live: live.NewStores(time.Now), logs: &scriptedLogs{}, into: &fakeAccess{}}
	if out.Server, err = New(Config{DataDir: dir, Listener: l, Live: out.live, Logs: out.logs, Access: out.into, Balances: fakeBalances{}, Plans: fakePlanner{}, Version: "0.0.0-test", Logger: testLogger()}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- out.Run(ctx) }()
	out.stop = func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return fmt.Errorf("still running %s after it was told to stop", patience)
		}
	}
	select {
	case <-out.Ready():
		return out, nil
	case err := <-ended:
		return nil, fmt.Errorf("ended before it was ready: %w", err)
	case <-time.After(patience):
		cancel()
		return nil, fmt.Errorf("not ready after %s", patience)
	}
}

func testLogger() *zap.Logger {
	if os.Getenv("PADIS_TEST_LOG") == "" {
		return zap.NewNop()
	}
	log, err := zap.NewDevelopment()
	if err != nil {
		return zap.NewNop()
	}
	return log
}

func serveUntilSignal() error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	s, err := New(Config{DataDir: os.Getenv(envDataDir), ListenAddress: os.Getenv(envAddress), Logger: testLogger()})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// result is what a command printed and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

// kubectlAs runs kubectl's own code in a process of its own, with the kubeconfig given.
func kubectlAs(t *testing.T, kubeconfig, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	return runCommand(t, cmd, kubeconfig, stdin)
}

func runCommand(t *testing.T, cmd *exec.Cmd, kubeconfig, stdin string) result {
	t.Helper()
	cmd.Env = append(os.Environ(), envRole+"=kubectl", "KUBECONFIG="+kubeconfig, "HOME="+t.TempDir(), "KUBECTL_EXTERNAL_DIFF=diff -u")
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := result{stdout: stdout.String(), stderr: stderr.String()}
	if err != nil {
		out.code = -1
		if cmd.ProcessState != nil {
			out.code = cmd.ProcessState.ExitCode()
		}
	}
	return out
}

// kc runs kubectl as administrator of the shared server and fails the test when it fails.
func kc(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	r := kubectlAs(t, shared.Kubeconfig(), stdin, args...)
	if r.code != 0 {
		t.Fatalf("kubectl %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// refused runs kubectl and expects it to fail with the texts.
func refused(t *testing.T, stdin string, wants []string, args ...string) {
	t.Helper()
	r := kubectlAs(t, shared.Kubeconfig(), stdin, args...)
	if r.code == 0 {
		t.Fatalf("kubectl %s was not refused:\n%s", strings.Join(args, " "), r.stdout)
	}
	for _, w := range wants {
		if !strings.Contains(r.stdout+r.stderr, w) {
			t.Errorf("kubectl %s: the refusal does not contain %q:\n%s", strings.Join(args, " "), w, r.stderr)
		}
	}
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, condition func() (bool, error)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for {
		var ok bool
		if ok, err = condition(); ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s (last error: %v)", what, patience, err)
		}
		<-tick.C
	}
}
