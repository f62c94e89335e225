// Package harness starts a whole Padis on this machine for end-to-end tests, the demo and benchmarks, and looks at it
// from outside. Edge: talks to processes, the API and /proc.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options of a cluster.
type Options struct {
	// Dir is the data directory; it must exist.
	Dir string
	// Hosts is the number of embedded hosts.
	Hosts int
	// Out receives what `padis up` prints.
	Out io.Writer
	// Args are further arguments of `padis up`.
	Args []string
	// Port of the API; 0 chooses a free one.
	Port int
	// Bin is the directory of the binaries; default is what Build gives.
	Bin string
	// UID to run as, with the group of the same number; 0 is the caller.
	UID uint32
}

// Cluster is a running `padis up`.
type Cluster struct {
	Dir     string
	Bin     string
	Port    int
	Started time.Duration // until the first `get apps` was answered

	up     *exec.Cmd
	exited chan struct{}
	config *rest.Config
	client dynamic.Interface
}

// Root is the project's folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Build compiles the binaries into bin/ unless they are given by PADIS_BIN.
func Build(ctx context.Context) (string, error) {
	if dir := os.Getenv("PADIS_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	cmd := exec.CommandContext(ctx, "make", "--no-print-directory", "-s", "build")
	cmd.Dir = Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Join(Root(), "bin"), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Start runs `padis up` and returns when the API answers a list of Apps. The caller calls Stop.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	var err error
	bin := o.Bin
	if bin == "" {
		if bin, err = Build(ctx); err != nil {
			return nil, err
		}
	}
	port := o.Port
	if port == 0 {
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	c := &Cluster{Dir: o.Dir, Bin: bin, Port: port, exited: make(chan struct{})}
	args := append([]string{"up", "--data-dir", o.Dir, "--hosts", fmt.Sprint(o.Hosts), "--listen", fmt.Sprintf("127.0.0.1:%d", port)}, o.Args...)
	c.up = exec.Command(filepath.Join(bin, "padis"), args...)
	c.up.Stdout, c.up.Stderr = o.Out, o.Out
	// Should the test die, `padis up` dies with it; it takes everything it started along.
	c.up.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if o.UID != 0 {
		c.up.SysProcAttr.Credential = &syscall.Credential{Uid: o.UID, Gid: o.UID}
		c.up.Env = append(os.Environ(), "HOME="+o.Dir)
	}
	began := time.Now()
	startErr := make(chan error, 1)
	go func() {
		// Pdeathsig is tied to the thread that forked: this one waits for as long as the child lives.
		runtime.LockOSThread()
		err := c.up.Start()
		startErr <- err
		if err == nil {
			_ = c.up.Wait()
		}
		close(c.exited)
	}()
	if err := <-startErr; err != nil {
		return nil, err
	}
	if err := c.waitAPI(ctx); err != nil {
		c.Stop()
		return nil, fmt.Errorf("the API did not answer: %w\n%s", err, c.LogTail("scheduler", 40))
	}
	c.Started = time.Since(began)
	return c, nil
}

func (c *Cluster) waitAPI(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		last := c.connect(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("padis up exited (%v); last: %w", c.up.ProcessState, last)
		case <-ctx.Done():
			return last
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *Cluster) connect(ctx context.Context) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return err
	}
	// A directory used before holds the kubeconfig of the platform before, whose scheduler may still be dying.
	if !strings.HasSuffix(cfg.Host, fmt.Sprintf(":%d", c.Port)) {
		return fmt.Errorf("%s still names %s", c.Kubeconfig(), cfg.Host)
	}
	cfg.QPS, cfg.Burst = 1000, 1000
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	c.config, c.client = cfg, client
	_, err = c.Apps(ctx, "")
	return err
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// Config is the administrator's client configuration.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Pid is the process id of `padis up`.
func (c *Cluster) Pid() int { return c.up.Process.Pid }

// Exited is closed when `padis up` has ended.
func (c *Cluster) Exited() <-chan struct{} { return c.exited }

// Stop ends `padis up` as Ctrl-C would, and kills it if that takes too long.
func (c *Cluster) Stop() {
	_ = c.up.Process.Signal(os.Interrupt)
	select {
	case <-c.exited:
	case <-time.After(30 * time.Second):
		_ = c.up.Process.Kill()
		<-c.exited
	}
}

// Padis runs the command line and returns what it printed on both streams.
func (c *Cluster) Padis(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, filepath.Join(c.Bin, "padis"), args...)
}

// Kubectl runs stock kubectl.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, filepath.Join(c.Bin, "kubectl"), args...)
}

// On runs a command on the network stack of an embedded host, or of "client".
func (c *Cluster) On(ctx context.Context, host string, args ...string) (string, error) {
	return c.Padis(ctx, append([]string{"on", "--data-dir", c.Dir, host, "--"}, args...)...)
}

func (c *Cluster) run(ctx context.Context, bin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "NO_COLOR=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(bin), strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

// LogTail returns the last lines of a component's log, for messages of failed tests.
func (c *Cluster) LogTail(component string, lines int) string {
	b, err := os.ReadFile(filepath.Join(c.Dir, "logs", component+".log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
