package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"padis.io/padis/api/server"
	"padis.io/padis/api/server/live"
	"padis.io/padis/cmd/padis/version"
	"padis.io/padis/cmd/pages"
	"padis.io/padis/mesos"
	"padis.io/padis/mesos/files"
	"padis.io/padis/mesos/master"
	"padis.io/padis/reconcile"
	"padis.io/padis/reconcile/gitops"
	"padis.io/padis/reconcile/gitops/render/helm/child"
	"padis.io/padis/scheduler"
	"padis.io/padis/scheduler/artifacts"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/garbage"
	"padis.io/padis/scheduler/ledger"
)

func zapTime(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// runScheduler wires the control plane and runs it until ctx ends or a part of it cannot go on.
func runScheduler(ctx context.Context, c schedulerConfig, log *zap.Logger) error {
	views := live.NewStores(time.Now)
	into := &door{files: files.New(files.Config{})}
	// Clients are let in when the views show what the ledger knows. A stand-by shows none and lets them in at once.
	known := make(chan struct{})
	if c.shared() {
		close(known)
	}
	api, err := newServer(c, views, known, into, log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if os.Getenv("GOGC") == "" {
		go garbage.Pace(ctx, func() {
			if err := errors.Join(pages.ReleaseProgram(), api.Database(pages.Release)); err != nil {
				log.Debug("pages of files stay in memory", zap.Error(err))
			}
		})
	}
	group.Go(func() error { return api.Run(ctx) })
	group.Go(func() error { return runFramework(ctx, c, api, views, known, into, log) })
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// shared tells whether there may be other schedulers.
func (c schedulerConfig) shared() bool { return len(c.EtcdServers) > 0 }

func newServer(c schedulerConfig, views *live.Stores, known <-chan struct{}, into *door, log *zap.Logger) (*server.Server, error) {
	cfg := server.Config{
		DataDir: c.DataDir, ListenAddress: c.Listen, Hosts: c.Hosts, SecretsKeyFile: c.SecretsKeyFile,
		ServiceAccountKeyFile: c.ServiceAccountKeyFile, OIDC: c.OIDC,
		EtcdServers: c.EtcdServers, EtcdTLS: server.EtcdTLS{CAFile: c.EtcdCA, CertFile: c.EtcdCert, KeyFile: c.EtcdKey},
		Live: views, Logs: into, Access: into, Balances: into, Plans: into, Open: known, Version: version.Version, Logger: log,
	}
	if c.ListenFD > 0 {
		syscall.CloseOnExec(c.ListenFD)
		file := os.NewFile(uintptr(c.ListenFD), "api listener")
		l, err := net.FileListener(file)
		if err != nil {
			return nil, fmt.Errorf("--listen-fd %d is no listening socket: %w", c.ListenFD, err)
		}
		_ = file.Close()
		cfg.Listener = l
	}
	return server.New(cfg)
}

// runFramework takes the ledger over and runs everything that writes to it.
func runFramework(ctx context.Context, c schedulerConfig, api *server.Server, views *live.Stores, known chan<- struct{}, into *door, log *zap.Logger) error {
	records, err := openLedger(ctx, c, api, log)
	if err != nil {
		return err
	}
	defer func() { _ = records.Close() }()
	snapshot, err := records.Load(ctx)
	if err != nil {
		return err
	}
	path, err := c.executorBinary()
	if err != nil {
		return err
	}
	executor, err := artifacts.New(path)
	if err != nil {
		return err
	}
	defer func() { _ = executor.Close() }()
	state, err := core.New(core.Config{
		Role: c.Role, FrameworkName: c.Framework, OfferHold: c.OfferHold, UnreachableReplaceAfter: c.UnreachableReplaceAfter,
		ClientCA: string(api.SchedulerIdentity().CA),
		Artifact: core.Artifact{URI: strings.TrimRight(c.ArtifactURL, "/") + executor.URLPath(), SHA256: executor.SHA256()},
	}, snapshot)
	if err != nil {
		return err
	}
	client, err := newMasterClient(c, log)
	if err != nil {
		return err
	}
	loop := scheduler.New(scheduler.Config{
		Core: state, Ledger: records, Master: client, Instances: views.Instances, Agents: views.Agents, Addresses: views.Addresses,
		Log: log.Named("scheduler"), Permanent: func(err error) bool { return errors.Is(err, ledger.ErrFenced) },
	})
	identity := api.SchedulerIdentity()
	if err := into.open(loop, api.LoopbackConfig(), identity.Certificate, identity.Key); err != nil {
		return err
	}
	if !c.shared() {
		close(known)
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveArtifacts(ctx, c.ArtifactListen, executor) })
	group.Go(func() error { return loop.Run(ctx) })
	deliver := func(e mesos.Event) { _ = loop.Deliver(ctx, e) }
	group.Go(func() error { return subscribe(ctx, client, snapshot.Framework.GetFrameworkId(), deliver, log) })
	group.Go(func() error { return client.PollAgents(ctx, c.PollAgents, deliver) })
	group.Go(func() error {
		select {
		case <-api.Ready():
		case <-ctx.Done():
			return ctx.Err()
		}
		git := gitops.Config{Dir: filepath.Join(c.DataDir, "git"), FileRoots: c.GitFileRoots, Writer: api.SyncConfig(), Charts: child.New(child.Bounds{}).Render}
		if c.Outside != "" {
			git.Dial, git.DialReceivers = dialOutside(c.Outside, toServers), dialOutside(c.Outside, toReceivers)
		}
		return reconcile.StartWithGit(ctx, api.LoopbackConfig(), loop, git, log.Named("reconcile"))
	})
	return group.Wait()
}

// openLedger connects to the ledger. With an external etcd there may be others: it waits for its turn.
func openLedger(ctx context.Context, c schedulerConfig, api *server.Server, log *zap.Logger) (*ledger.Ledger, error) {
	l, err := ledger.Open(ctx, ledger.Config{
		Endpoints: api.EtcdEndpoints(), Client: api.EtcdClient(), CAFile: c.EtcdCA, CertFile: c.EtcdCert, KeyFile: c.EtcdKey, StandBy: c.shared(), Logger: log.Named("ledger"),
	})
	if err != nil || !c.shared() {
		return l, err
	}
	log.Info("waiting to lead")
	// That leadership is lost shows in the next commit, which is refused, and nothing is sent without a commit.
	if _, err := l.Lead(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	log.Info("leading")
	return l, nil
}

func newMasterClient(c schedulerConfig, log *zap.Logger) (*master.Client, error) {
	secret := ""
	if c.SecretFile != "" {
		b, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		secret = strings.TrimSpace(string(b))
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return master.New(master.Config{
		Masters: c.Master, Logger: log.Named("mesos"), Rand: rand.Float64,
		Framework: master.Framework{
			Name: c.Framework, User: c.User, Hostname: host, Roles: []string{c.Role}, Principal: c.Principal, Secret: secret, FailoverTimeout: c.FailoverTimeout,
		},
	})
}

// subscribe keeps the framework subscribed. A framework that the master has removed comes back under a new id: its
// instances were ended by Mesos and are started anew.
func subscribe(ctx context.Context, client *master.Client, id string, deliver func(mesos.Event), log *zap.Logger) error {
	for {
		err := client.Run(ctx, id, deliver)
		if !errors.Is(err, master.ErrFrameworkRemoved) {
			return err
		}
		log.Error("the Mesos master has removed the framework; subscribing as a new one", zap.String("frameworkID", id), zap.Error(err))
		id = ""
	}
}

func serveArtifacts(ctx context.Context, address string, handler http.Handler) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--artifact-listen: %w", err)
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the executor: %w", err)
	}
	return ctx.Err()
}
