// Package server is the API of Padis: the Kubernetes API machinery, without Kubernetes, in one process over embedded
// or external etcd. Edge: talks to etcd and to API clients over HTTPS.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/zapr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	apiextserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/storage/etcd3/metrics"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"padis.io/padis/api/server/audit"
	"padis.io/padis/api/server/live"
	"padis.io/padis/api/server/webhooks"
)

// DefaultListenAddress is where the API is served unless told otherwise.
const DefaultListenAddress = "127.0.0.1:6443"

// hooksTime bounds the wait for the start to be over before the server may stop.
const hooksTime = 10 * time.Second

// Config is what a Server needs. Only DataDir is required.
type Config struct {
	// DataDir holds pki/, etcd/, secrets.key, tokens.csv and kubeconfig. It is created if need be.
	DataDir string
	// Listener serves the API; without one, ListenAddress is opened. The server's own clients do not go through it, so
	// that it may have been opened in another network namespace.
	Listener net.Listener
	// ListenAddress is HOST:PORT; default is DefaultListenAddress.
	ListenAddress string
	// Hosts are further names and addresses of the serving certificate.
	Hosts []string
	// EtcdServers are the endpoints of an external etcd; without any, one is run in this process.
	EtcdServers []string
	// EtcdTLS is for them.
	EtcdTLS EtcdTLS
	// SecretsKeyFile has the key with which Secrets are encrypted in etcd: base64 of 32 bytes, readable by its owner only.
	// Without it, one is made in DataDir; with an external etcd Secrets are then not encrypted.
	SecretsKeyFile string
	// ServiceAccountKeyFile has the keys of service accounts' tokens: private EC keys (P-256) in PEM, readable by their owner
	// only. The first signs, all are believed. Without it, one is made in DataDir/pki; servers that share an external etcd
	// need the same.
	ServiceAccountKeyFile string
	// OIDC is whose tokens are believed besides; nobody's without an issuer.
	OIDC OIDC
	// Live are the projections that are served from memory; nil serves none.
	Live *live.Stores
	// Logs reads the output of instances; nil answers that there is none.
	Logs live.LogReader
	// Access reaches into instances; nil answers that there is no way.
	Access live.Access
	// Balances knows how it stands with LoadBalancers; nil answers that nobody does.
	Balances live.Balances
	// Plans knows what would happen if objects were applied; nil answers that nobody does.
	Plans Planner
	// Open, when it is closed, lets clients in, but not before all kinds are served; nil waits for nothing else. Whoever
	// fills Live closes it when what was known before the start is there again.
	Open <-chan struct{}
	// Version is Padis' own, shown by `kubectl version` behind that of the API machinery.
	Version string
	// Logger is also given what the API machinery and etcd have to say.
	Logger *zap.Logger
}

func (c *Config) validate() error {
	if c.DataDir == "" {
		return errors.New("the API server needs a data directory: set Config.DataDir")
	}
	if c.Listener != nil {
		if _, ok := c.Listener.Addr().(*net.TCPAddr); !ok {
			return fmt.Errorf("the API is served over TCP, not over %s: give it a TCP listener", c.Listener.Addr().Network())
		}
	}
	if len(c.EtcdServers) == 0 && c.EtcdTLS != (EtcdTLS{}) {
		return errors.New("the etcd of this process is not reached by TLS: set Config.EtcdServers, or leave Config.EtcdTLS empty")
	}
	if err := c.OIDC.check(); err != nil {
		return err
	}
	return c.EtcdTLS.check()
}

// Identity is a client certificate with its key, and the authority that signed it, all in PEM.
type Identity struct{ CA, Certificate, Key []byte }

// Server is an API server. It is made by New and serves while Run runs.
type Server struct {
	cfg      Config
	log      *zap.Logger
	etcd     *embeddedEtcd // nil with an external one
	backends []string
	listener *joinedListener
	loopback *rest.Config
	identity Identity
	crd      *apiextserver.CustomResourceDefinitions
	admit    *admissionChain
	who      access
	life     context.Context // of what New starts and Close ends
	end      context.CancelFunc
	audit    *audit.Log
	syncs    syncs
	webhooks *webhooks.Receiver
	ready    chan struct{}
}

// New opens the listener, etcd and the certificates, and builds the server. Close what it opened by running it, or
// with Close if it is never run.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Live == nil {
		cfg.Live = live.NewStores(time.Now)
	}
	klog.SetLogger(zapr.NewLogger(cfg.Logger.Named("api").WithOptions(zap.IncreaseLevel(zap.WarnLevel))))
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	s := &Server{cfg: cfg, log: cfg.Logger.Named("api"), syncs: newSyncs(), ready: make(chan struct{}), who: access{newGrants()}}
	s.life, s.end = context.WithCancel(context.Background())
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open() error {
	var err error
	if s.listener, err = listen(s.cfg.Listener, s.cfg.ListenAddress); err != nil {
		return err
	}
	keys, err := openPKI(filepath.Join(s.cfg.DataDir, "pki"), s.listener.names(s.cfg.Hosts), time.Now())
	if err != nil {
		return err
	}
	s.identity = Identity{CA: keys.caCert, Certificate: keys.executor.certPEM, Key: keys.executor.keyPEM}
	if s.backends = s.cfg.EtcdServers; len(s.backends) == 0 {
		if s.etcd, err = startEtcd(s.cfg.DataDir, s.cfg.Logger); err != nil {
			return err
		}
		s.backends = s.etcd.endpoints()
	}
	if s.loopback, err = s.listener.clientConfig(keys.caCert); err != nil {
		return err
	}
	s.admit = newAdmission(s.cfg.Live, s.who)
	if s.audit, err = audit.Open(s.cfg.DataDir, time.Now); err != nil {
		return err
	}
	if s.crd, err = s.build(keys); err != nil {
		return err
	}
	return writeKubeconfig(filepath.Join(s.cfg.DataDir, "kubeconfig"), s.listener.url(), keys)
}

// EtcdEndpoints are the endpoints of the etcd in use. The API keeps its objects below /registry; all other keys are
// free for others.
func (s *Server) EtcdEndpoints() []string { return s.backends }

// EtcdClient makes a client of the etcd in this process, which needs no socket; nil if the etcd in use is another. Close it
// before the server.
func (s *Server) EtcdClient() *clientv3.Client {
	if s.etcd == nil {
		return nil
	}
	return v3client.New(s.etcd.etcd.Server)
}

// Database calls use with the path of the file in which the API is, which stays mapped where it is meanwhile; not at all if it is in
// an external etcd, or at the end.
func (s *Server) Database(use func(file string) error) error {
	if s.etcd == nil {
		return nil
	}
	return s.etcd.held(use)
}

// LoopbackConfig is for clients in this process; they are allowed everything and not limited.
func (s *Server) LoopbackConfig() *rest.Config { return rest.CopyConfig(s.loopback) }

// SchedulerIdentity is what the scheduler shows to executors, and the authority that they must check it by.
func (s *Server) SchedulerIdentity() Identity { return s.identity }

// Ready is closed when all kinds are served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// URL is where clients reach the API.
func (s *Server) URL() string { return s.listener.url() }

// Kubeconfig is the path of the file that makes a client an administrator.
func (s *Server) Kubeconfig() string { return filepath.Join(s.cfg.DataDir, "kubeconfig") }

// Run serves until ctx ends, then closes everything. It is to be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	err := s.crd.GenericAPIServer.AddPostStartHook("padis-bootstrap", func(hook genericapiserver.PostStartHookContext) error {
		// An error returned from here would end the whole process.
		if err := s.bootstrap(hook.Context); err != nil && hook.Err() == nil {
			fail(fmt.Errorf("API server: start: %w", err))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	prepared := s.crd.GenericAPIServer.PrepareRun()
	go s.letIn(ctx)
	go func() {
		<-ctx.Done()
		s.awaitHooks()
		stop()
	}()
	if err := prepared.RunWithContext(serving); err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// awaitHooks waits until the machinery has started: its hooks take being stopped before that for a failure and end
// the whole process.
func (s *Server) awaitHooks() {
	late := time.NewTimer(hooksTime)
	defer late.Stop()
	for _, done := range s.crd.GenericAPIServer.MuxAndDiscoveryCompleteSignals() {
		select {
		case <-done:
		case <-late.C:
			return
		}
	}
}

// letIn opens the door to clients when there is something true to tell them.
func (s *Server) letIn(ctx context.Context) {
	for _, c := range []<-chan struct{}{s.ready, s.cfg.Open} {
		if c == nil {
			continue
		}
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
	s.listener.open()
}

// Close frees what New opened. Run does it by itself.
func (s *Server) Close() {
	s.end()
	// The metrics of the process would go on asking an etcd that is closed.
	metrics.SetStorageMonitorGetter(func() ([]metrics.Monitor, error) { return nil, nil })
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.webhooks != nil {
		s.webhooks.Close()
	}
	if s.audit != nil {
		_ = s.audit.Close()
	}
	if s.etcd != nil {
		s.etcd.close()
	}
}
