package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"padis.io/padis/cmd/pages"
	"padis.io/padis/executor"
	"padis.io/padis/executor/artifact"
	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/instance"
	netplan "padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/process"
	"padis.io/padis/mesos/agent"
)

const usageText = `padis-executor runs the instances of Padis on one host.

Usage:
  padis-executor [run] [flags]   run until the Mesos agent says otherwise (default)
  padis-executor network plan    print what would make the networks of the running containers as they should be
  padis-executor network check   tell for each address whether it is as it should be
  padis-executor network repair  make it so
  padis-executor version         print the version
  padis-executor help            print this text

It is started by a Mesos agent, which tells it the rest by MESOS_* variables. Example, as a CommandInfo:
  ./padis-executor --log-level debug

Flags of run:
  --cache DIR        where artifacts are kept for all instances of the host
                     (default $PADIS_CACHE, or /var/cache/padis-executor, or below the sandbox if that cannot be written)
  --parallel N       how many instances are made at the same time
                     (default $PADIS_PARALLEL, or twice the number of CPUs)
  --containerd PATH  socket of the containerd that runs images (default $PADIS_CONTAINERD_ADDRESS, or
                     /run/containerd/containerd.sock if that is there; without one, and with "off", only plain
                     programs run)
  --state DIR        where containers have their files, which outlive the executor
                     (default $PADIS_STATE_DIR, or /var/lib/padis)
  --host-paths DIR,... directories of the host that hostPath volumes may show, whatever Tenants are granted
                     (default $PADIS_HOST_PATHS, or all but / and those that show --state)
  --cgroup PATH      control group below which containers have theirs (default $PADIS_CGROUP_PARENT, or /padis)
  --oci-runtime NAME program that containerd's shims start containers with: runc or crun
                     (default $PADIS_OCI_RUNTIME, or runc)
  --access HOST:PORT where logs, commands and ports are served to the scheduler, with TLS
                     (default $PADIS_ACCESS, or any free port)
  --metrics HOST:PORT where Prometheus metrics are served, plain; "off" serves none
                     (default $PADIS_METRICS_LISTEN, or 127.0.0.1:9465)
  --log-level LEVEL  debug, info, warn or error (default $PADIS_LOG_LEVEL, or info)

Flags of network:
  --state DIR        where containers have their files (default $PADIS_STATE_DIR, or /var/lib/padis)
  --owner ID         only containers of this framework (default: all)

It looks at containers that run, whether an executor is alive or not, and takes no claim. Example:
  padis-executor network check --state /var/lib/padis

Containers run on when the executor ends, unless the agent asked for their end; the next executor takes them over.

Exit status:
  0  ended as the agent, the scheduler or a SIGTERM asked
  1  something failed; the log says what. network check: something is not as it should be
  2  wrong usage
  3  not started by a Mesos agent: MESOS_* variables are missing or wrong
  4  the agent is gone for longer than its recovery timeout
`

// Exit statuses; the usage text documents them.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitEnvironment
	exitAgentGone
)

// version is set when the binary is built: -ldflags '-X main.version=...'.
var version = "unknown"

func versionText() string {
	return fmt.Sprintf("%s (%s, %s/%s)", version, goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
}

// defaultPath is where programs are looked up if the agent says nothing.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// claimWait is how long an executor of the same id may take to die.
const claimWait = 5 * time.Second

type options struct {
	cache                                 string
	parallel                              int
	containerd, state, cgroup, ociRuntime string
	hostPaths                             []string
	access, metrics                       string
	level                                 zapcore.Level
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("padis-executor", flag.ContinueOnError)
	f.SetOutput(os.Stderr)
	f.Usage = func() { fmt.Fprint(os.Stderr, usageText) }
	f.StringVar(&o.cache, "cache", os.Getenv(cacheVariable), "")
	parallel := f.String("parallel", cmp.Or(os.Getenv(parallelVariable), strconv.Itoa(2*goruntime.NumCPU())), "")
	f.StringVar(&o.containerd, "containerd", os.Getenv(containerdVariable), "")
	f.StringVar(&o.state, "state", cmp.Or(os.Getenv(stateVariable), defaultState), "")
	allowed := f.String("host-paths", os.Getenv(hostPathsVariable), "")
	f.StringVar(&o.cgroup, "cgroup", os.Getenv(cgroupVariable), "")
	f.StringVar(&o.ociRuntime, "oci-runtime", os.Getenv(ociRuntimeVariable), "")
	f.StringVar(&o.access, "access", cmp.Or(os.Getenv(accessVariable), ":0"), "")
	f.StringVar(&o.metrics, "metrics", cmp.Or(os.Getenv(metricsVariable), "127.0.0.1:9465"), "")
	level := f.String("log-level", cmp.Or(os.Getenv(logLevelVariable), "info"), "")
	err := f.Parse(args)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if err == nil {
		o.hostPaths, err = hostPaths(*allowed)
	}
	if err == nil {
		if o.parallel, err = strconv.Atoi(*parallel); err != nil || o.parallel < 1 {
			err = fmt.Errorf("--parallel, %s: %q is no number from 1 on", parallelVariable, *parallel)
		}
	}
	if err == nil {
		if o.level, err = zapcore.ParseLevel(*level); err != nil {
			err = fmt.Errorf("--log-level, %s: %q is none of debug, info, warn and error", logLevelVariable, *level)
		}
	}
	return o, err
}

func run(args []string) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "padis-executor:", err)
		return exitUsage
	}
	// Much is shared by many instances on small hosts: rather collect garbage more often than keep it.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(24 << 20)
	cfg, err := agent.FromEnvironment(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "padis-executor:", err)
		return exitEnvironment
	}
	log, err := newLog(o.level)
	if err != nil {
		fmt.Fprintln(os.Stderr, "padis-executor:", err)
		return exitFailed
	}
	err = serve(cfg, o, log)
	switch {
	case errors.Is(err, agent.ErrAgentGone):
		log.Error("the agent is gone", zap.Error(err))
		return exitAgentGone
	case err != nil:
		log.Error("the executor failed", zap.Error(err))
		return exitFailed
	}
	return exitOK
}

func newLog(level zapcore.Level) (*zap.Logger, error) {
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(level)
	c.Sampling = nil
	c.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	return c.Build(zap.WithCaller(false), zap.AddStacktrace(zapcore.DPanicLevel))
}

// serve wires the executor and runs it to its end.
func serve(cfg agent.Config, o options, log *zap.Logger) error {
	cfg.Logger, cfg.Rand = log, rand.Float64
	client, err := agent.New(cfg)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	host := instance.Host{Owner: cfg.FrameworkID, Name: name, Path: os.Getenv("PATH"), Sandbox: cfg.Sandbox, State: o.state}
	if host.Path == "" {
		host.Path = defaultPath
	}
	network, closeNetwork, err := openNetwork(host, log)
	if err != nil {
		return err
	}
	defer closeNetwork()
	if host.Addresses, err = ownAddresses(network, cfg.Endpoint); err != nil {
		return err
	}
	announcer, closeAnnouncer := startSpeaker(log)
	defer closeAnnouncer()
	relayer, closeRelay := startRelay(log)
	defer closeRelay()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	store, err := openStore(o.cache, cfg.Sandbox)
	if err != nil {
		return err
	}
	c := executor.Config{
		Host: host, Agent: client, Network: network, Runtime: process.New("/proc/self/exe", o.parallel), Artifacts: store,
		Prober: probe.New(network), Version: version, ShutdownGrace: cfg.ShutdownGrace, Parallel: o.parallel, Speaker: announcer, Relay: relayer, Log: log,
	}
	closeContainers, err := wireContainers(ctx, o, host.Owner, &c, log)
	if err != nil {
		return err
	}
	defer closeContainers()
	if err := sweep(ctx, network, c.Containers, host, log); err != nil {
		return err
	}
	e, closeAccess, err := openExecutor(ctx, c, o, cfg.Endpoint, network)
	if err != nil {
		return err
	}
	defer closeAccess()
	if err := pages.ReleaseProgram(); err != nil {
		log.Debug("pages of the program stay in memory", zap.Error(err))
	}
	// The client lives longer than the executor, to bring its last statuses to the agent.
	clientCtx, endClient := context.WithCancel(context.Background())
	defer endClient()
	gone := make(chan error, 1)
	go func() {
		gone <- client.Run(clientCtx, e.Handle)
		stop()
	}()
	if err := e.Run(ctx); err != nil {
		return err
	}
	endClient()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// sweep removes what an executor that was killed has left: programs that took their death signal back, and the links of
// everything but containers.
func sweep(ctx context.Context, network *kernel.Network, containers runtime.Keeper, host instance.Host, log *zap.Logger) error {
	// Sandboxes of earlier runs are beside this one.
	killed, err := process.Sweep(filepath.Join(filepath.Dir(host.Sandbox), "*", "tasks", "*"))
	if err != nil {
		return fmt.Errorf("end what an earlier executor left: %w", err)
	}
	live := map[string]bool{}
	if containers != nil {
		found, err := containers.Found(ctx)
		if err != nil {
			return fmt.Errorf("ask for the containers of this host: %w", err)
		}
		for _, container := range found {
			for i := range instance.MaxAttachments {
				live[netplan.HostEnd(host.Owner, container, i)] = true
			}
		}
	}
	removed, err := network.Sweep(live)
	if err != nil {
		return fmt.Errorf("remove the links that an earlier executor left: %w", err)
	}
	if len(killed)+len(removed) > 0 {
		log.Info("removed what an earlier executor left", zap.Strings("programs", killed), zap.Strings("links", removed))
	}
	return nil
}

func openStore(dir, sandbox string) (*artifact.Store, error) {
	if dir != "" {
		return artifact.Open(dir, artifact.DefaultLimits)
	}
	s, err := artifact.Open("/var/cache/padis-executor", artifact.DefaultLimits)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return artifact.Open(filepath.Join(sandbox, "cache"), artifact.DefaultLimits)
	}
	return s, err
}
