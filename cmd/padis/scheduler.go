package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"padis.io/padis/api/server"
)

const schedulerLong = `Run the control plane: API server, reconcilers and the Mesos framework, in one process.

It keeps everything in etcd: in its own, below --data-dir, or in that of --etcd-servers. With the latter, several
processes can run at once: one schedules, the others serve the API and stand by.

When it ends or dies, instances do not notice. It goes on where it was when it starts again.`

const schedulerExample = `  # A control plane for an existing Mesos
  padis scheduler --master zk://zk1:2181,zk2:2181,zk3:2181/mesos --listen 0.0.0.0:6443 \
    --artifact-listen 0.0.0.0:5080 --artifact-url http://padis.example.com:5080`

// schedulerConfig is what `padis scheduler` is told.
type schedulerConfig struct {
	DataDir  string
	Listen   string
	ListenFD int
	// Hosts are further names of the serving certificate.
	Hosts       []string
	EtcdServers []string
	EtcdCA      string
	EtcdCert    string
	EtcdKey     string
	// SecretsKeyFile is empty where the key is made in the data directory, or where Secrets are not encrypted.
	SecretsKeyFile string
	// ServiceAccountKeyFile is empty where the key is made in the data directory.
	ServiceAccountKeyFile string
	OIDC                  server.OIDC

	Master          string
	Framework       string
	Role            string
	User            string
	Principal       string
	SecretFile      string
	FailoverTimeout time.Duration
	PollAgents      time.Duration

	ExecutorBinary string
	ArtifactListen string
	ArtifactURL    string

	// GitFileRoots are the directories whose repositories may be named by file://.
	GitFileRoots []string
	// Outside is the socket by which servers of other networks are reached; empty where they are reached directly.
	Outside string

	OfferHold               time.Duration
	UnreachableReplaceAfter time.Duration
	LogLevel                string
}

func (c schedulerConfig) validate() error {
	switch {
	case c.DataDir == "":
		return usagef("--data-dir must not be empty")
	case c.Master == "":
		return usagef("--master is required, for example http://10.0.0.1:5050 or zk://10.0.0.1:2181/mesos")
	case c.ArtifactURL == "":
		return usagef("--artifact-url is required: the address at which Mesos agents reach --artifact-listen, for example http://10.0.0.1:5080")
	case c.FailoverTimeout < time.Hour:
		return usagef("--failover-timeout is %s; below 1h Mesos might kill all instances while the scheduler is being replaced", c.FailoverTimeout)
	case (c.EtcdCert == "") != (c.EtcdKey == ""):
		return usagef("--etcd-cert and --etcd-key go together")
	case !c.shared() && c.EtcdCA+c.EtcdCert != "":
		return usagef("--etcd-ca, --etcd-cert and --etcd-key are for an etcd that --etcd-servers names")
	}
	if err := checkOIDC(c.OIDC); err != nil {
		return err
	}
	if err := checkKeyFile("--secrets-key-file", c.SecretsKeyFile, "head -c 32 /dev/urandom | base64"); err != nil {
		return err
	}
	return checkKeyFile("--service-account-key-file", c.ServiceAccountKeyFile, "openssl ecparam -name prime256v1 -genkey -noout")
}

// checkOIDC finds flags that lack others. What they say is judged by who uses it.
func checkOIDC(o server.OIDC) error {
	switch {
	case o == (server.OIDC{}):
		return nil
	case o.IssuerURL == "":
		return usagef("--oidc-issuer-url is required with the other flags of --oidc-, for example https://login.example.com")
	case o.ClientID == "":
		return usagef("--oidc-client-id is required with --oidc-issuer-url: whom tokens must be meant for")
	}
	return nil
}

// checkKeyFile finds early that there is no key where it was said to be. What is in it is judged by who uses it.
func checkKeyFile(flag, path, make string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w: all servers of one etcd need the same key; make it once with: (umask 077; %s >FILE)", flag, err, make)
	}
	return f.Close()
}

func newSchedulerCommand() *cobra.Command {
	c := schedulerConfig{}
	cmd := &cobra.Command{
		Use:     "scheduler --master URL --artifact-url URL",
		Short:   "Run the control plane",
		Long:    schedulerLong,
		Example: schedulerExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.validate(); err != nil {
				return err
			}
			log, err := newLogger(c.LogLevel)
			if err != nil {
				return usageError{err}
			}
			defer func() { _ = log.Sync() }()
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return runScheduler(ctx, c, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.DataDir, "data-dir", defaultDataDir(os.Getenv, os.Geteuid()), "directory of certificates, kubeconfig and embedded etcd")
	f.StringVar(&c.Listen, "listen", "127.0.0.1:6443", "address of the API")
	f.IntVar(&c.ListenFD, "listen-fd", 0, "file descriptor of a listening socket to serve the API on, instead of --listen")
	f.StringSliceVar(&c.Hosts, "host", nil, "further names or addresses under which clients reach the API, for its certificate")
	f.StringSliceVar(&c.EtcdServers, "etcd-servers", nil, "endpoints of an external etcd; without any, one is run in this process")
	f.StringVar(&c.EtcdCA, "etcd-ca", "", "certificate authority of the external etcd, a PEM file")
	f.StringVar(&c.EtcdCert, "etcd-cert", "", "client certificate for the external etcd, a PEM file")
	f.StringVar(&c.EtcdKey, "etcd-key", "", "key of --etcd-cert")
	f.StringVar(&c.SecretsKeyFile, "secrets-key-file", "", "key with which Secrets are encrypted in etcd, base64 of 32 bytes, the same for all servers;\n"+
		"default is secrets.key in --data-dir with an etcd of our own, and no encryption with an external one")
	f.StringVar(&c.ServiceAccountKeyFile, "service-account-key-file", "", "keys of service accounts' tokens, EC keys (P-256) in PEM, the same for all servers; the first signs, all are believed;\n"+
		"default is pki/serviceaccounts.key in --data-dir")
	f.StringVar(&c.OIDC.IssuerURL, "oidc-issuer-url", "", "issuer of ID tokens (OpenID Connect) that are believed, https://...")
	f.StringVar(&c.OIDC.ClientID, "oidc-client-id", "", "whom these tokens must be meant for")
	f.StringVar(&c.OIDC.UsernameClaim, "oidc-username-claim", "", "claim that is the user's name; default is sub")
	f.StringVar(&c.OIDC.UsernamePrefix, "oidc-username-prefix", "", "what goes before it, - for nothing; default is ISSUER#, and nothing for the claim email")
	f.StringVar(&c.OIDC.GroupsClaim, "oidc-groups-claim", "", "claim that lists the user's groups; without it they have none")
	f.StringVar(&c.OIDC.GroupsPrefix, "oidc-groups-prefix", "", "what goes before each of them")
	f.StringVar(&c.OIDC.CAFile, "oidc-ca-file", "", "who signed the issuer's certificate, a PEM file; default is whom this host believes")
	f.StringVar(&c.Master, "master", "", "Mesos masters: http://HOST:PORT,HOST:PORT or zk://HOST:PORT,HOST:PORT/PATH")
	f.StringVar(&c.Framework, "framework-name", "padis", "name of the framework at the master")
	f.StringVar(&c.Role, "role", "*", "role to subscribe with")
	f.StringVar(&c.User, "user", "root", "user that executors run as")
	f.StringVar(&c.Principal, "principal", "", "principal for the master's and the agents' authentication")
	f.StringVar(&c.SecretFile, "secret-file", "", "file with the secret of --principal")
	f.DurationVar(&c.FailoverTimeout, "failover-timeout", 4*7*24*time.Hour, "how long Mesos keeps our instances while no scheduler is there")
	f.DurationVar(&c.PollAgents, "poll-agents", 2*time.Second, "how often the master is asked for its agents")
	f.StringVar(&c.ExecutorBinary, "executor-binary", "", "path of padis-executor; default is beside this program")
	f.StringVar(&c.ArtifactListen, "artifact-listen", "0.0.0.0:5080", "address at which agents fetch the executor")
	f.StringVar(&c.ArtifactURL, "artifact-url", "", "the same as the agents see it, for example http://10.0.0.1:5080")
	f.StringSliceVar(&c.GitFileRoots, "git-file-roots", nil, "directories of this host whose repositories GitSources may name by file://; without any, none")
	f.StringVar(&c.Outside, "outside", "", "")
	f.DurationVar(&c.OfferHold, "offer-hold", time.Second, "how long offers that fit nothing are kept while something is wanted")
	f.DurationVar(&c.UnreachableReplaceAfter, "unreachable-replace-after", 0, "how long to wait for an agent that Mesos calls unreachable before its instances are replaced")
	f.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	// Only `padis up` uses it.
	if err := f.MarkHidden("outside"); err != nil {
		panic(err)
	}
	return cmd
}

func newLogger(level string) (*zap.Logger, error) {
	at, err := zap.ParseAtomicLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	cfg := zap.NewProductionConfig()
	cfg.Level = at
	cfg.Sampling = nil
	cfg.DisableCaller, cfg.DisableStacktrace = true, true
	cfg.EncoderConfig.EncodeTime = zapTime
	return cfg.Build()
}

// executorBinary is --executor-binary, or padis-executor beside this program.
func (c schedulerConfig) executorBinary() (string, error) {
	if c.ExecutorBinary != "" {
		return c.ExecutorBinary, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "padis-executor")
	if _, err := os.Stat(path); err != nil {
		return "", errors.Join(usagef("padis-executor is not beside %s: name it with --executor-binary", self), err)
	}
	return path, nil
}
