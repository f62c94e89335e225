package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"padis.io/padis/mesos/local/hosts"
)

// RouterASN is the autonomous system of a Router.
const RouterASN = 64500

// Router is a BIRD in the middle of a cluster's network, between its hosts and its client. What hosts announce to it by BGP
// it routes.
type Router struct {
	dir    string
	pid    int // of a process in its network
	cmd    *exec.Cmd
	exited chan struct{}
}

// Address is where the hosts find the router.
func (*Router) Address() string { return hosts.ManagementPrefix().Addr().String() }

// StartRouter runs a router that takes the hosts of the cluster for the autonomous system asn. Its files are in dir.
func (c *Cluster) StartRouter(ctx context.Context, dir string, asn int) (*Router, error) {
	inner, err := c.FindOne("up", "--inner")
	if err != nil {
		return nil, err
	}
	entries, err := hosts.ReadRegistry(c.Dir)
	if err != nil {
		return nil, err
	}
	r := &Router{dir: dir, exited: make(chan struct{})}
	var b strings.Builder
	fmt.Fprintf(&b, "log %q all;\nrouter id %s;\nprotocol device {}\nprotocol direct { ipv4; }\n", filepath.Join(dir, "bird.log"), r.Address())
	b.WriteString("protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }\n")
	for _, e := range entries {
		if e.Kind == hosts.KindHost {
			fmt.Fprintf(&b, "protocol bgp %s {\n  local %s as %d; neighbor %s as %d; direct;\n", strings.ReplaceAll(e.Name, "-", ""), r.Address(), RouterASN, e.Address, asn)
			b.WriteString("  error wait time 1, 2; error forget time 5; connect delay time 1; connect retry time 2;\n  ipv4 { import all; export none; };\n}\n")
		}
	}
	if err := r.start(ctx, inner.Pid, b.String()); err != nil {
		return nil, err
	}
	return r, nil
}

// start runs BIRD in the network of a process.
func (r *Router) start(ctx context.Context, pid int, config string) error {
	program, err := exec.LookPath("bird")
	if err != nil {
		return fmt.Errorf("%w: install Debian's package bird2", err)
	}
	r.pid = pid
	conf := filepath.Join(r.dir, "bird.conf")
	if err := os.WriteFile(conf, []byte(config), 0o600); err != nil {
		return err
	}
	r.cmd = exec.Command("nsenter", "-t", strconv.Itoa(pid), "-n", program, "-f", "-c", conf, "-s", r.socket(), "-P", filepath.Join(r.dir, "pid"))
	var out bytes.Buffer
	r.cmd.Stdout, r.cmd.Stderr = &out, &out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig is tied to the thread that forked: this one waits for as long as the child lives.
		runtime.LockOSThread()
		err := r.cmd.Start()
		started <- err
		if err == nil {
			_ = r.cmd.Wait()
		}
		close(r.exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	for {
		_, err := r.Ask("show", "status")
		if err == nil {
			return nil
		}
		select {
		case <-r.exited:
			return fmt.Errorf("bird ended: %s", out.String())
		case <-ctx.Done():
			r.Stop()
			return fmt.Errorf("bird does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *Router) socket() string { return filepath.Join(r.dir, "ctl") }

// Ask gives the router a command and returns its answer.
func (r *Router) Ask(command ...string) (string, error) {
	out, err := exec.Command("birdc", append([]string{"-s", r.socket()}, command...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("birdc %s: %w\n%s", strings.Join(command, " "), err, out)
	}
	return string(out), nil
}

// Log is what the router wrote.
func (r *Router) Log() string {
	b, err := os.ReadFile(filepath.Join(r.dir, "bird.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// WatchRoutes notes what changes in the routes of the middle of the cluster's network; the function that it returns ends that,
// and gives the lines.
func (c *Cluster) WatchRoutes() (stop func() string, err error) {
	inner, err := c.FindOne("up", "--inner")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd := exec.Command("nsenter", "-t", strconv.Itoa(inner.Pid), "-n", "ip", "-o", "monitor", "route")
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() string {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return out.String()
	}, nil
}

// Stop ends the router; it takes its routes along.
func (r *Router) Stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(5 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.exited
	}
}
