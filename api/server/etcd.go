package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.uber.org/zap"
)

const (
	// etcdStart bounds the time that etcd may take to read its log.
	etcdStart = 2 * time.Minute
	// maxSocketPath is the longest path of a Unix socket on Linux, less the terminating zero.
	maxSocketPath = 107
)

// EtcdTLS are the PEM files with which an external etcd is reached. All may be empty; the certificate and its key go
// together.
type EtcdTLS struct{ CAFile, CertFile, KeyFile string }

// check finds early what the client of etcd would not say, or only after it has waited.
func (e EtcdTLS) check() error {
	if e.CAFile != "" {
		b, err := os.ReadFile(e.CAFile)
		if err != nil {
			return fmt.Errorf("certificate authority of etcd: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(b) {
			return fmt.Errorf("certificate authority of etcd: %s holds no PEM certificate", e.CAFile)
		}
	}
	if (e.CertFile == "") != (e.KeyFile == "") {
		return errors.New("client certificate for etcd: a certificate needs its key, and a key its certificate")
	}
	if e.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile); err != nil {
			return fmt.Errorf("client certificate for etcd, %s and %s: %w", e.CertFile, e.KeyFile, err)
		}
	}
	return nil
}

// embeddedEtcd is an etcd of one member in this process, reached over a Unix socket only.
type embeddedEtcd struct {
	etcd  *embed.Etcd
	url   string
	level zap.AtomicLevel
	// db is the file that it maps.
	db string
	mu sync.Mutex
	// closed, by mu: it is asked for nothing any more.
	closed bool
	// sockets is a directory to be removed at the end, if the data directory's path was too long for a socket.
	sockets string
}

func startEtcd(dataDir string, log *zap.Logger) (*embeddedEtcd, error) {
	e := &embeddedEtcd{}
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	sockets := dir
	if len(filepath.Join(sockets, "etcd.sock")) > maxSocketPath {
		if sockets, err = os.MkdirTemp("", "padis-etcd-"); err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		e.sockets = sockets
	}
	client := url.URL{Scheme: "unix", Path: filepath.Join(sockets, "etcd.sock")}
	e.url = client.String()

	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "etcd")
	e.db = datadir.ToBackendFileName(cfg.Dir)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	// A single member needs no door for peers; the name of the advertised one only tells members apart.
	cfg.ListenPeerUrls = nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e.level = zap.NewAtomicLevelAt(zap.ErrorLevel)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log.Named("etcd").WithOptions(zap.IncreaseLevel(e.level)))
	cfg.EnableGRPCGateway = false
	// A single member need not wait for others to answer.
	cfg.TickMs, cfg.ElectionMs = 100, 1000
	// The entries kept for followers that lag stay in memory; there are no followers.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 5000, 100
	cfg.QuotaBackendBytes = 4 << 30
	cfg.MaxRequestBytes = 4 << 20
	cfg.MaxTxnOps = 4096
	// What is in the log is durable already. Copying it to the database holds up whoever writes meanwhile: less often, then.
	cfg.BackendBatchInterval = time.Second
	// Beside the API server's own compaction by time, so that a burst of ledger writes does not fill the disk.
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "revision", "50000"

	if e.etcd, err = embed.StartEtcd(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd in %s: %w: is another server running on this data directory?", cfg.Dir, err), e.removeSockets())
	}
	select {
	case <-e.etcd.Server.ReadyNotify():
		return e, nil
	case err = <-e.etcd.Err():
	case <-time.After(etcdStart):
		err = fmt.Errorf("not ready within %s", etcdStart)
	}
	e.close()
	return nil, fmt.Errorf("etcd in %s: %w", cfg.Dir, err)
}

func (e *embeddedEtcd) endpoints() []string { return []string{e.url} }

// held calls use with the path of the database, which stays mapped where it is meanwhile; not at all once it is closed.
func (e *embeddedEtcd) held(use func(db string) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	db, err := filepath.EvalSymlinks(e.db)
	if err != nil {
		return fmt.Errorf("database of etcd: %w", err)
	}
	// While it is read from, it is mapped nowhere else.
	snapshot := e.etcd.Server.Backend().Snapshot()
	return errors.Join(use(db), snapshot.Close())
}

func (e *embeddedEtcd) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	if e.etcd != nil {
		// It reports each listener that it closes itself as an error.
		e.level.SetLevel(zap.FatalLevel)
		e.etcd.Close()
	}
	_ = e.removeSockets()
}

func (e *embeddedEtcd) removeSockets() error {
	if e.sockets == "" {
		return nil
	}
	return os.RemoveAll(e.sockets)
}
