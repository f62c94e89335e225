package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/mesos/local/hosts/supervise"
)

// File descriptors that the outer process hands to the inner one.
const (
	listenerDescriptor = 3
	controlDescriptor  = 4
)

// Where the parts find each other on the management network.
const (
	masterAddress   = "172.31.0.1:5050"
	artifactAddress = "172.31.0.1:5080"
)

// Stages of stopping: first who would react to the loss of the others.
const (
	stageScheduler = iota
	stageHosts
	stageMaster
)

// inner is process 1 of everything that `padis up` starts.
type inner struct {
	config     upConfig
	bin        string
	listener   *os.File
	fabric     *hosts.Fabric
	supervisor *supervise.Supervisor
	outer      *lines
	log        *zap.Logger
	services   []string
	// cgroupParent is the control group of all containers; empty if the hosts run none.
	cgroupParent string
}

// runInner builds the network, starts everything and returns when the outer process wants it or is gone.
func runInner(c upConfig) error {
	if os.Getpid() != 1 {
		return usagef("--inner is for `padis up` itself")
	}
	log, err := zap.NewProduction()
	if err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	n := &inner{config: c, bin: filepath.Dir(executable), log: log}
	if err := hosts.PrivateMounts(c.DataDir, n.bin); err != nil {
		return err
	}
	if n.fabric, err = hosts.Open(); err != nil {
		return err
	}
	defer n.fabric.Close()
	for _, fd := range []int{listenerDescriptor, controlDescriptor} {
		syscall.CloseOnExec(fd)
	}
	n.listener = os.NewFile(listenerDescriptor, "api listener")
	control := os.NewFile(controlDescriptor, "control")
	n.outer = &lines{w: control}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reaper := supervise.NewReaper()
	reaping, stopReaping := context.WithCancel(context.Background())
	defer stopReaping()
	go reaper.Run(reaping)
	n.supervisor = supervise.New(reaper, n.tell)
	if err := n.outer.send(news{Name: "client", Kind: string(supervise.Started), Descriptor: n.fabric.ClientNamespace()}); err != nil {
		return err
	}
	if n.config.Containerd != "" {
		if n.cgroupParent, err = hosts.CgroupParent(n.config.DataDir); err != nil {
			return err
		}
		n.removeCgroups()
	}
	if err := n.startAll(executable); err != nil {
		return err
	}
	go func() {
		defer stop()
		err := receive(control, func(o order) { n.obey(o, stop) })
		if err != nil {
			log.Error("control", zap.Error(err))
		}
	}()
	n.trimLogs(ctx)
	n.supervisor.Stop()
	n.removeCgroups()
	return nil
}

// removeCgroups removes what hosts that were killed have left in the control groups of the machine.
func (n *inner) removeCgroups() {
	if n.cgroupParent == "" {
		return
	}
	if err := hosts.RemoveCgroups(n.cgroupParent); err != nil {
		n.log.Warn("control groups of containers stay", zap.Error(err))
	}
}

// trimLogs keeps the logs within bounds until ctx ends.
func (n *inner) trimLogs(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, service := range n.services {
			if err := supervise.TrimLog(n.config.logDir(), service, supervise.MaxLogBytes); err != nil {
				n.log.Error("trim log", zap.String("service", service), zap.Error(err))
			}
		}
	}
}

func (n *inner) obey(o order, stop context.CancelFunc) {
	if o.Stop {
		stop()
	}
	if o.Gateways == nil {
		return
	}
	report := news{Name: "gateways", Kind: string(supervise.Started)}
	if err := n.fabric.SetGateways(*o.Gateways); err != nil {
		report.Kind, report.Detail = string(supervise.Ended), err.Error()
	} else {
		var all []string
		for _, g := range *o.Gateways {
			all = append(all, g.String())
		}
		report.Detail = strings.Join(all, " ")
	}
	n.send(report)
}

// send cannot fail but when the outer process is gone; then reading ends, too, and with it everything.
func (n *inner) send(v news) {
	if err := n.outer.send(v); err != nil {
		n.log.Warn("the outer process does not listen", zap.Error(err))
	}
}

func (n *inner) tell(e supervise.Event) {
	n.send(news{Name: e.Service, Kind: string(e.Kind), Pid: e.Pid, Detail: e.Detail, RetryIn: e.RetryIn})
}

func (n *inner) startAll(executable string) error {
	mesos := filepath.Join(n.bin, "padis-mesos")
	n.add("mesos-master", stageMaster, mesos, nil,
		"master", "--listen", masterAddress, "--data-dir", filepath.Join(n.config.DataDir, "mesos", "master"))
	n.add("scheduler", stageScheduler, executable, []*os.File{n.listener},
		"scheduler", "--data-dir", n.config.DataDir, "--listen-fd", fmt.Sprint(listenerDescriptor), "--master", "http://"+masterAddress,
		"--executor-binary", filepath.Join(n.bin, "padis-executor"), "--artifact-listen", artifactAddress, "--artifact-url", "http://"+artifactAddress,
		"--outside", outsidePath(n.config.DataDir), "--git-file-roots", strings.Join(n.config.GitFileRoots, ","))
	for i := 1; i <= n.config.Hosts; i++ {
		if err := n.addHost(mesos, i); err != nil {
			return err
		}
	}
	return nil
}

// add keeps a process running that needs nothing but its arguments.
func (n *inner) add(name string, stage int, program string, files []*os.File, arguments ...string) {
	n.services = append(n.services, name)
	var log *os.File
	n.supervisor.Add(supervise.Service{
		Name:  name,
		Stage: stage,
		Command: func() (c supervise.Command, err error) {
			log, err = supervise.OpenLog(n.config.logDir(), name)
			return supervise.Command{Path: program, Args: arguments, Env: n.environment(), Output: log, Files: files}, err
		},
		Started: func(_ int, err error) error { return errors.Join(err, log.Close()) },
		Backoff: supervise.DefaultBackoff(),
		Grace:   15 * time.Second,
	})
}

// addHost keeps an embedded host running. The host waits at the other end of a link until its network is there.
func (n *inner) addHost(mesos string, index int) error {
	spec, err := hosts.Host(index)
	if err != nil {
		return err
	}
	attributes, err := hosts.ExpandAttributes(n.config.AgentAttributes, index)
	if err != nil {
		return err
	}
	dir := filepath.Join(n.config.DataDir, "hosts", spec.Name)
	arguments := []string{
		"host", "--name", spec.Name, "--ip", spec.Address().Addr().String(), "--master", "http://" + masterAddress,
		"--work-dir", filepath.Join(dir, "mesos"), "--resources", n.config.AgentResources,
		"--attributes", attributes, "--keep", n.config.DataDir, "--keep", n.bin, "--link-fd", "3",
		"--state", filepath.Join(dir, "state"), "--no-containers", n.config.NoContainers,
	}
	n.services = append(n.services, spec.Name)
	if n.config.Containerd != "" {
		arguments = append(arguments, "--containerd", n.config.Containerd, "--containerd-root", filepath.Join(dir, "containerd"),
			"--cgroup-parent", filepath.Join(n.cgroupParent, spec.Name), "--logs", n.config.logDir())
		n.services = append(n.services, hosts.ContainerdLog(spec.Name))
	}
	var log, ours, theirs *os.File
	n.supervisor.Add(supervise.Service{
		Name:  spec.Name,
		Stage: stageHosts,
		Command: func() (c supervise.Command, err error) {
			if log, err = supervise.OpenLog(n.config.logDir(), spec.Name); err != nil {
				return c, err
			}
			if ours, theirs, err = hosts.NewLink(); err != nil {
				return c, errors.Join(err, log.Close())
			}
			return supervise.Command{
				Path: mesos, Args: arguments, Env: append(n.environment(), "PADIS_HOST_NAME="+spec.Name),
				Output: log, Files: []*os.File{theirs}, Attr: hosts.HostAttributes(),
			}, nil
		},
		Started: func(pid int, err error) error {
			defer ours.Close()
			if err := errors.Join(err, log.Close(), theirs.Close()); err != nil {
				return err
			}
			return n.fabric.Attach(spec, pid, ours)
		},
		Backoff: supervise.Constant(n.config.HostRestartDelay),
		Grace:   15 * time.Second,
	})
	return nil
}

// environment of all children: the directory of our binaries comes first in PATH, and no proxy, which could not be
// reached from these namespaces.
func (n *inner) environment() []string {
	path := n.bin
	env := make([]string, 0, len(os.Environ())+1)
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		switch strings.ToUpper(name) {
		case "PATH":
			path += ":" + value
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY":
		default:
			env = append(env, e)
		}
	}
	return append(env, "PATH="+path)
}
