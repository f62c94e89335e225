package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"padis.io/padis/mesos/local/agent"
)

// agentVerb runs an agent until SIGTERM or SIGINT, after which its executors live on, or until SIGUSR1, which ends
// them first. Example:
//
//	padis-mesos agent --master http://127.0.0.1:5050 --work-dir /var/lib/padis/agent0 --hostname host0 --ip 172.31.0.10
func agentVerb(args []string) error {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
	url := flags.String("master", "http://127.0.0.1:5050", "URL of the master")
	work := flags.String("work-dir", "", "directory of sandboxes, fetched files and the journal; required")
	hostname := flags.String("hostname", "", "name the agent announces; default: its IP")
	ip := flags.String("ip", "127.0.0.1", "address to listen on and to announce")
	port := flags.Int("port", 5051, "port to listen on; 0: any")
	attributes := flags.String("attributes", "", `attributes, for example "rack:r1;zone:z1"`)
	resources := flags.String("resources", agent.DefaultResources, "resources")
	boot := flags.String("boot-id", "", "tells runs of the host apart; default: that of the kernel")
	registration := flags.Duration("executor-registration-timeout", time.Minute, "time in which a new executor must subscribe")
	reregistration := flags.Duration("executor-reregistration-timeout", 2*time.Second, "time in which an executor must return after the agent's restart")
	grace := flags.Duration("executor-shutdown-grace-period", 5*time.Second, "time between SHUTDOWN and SIGKILL")
	environment := map[string]string{}
	flags.Func("executor-environment-variables", `JSON object of variables that every executor gets, for example {"PATH": "/opt/bin:/bin"}`, func(text string) error {
		return json.Unmarshal([]byte(text), &environment)
	})
	debug := flags.Bool("debug", false, "log more")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *work == "" {
		return errors.New("--work-dir is required")
	}
	log, err := logger(*debug)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(*ip, strconv.Itoa(*port)))
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Config{
		Listener: listener, Master: *url, WorkDir: *work, Hostname: *hostname, IP: *ip, Attributes: *attributes,
		Resources: *resources, BootID: *boot, ExecutorRegistrationTimeout: *registration,
		ExecutorReregistrationTimeout: *reregistration, ExecutorShutdownGrace: *grace, ExecutorEnvironment: environment, Subreaper: true, Log: log,
	})
	if err != nil {
		return err
	}
	leave := make(chan os.Signal, 1)
	signal.Notify(leave, syscall.SIGUSR1)
	go func() {
		for range leave {
			a.Leave()
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return a.Run(ctx)
}
