package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"go.uber.org/zap"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/mesos/local/hosts/supervise"
)

// hostFlags is what an embedded host is told.
type hostFlags struct {
	name, ip, master, workDir, attributes, resources string
	port, link                                       int
	keep                                             []string
	// Of the executors and their containers.
	state, noContainers, containerd, containerdRoot, cgroupParent, logs string
}

func parseHostFlags(args []string) (hostFlags, error) {
	var f hostFlags
	set := flag.NewFlagSet("padis-mesos host", flag.ContinueOnError)
	set.StringVar(&f.name, "name", "", "host name")
	set.StringVar(&f.ip, "ip", "", "management address")
	set.IntVar(&f.port, "port", 5051, "port of the agent")
	set.StringVar(&f.master, "master", "", "URL of the master")
	set.StringVar(&f.workDir, "work-dir", "", "directory of the agent")
	set.StringVar(&f.attributes, "attributes", "", "attributes of the agent, NAME:VALUE separated by semicolons")
	set.StringVar(&f.resources, "resources", "", "resources of the agent, NAME:AMOUNT separated by semicolons")
	set.IntVar(&f.link, "link-fd", 3, "file descriptor of the link to the fabric")
	set.Func("keep", "directory that stays visible when it is below /run; may be repeated", func(dir string) error {
		f.keep = append(f.keep, dir)
		return nil
	})
	set.StringVar(&f.state, "state", "", "directory that executors keep their instances in")
	set.StringVar(&f.containerd, "containerd", "", "path of containerd; empty: the host runs no containers")
	set.StringVar(&f.containerdRoot, "containerd-root", "", "directory of containerd")
	set.StringVar(&f.cgroupParent, "cgroup-parent", "", "control group of the host's containers")
	set.StringVar(&f.noContainers, "no-containers", "", "why the host runs no containers")
	set.StringVar(&f.logs, "logs", "", "directory of containerd's log")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("host: unexpected argument %q", set.Arg(0))
	}
	for name, value := range map[string]string{"--name": f.name, "--ip": f.ip, "--master": f.master, "--work-dir": f.workDir, "--resources": f.resources, "--state": f.state} {
		if value == "" {
			return f, fmt.Errorf("host: %s is missing", name)
		}
	}
	if _, err := netip.ParseAddr(f.ip); err != nil {
		return f, fmt.Errorf("host: --ip: %w", err)
	}
	if f.containerd != "" && f.logs == "" {
		return f, errors.New("host: --containerd needs --containerd-root, --cgroup-parent and --logs")
	}
	if f.link < 3 {
		return f, fmt.Errorf("host: --link-fd %d: it is 3 or more", f.link)
	}
	return f, nil
}

// executorEnvironment is what executors on the host must know of it. They find the programs that we find.
func (f hostFlags) executorEnvironment(path string) map[string]string {
	env := map[string]string{"PATH": path, "PADIS_STATE_DIR": f.state}
	if f.containerd == "" {
		env["PADIS_NO_CONTAINERS"] = f.noContainers
		return env
	}
	env["PADIS_CONTAINERD_ADDRESS"], env["PADIS_CGROUP_PARENT"] = hosts.ContainerdAddress, f.cgroupParent
	return env
}

// containers is the host's containerd, nil if it has none.
func (f hostFlags) containers() *hosts.Containerd {
	if f.containerd == "" {
		return nil
	}
	return &hosts.Containerd{
		Program: f.containerd, Root: f.containerdRoot, CgroupParent: f.cgroupParent,
		Log: func() (*os.File, error) { return supervise.OpenLog(f.logs, hosts.ContainerdLog(f.name)) },
	}
}

// agentArguments are those of the agent that runs on the host.
func (f hostFlags) agentArguments(bootID, path string) []string {
	environment, err := json.Marshal(f.executorEnvironment(path))
	if err != nil {
		panic(err) // a map of strings
	}
	return []string{
		"agent", "--master", f.master, "--work-dir", f.workDir, "--hostname", f.name, "--ip", f.ip, "--port", strconv.Itoa(f.port),
		"--attributes", f.attributes, "--resources", f.resources, "--boot-id", bootID,
		"--executor-environment-variables", string(environment),
	}
}

// runHost is an embedded host: process 1 of namespaces that `padis up` made, with a Mesos agent and, where containers can
// run, a containerd that it keeps running.
func runHost(args []string) error {
	f, err := parseHostFlags(args)
	if err != nil {
		return err
	}
	log, err := zap.NewProduction()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	// New at each start of the host: the agent knows by it that what it ran before is gone.
	bootID, err := hosts.BootID()
	if err != nil {
		return err
	}
	link := os.NewFile(uintptr(f.link), "link")
	if link == nil {
		return errors.New("host: --link-fd is not open")
	}
	syscall.CloseOnExec(f.link)
	return hosts.Run(ctx, hosts.HostConfig{
		Name: f.name,
		Link: link,
		Keep: f.keep,

		Containerd: f.containers(),
		Agent: func() (supervise.Command, error) {
			return supervise.Command{Path: program, Args: f.agentArguments(bootID, os.Getenv("PATH")), Env: os.Environ(), Output: os.Stdout}, nil
		},
	}, log)
}
