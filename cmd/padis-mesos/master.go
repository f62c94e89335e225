package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos/local/master"
)

// masterVerb runs the master until SIGTERM or SIGINT. Example:
//
//	padis-mesos master --listen 127.0.0.1:5050 --data-dir /var/lib/padis/mesos-master
func masterVerb(args []string) error {
	flags := flag.NewFlagSet("master", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:5050", "address of the API")
	advertise := flags.String("advertise", "", "host:port that clients are told; default: that of --listen")
	data := flags.String("data-dir", "", "directory of the registry of agents; required")
	ping := flags.Duration("agent-ping-timeout", time.Second, "time between pings of an agent")
	pings := flags.Int("max-agent-ping-timeouts", 3, "pings without answer after which an agent is unreachable")
	reregister := flags.Duration("agent-reregister-timeout", 10*time.Minute, "how long a restarted master waits for its agents")
	interval := flags.Duration("allocation-interval", 100*time.Millisecond, "time between offers")
	offers := flags.Duration("offer-timeout", 0, "time after which an offer is rescinded; 0: never")
	debug := flags.Bool("debug", false, "log more")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *data == "" {
		return errors.New("--data-dir is required")
	}
	log, err := logger(*debug)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	m, err := master.New(master.Config{
		Listener: listener, Address: *advertise, DataDir: *data, AgentPingTimeout: *ping, MaxAgentPingTimeouts: *pings,
		AgentReregisterTimeout: *reregister, AllocationInterval: *interval, OfferTimeout: *offers, Log: log,
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return m.Run(ctx)
}

// parse refuses what flag lets pass: arguments that are not flags.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

func logger(debug bool) (*zap.Logger, error) {
	cfg := zap.NewProductionConfig()
	cfg.Sampling = nil
	if debug {
		cfg.Level = zap.NewAtomicLevelAt(zap.DebugLevel)
	}
	return cfg.Build()
}
