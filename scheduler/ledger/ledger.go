// Package ledger keeps the durable records of the scheduler: what is wanted, what was launched, who holds which address.
// Edge: talks to etcd.
//
// One process writes, the one that made the newest epoch: the key PREFIXepoch is rewritten by every takeover, and every
// transaction compares its revision. A process that was replaced without noticing can read, but not write: ErrFenced.
//
// A record is stored below PREFIX under its key of package record, as one format byte and the protobuf message; see
// decode. Fields are only ever added to the messages, so that records of older and newer versions can be read.
package ledger

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

// Defaults of Config.
const (
	DefaultPrefix      = "/padis/ledger/"
	DefaultDialTimeout = 5 * time.Second
	DefaultTTL         = 2 * time.Second
	// DefaultMaxTxnOps is what an etcd accepts unless it was started with another --max-txn-ops.
	DefaultMaxTxnOps = 128
)

// Keys of the ledger's own, below the prefix.
const (
	keyEpoch  = "epoch"
	keyLeader = "leader"
)

var (
	// ErrFenced tells that another process has taken the ledger over: from now on nothing of this one is written. Stop,
	// and start again as a stand-by.
	ErrFenced = errors.New("the ledger was taken over by another scheduler; this one must stop")
	// ErrNotLeading tells that this process has not taken the ledger over yet: call Lead first.
	ErrNotLeading = errors.New("the ledger was not taken over by this scheduler; lead first")
	// ErrCorrupt tells that a value cannot be read. The error names the key and what to do.
	ErrCorrupt = errors.New("corrupt record")
)

// Config says where the ledger is.
type Config struct {
	// Endpoints of etcd, for example https://10.0.0.1:2379 or unix:///run/padis/etcd.sock.
	Endpoints []string
	// Client is used instead of Endpoints if etcd is in this process: a commit by a socket takes half as long again. The
	// Ledger closes it.
	Client *clientv3.Client
	// CAFile, CertFile and KeyFile are PEM files for TLS; all empty for none. The certificate is optional.
	CAFile, CertFile, KeyFile string
	// Prefix of all keys; default is DefaultPrefix. It ends in a slash.
	Prefix string
	// Owner names this process to people, in the epoch and among the candidates; default is host name and process id.
	Owner string
	// StandBy leaves the epoch alone until Lead is called. Without it Open takes the ledger over at once, from whoever
	// has it.
	StandBy bool
	// TTL is how long a leader that does not answer keeps its place; default is DefaultTTL. etcd rounds it up to
	// seconds, and to one and a half times its own election timeout.
	TTL time.Duration
	// DialTimeout is how long Open waits for etcd; default is DefaultDialTimeout.
	DialTimeout time.Duration
	// MaxTxnOps is the --max-txn-ops of etcd; default is DefaultMaxTxnOps. Commits up to it are atomic.
	MaxTxnOps int
	Logger    *zap.Logger
}

// validate checks the configuration and fills in defaults.
func (c *Config) validate() error {
	if len(c.Endpoints) == 0 && c.Client == nil {
		return errors.New("ledger: no etcd endpoint; name one, for example http://127.0.0.1:2379")
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(c.Prefix, "/") {
		return fmt.Errorf("ledger: the prefix %q must end in a slash", c.Prefix)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("ledger: a certificate needs its key, and a key its certificate; give both files or none")
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = DefaultDialTimeout
	}
	if c.MaxTxnOps == 0 {
		c.MaxTxnOps = DefaultMaxTxnOps
	}
	if c.TTL < 0 || c.DialTimeout < 0 || c.MaxTxnOps < 0 {
		return errors.New("ledger: times and numbers must be positive")
	}
	if c.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		c.Owner = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return nil
}

// tls reads the files; nil if there are none.
func (c *Config) tls() (*tls.Config, error) {
	if c.CAFile == "" && c.CertFile == "" {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ledger: read the certificate authority of etcd: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ledger: %s holds no PEM certificate; give the certificate authority of etcd", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("ledger: read the client certificate for etcd: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// Ledger is a connection to the durable records. It is safe for concurrent use; Commits are carried out one at a time.
type Ledger struct {
	cfg    Config
	client *clientv3.Client
	log    *zap.Logger

	// commit lets one Commit run at a time, so that the parts of two large ones do not mix.
	commit sync.Mutex

	mu sync.Mutex
	// epoch and its revision, which every transaction compares; 0 before the takeover.
	epoch, revision int64
	session         *concurrency.Session
	election        *concurrency.Election
}

// Open connects to etcd and, unless the configuration says StandBy, takes the ledger over.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	client, err := cfg.connect()
	if err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, client: client, log: cfg.Logger}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return l, nil
}

func (c *Config) connect() (*clientv3.Client, error) {
	if c.Client != nil {
		return c.Client, nil
	}
	secure, err := c.tls()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  secure,
		DialTimeout:          c.DialTimeout,
		DialKeepAliveTime:    c.TTL,
		DialKeepAliveTimeout: c.TTL,
		Logger:               c.Logger.Named("etcd"),
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: connect to etcd at %s: %w", strings.Join(c.Endpoints, ","), err)
	}
	return client, nil
}

// start proves that etcd answers, and takes over.
func (l *Ledger) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout)
	defer cancel()
	if _, err := l.client.Get(ctx, l.cfg.Prefix+keyEpoch); err != nil {
		return fmt.Errorf("ledger: etcd at %s does not answer: %w; see that it runs and that the endpoints are right",
			strings.Join(l.client.Endpoints(), ","), err)
	}
	if l.cfg.StandBy {
		return nil
	}
	return l.takeOver(ctx)
}

// Close gives up leadership, so that a stand-by need not wait for the TTL, and closes the connection.
func (l *Ledger) Close() error {
	l.mu.Lock()
	election, session := l.election, l.session
	l.election, l.session = nil, nil
	l.epoch, l.revision = 0, 0
	l.mu.Unlock()
	var errs []error
	if election != nil {
		ctx, cancel := context.WithTimeout(context.Background(), l.cfg.DialTimeout)
		defer cancel()
		errs = append(errs, election.Resign(ctx))
	}
	if session != nil {
		// A lease that has run out already is as good as a revoked one.
		if err := session.Close(); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			errs = append(errs, err)
		}
	}
	// A client without a connection always reports that it is closed.
	if err := l.client.Close(); l.client.ActiveConnection() != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("ledger: close: %w", err)
	}
	return nil
}

// Epoch is the number of takeovers up to this process's own; 0 before it.
func (l *Ledger) Epoch() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// Lead waits until this process is the leader, then takes the ledger over. lost is closed when etcd has not heard of
// this process for the TTL: another one may lead by then, and Commit fails with ErrFenced as soon as it does.
func (l *Ledger) Lead(ctx context.Context) (lost <-chan struct{}, err error) {
	ttl := int64((l.cfg.TTL + time.Second - 1) / time.Second)
	grant, err := l.client.Grant(ctx, ttl)
	if err != nil {
		return nil, fmt.Errorf("ledger: register as a candidate: %w", err)
	}
	// The session outlives ctx, which bounds the waiting only; Close ends it.
	session, err := concurrency.NewSession(l.client, concurrency.WithTTL(int(ttl)), concurrency.WithLease(grant.ID))
	if err != nil {
		return nil, fmt.Errorf("ledger: register as a candidate: %w", err)
	}
	election := concurrency.NewElection(session, l.cfg.Prefix+keyLeader)
	if err := election.Campaign(ctx, l.cfg.Owner); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: wait for leadership: %w", err), session.Close())
	}
	select {
	case <-session.Done():
		return nil, errors.New("ledger: etcd forgot this candidate while it waited for leadership; try again")
	default:
	}
	if err := l.takeOver(ctx); err != nil {
		return nil, errors.Join(err, session.Close())
	}
	l.mu.Lock()
	before := l.session
	l.session, l.election = session, election
	l.mu.Unlock()
	if before != nil {
		// The lease of an earlier, lost leadership: gone already, or soon.
		before.Orphan()
	}
	return session.Done(), nil
}

// takeOver makes a new epoch. From then on no other process can write.
func (l *Ledger) takeOver(ctx context.Context) error {
	key := l.cfg.Prefix + keyEpoch
	for {
		got, err := l.client.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("ledger: read the epoch: %w", err)
		}
		var epoch, revision int64
		if len(got.Kvs) > 0 {
			revision = got.Kvs[0].ModRevision
			if epoch, err = decodeEpoch(got.Kvs[0].Value); err != nil {
				return fmt.Errorf("ledger: key %s: %w: %w; restore etcd from a backup, or write a number into it that is higher than any before",
					key, ErrCorrupt, err)
			}
		}
		epoch++
		put, err := l.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
			Then(clientv3.OpPut(key, encodeEpoch(epoch, l.cfg.Owner))).
			Commit()
		if err != nil {
			return fmt.Errorf("ledger: write the epoch: %w", err)
		}
		if !put.Succeeded {
			continue // somebody else was faster: take over from them
		}
		l.mu.Lock()
		l.epoch, l.revision = epoch, put.Header.Revision
		l.mu.Unlock()
		l.log.Info("took the ledger over", zap.Int64("epoch", epoch), zap.String("owner", l.cfg.Owner))
		return nil
	}
}

// The epoch is written for people: its number and who made it.
func encodeEpoch(epoch int64, owner string) string { return fmt.Sprintf("%d %s", epoch, owner) }

func decodeEpoch(b []byte) (int64, error) {
	number, _, _ := strings.Cut(string(b), " ")
	epoch, err := strconv.ParseInt(number, 10, 64)
	if err != nil || epoch < 0 || epoch == 1<<63-1 {
		return 0, fmt.Errorf("%.40q does not begin with an epoch", b)
	}
	return epoch, nil
}
