package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"padis.io/padis/api/why"
	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/mesos/local/hosts/supervise"
)

// upMarker is in the environment of everything that a `padis up` starts; its value is the data directory.
const upMarker = "PADIS_UP"

// stopTimeout is how long everything may take to stop before it is killed.
const stopTimeout = 45 * time.Second

// outer is the part of `padis up` that stays in the caller's namespaces: it holds the API's listener, the terminal and
// the registry of hosts, and knows the API.
type outer struct {
	config   upConfig
	progress *progress
	inner    *lines
	pid      int
	entries  []hosts.Entry
}

// runOuter runs everything until ctx ends. restoreSignals makes the next Ctrl-C kill at once.
func runOuter(ctx context.Context, restoreSignals func(), c upConfig, streams genericiooptions.IOStreams) error {
	o := &outer{config: c, progress: newProgress(streams.Out, c.Quiet)}
	for _, dir := range []string{c.DataDir, c.logDir(), filepath.Join(c.DataDir, "mesos", "master"), filepath.Join(c.DataDir, "hosts")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	lock, err := hosts.Lock(c.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	listener, address, err := listen(c.Listen)
	if err != nil {
		return err
	}
	o.progress.say(why.Plain, "api", "listens on "+address)
	if c.NoContainers != "" {
		o.progress.say(why.Plain, "containers", "off: "+c.NoContainers)
	}
	if l, err := listenOutside(outsidePath(c.DataDir)); err != nil {
		o.progress.say(why.Bad, "outside", "git servers and receivers of notifications cannot be reached: "+err.Error())
	} else {
		defer l.Close()
		go serveOutside(l, waysOut(c.LoopbackReceivers))
	}
	ended, control, err := o.startInner(listener)
	if err != nil {
		return err
	}
	defer control.Close()

	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go o.watchAPI(watching)
	received := make(chan error, 1)
	go func() { received <- receive(control, o.hear) }()

	select {
	case err := <-ended:
		return o.unexpected(err)
	case <-ctx.Done():
	}
	restoreSignals()
	o.progress.say(why.Plain, "padis", "stops; Ctrl-C again kills")
	if err := o.stop(ended); err != nil {
		return err
	}
	<-received
	o.progress.say(why.Plain, "padis", "stopped")
	return nil
}

// listen opens the API's listener; its file outlives the net.Listener.
func listen(address string) (*os.File, string, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, "", fmt.Errorf("%s is in use: stop what listens there, or choose another with --listen", address)
	}
	if err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", address, err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	return f, l.Addr().String(), err
}

// startInner starts the inner process in namespaces of its own. ended yields its end.
func (o *outer) startInner(listener *os.File) (ended <-chan error, control *os.File, err error) {
	attr, err := hosts.TreeAttributes()
	if err != nil {
		return nil, nil, err
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	log, err := supervise.OpenLog(o.config.logDir(), "up")
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(executable, o.config.arguments()...)
	cmd.Env = append(os.Environ(), upMarker+"="+o.config.DataDir)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{listener, theirs}
	cmd.SysProcAttr = attr
	started, end := make(chan error, 1), make(chan error, 1)
	go func() {
		// The kernel kills the inner process when the thread that made it ends: this one stays until it has ended.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			end <- cmd.Wait()
		}
	}()
	err = <-started
	closed := errors.Join(theirs.Close(), log.Close())
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start in namespaces of its own: %w", hosts.ExplainStart(err)), ours.Close())
	}
	// The listener stays open here, too: while the control plane is being restarted, clients wait instead of failing.
	o.pid = cmd.Process.Pid
	o.inner = &lines{w: ours}
	o.entries = []hosts.Entry{{Name: "switch", Kind: hosts.KindSwitch, Pid: o.pid, Address: hosts.ManagementPrefix().Addr().String()}}
	return end, ours, closed
}

// stop asks the inner process to stop everything, and kills it after stopTimeout.
func (o *outer) stop(ended <-chan error) error {
	if err := o.inner.send(order{Stop: true}); err != nil {
		o.progress.say(why.Bad, "padis", err.Error())
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("stop: %w%s", err, o.logTail())
		}
		return nil
	case <-timer.C:
	}
	if err := syscall.Kill(o.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	<-ended
	return fmt.Errorf("stop: not done after %v; everything was killed", stopTimeout)
}

// unexpected explains the end of the inner process that nobody asked for.
func (o *outer) unexpected(err error) error {
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("padis up has lost its inner process: %w%s", err, o.logTail())
}

// logTail is the end of the inner process's log, for an error message.
func (o *outer) logTail() string {
	path := filepath.Join(o.config.logDir(), "up.log")
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return fmt.Sprintf("\n%s\nmore of it in %s", strings.Join(all[max(0, len(all)-5):], "\n"), path)
}

// hear prints the inner process's news and keeps the registry of hosts.
func (o *outer) hear(n news) {
	switch n.Kind {
	case string(supervise.Started):
		o.started(n)
	case string(supervise.Stopped):
		o.progress.say(why.Plain, n.Name, "stopped")
		o.forget(n.Name)
	default:
		text := n.Detail
		if n.RetryIn > 0 {
			text += fmt.Sprintf("; starts again in %v; log %s", n.RetryIn, filepath.Join(o.config.logDir(), n.Name+".log"))
		}
		o.progress.say(why.Bad, n.Name, text)
		o.forget(n.Name)
	}
}

func (o *outer) started(n news) {
	entry := hosts.Entry{Name: n.Name, Kind: hosts.KindProcess}
	switch {
	case n.Name == "gateways":
		if n.Detail != "" {
			o.progress.say(why.Plain, n.Name, n.Detail)
		}
		return
	case n.Name == "client":
		entry.Kind, entry.Pid, entry.Network = hosts.KindClient, o.pid, fmt.Sprintf("/proc/%d/fd/%d", o.pid, n.Descriptor)
		entry.Address = hosts.ClientPrefix().Addr().String()
	default:
		if spec, ok := hosts.Named(n.Name); ok {
			entry.Kind, entry.Address = hosts.KindHost, spec.Address().Addr().String()
		}
	}
	if entry.Pid == 0 {
		pid, err := hosts.OutsidePid(o.pid, n.Pid)
		if err != nil {
			// It has ended already; that it did is the next news.
			return
		}
		entry.Pid = pid
	}
	o.entries = append(o.entries, entry)
	o.writeRegistry()
	o.progress.say(why.Plain, n.Name, "started")
}

func (o *outer) forget(name string) {
	o.entries = slices.DeleteFunc(o.entries, func(e hosts.Entry) bool { return e.Name == name })
	o.writeRegistry()
}

func (o *outer) writeRegistry() {
	if err := hosts.WriteRegistry(o.config.DataDir, o.entries); err != nil {
		o.progress.say(why.Bad, "padis", err.Error())
	}
}

// watchAPI says when the API answers, then passes the gateways on.
func (o *outer) watchAPI(ctx context.Context) {
	config, err := waitForAPI(ctx, o.config.DataDir)
	if err != nil {
		// Only the end of everything ends the waiting.
		return
	}
	o.progress.say(why.Good, "api", "answers at "+config.Host)
	o.progress.print(o.howTo())
	err = watchGateways(ctx, config, func(gateways []netip.Prefix) {
		if err := o.inner.send(order{Gateways: &gateways}); err != nil {
			o.progress.say(why.Bad, "gateways", err.Error())
		}
	})
	if err != nil {
		o.progress.say(why.Bad, "gateways", err.Error())
	}
}

func (o *outer) howTo() string {
	var b strings.Builder
	b.WriteString("Ready: padis get apps\n")
	if o.config.DataDir != defaultDataDir(os.Getenv, os.Geteuid()) || os.Getenv("KUBECONFIG") != "" {
		fmt.Fprintf(&b, "  use it       export KUBECONFIG=%s\n", kubeconfigPath(o.config.DataDir))
	}
	on := "padis on"
	if o.config.DataDir != defaultDataDir(os.Getenv, os.Geteuid()) {
		on += " --data-dir " + o.config.DataDir
	}
	fmt.Fprintf(&b, "  declare      padis apply -f FILE; padis why app/NAME\n")
	fmt.Fprintf(&b, "  look inside  %s host-1 -- ip addr; %s client -- curl http://ADDRESS:PORT/\n", on, on)
	fmt.Fprintf(&b, "  stop         Ctrl-C\n")
	return b.String()
}
