package main

import (
	"context"
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
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("host: unexpected argument %q", set.Arg(0))
	}
	for name, value := range map[string]string{"--name": f.name, "--ip": f.ip, "--master": f.master, "--work-dir": f.workDir, "--resources": f.resources} {
		if value == "" {
			return f, fmt.Errorf("host: %s is missing", name)
		}
	}
	if _, err := netip.ParseAddr(f.ip); err != nil {
		return f, fmt.Errorf("host: --ip: %w", err)
	}
	if f.link < 3 {
		return f, fmt.Errorf("host: --link-fd %d: it is 3 or more", f.link)
	}
	return f, nil
}

// agentArguments are those of the agent that runs on the host. Executors find the programs that we find.
func (f hostFlags) agentArguments(bootID, path string) []string {
	return []string{
		"agent", "--master", f.master, "--work-dir", f.workDir, "--hostname", f.name, "--ip", f.ip, "--port", strconv.Itoa(f.port),
		"--attributes", f.attributes, "--resources", f.resources, "--boot-id", bootID,
		"--executor-environment-variables", fmt.Sprintf(`{"PATH": %q}`, path),
	}
}

// runHost is an embedded host: process 1 of namespaces that `padis up` made, with a Mesos agent that it keeps running.
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
		Agent: func() (supervise.Command, error) {
			return supervise.Command{Path: program, Args: f.agentArguments(bootID, os.Getenv("PATH")), Env: os.Environ(), Output: os.Stdout}, nil
		},
	}, log)
}
