package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"padis.io/padis/api/server/live"
	"padis.io/padis/mesos/files"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// authority signs what the two sides of an etcd show each other.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) sign(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	must := func(err error) {
		a.t.Helper()
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	c.Subject = pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := c, key
	if a.cert != nil {
		parent, by = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	must(err)
	signed, err := x509.ParseCertificate(der)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(err)
	must(os.WriteFile(a.file(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	return signed, key
}

// tlsEtcd runs an etcd that lets nobody in without a certificate of the authority, and returns its endpoint.
func tlsEtcd(t *testing.T, a *authority) string {
	t.Helper()
	a.sign("etcd", &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	dir := t.TempDir()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	cfg.Logger, cfg.LogLevel, cfg.LogOutputs = "zap", "error", []string{filepath.Join(dir, "log")}
	client := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls = nil
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.ClientCertAuth = a.file("ca.crt"), true
	cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = a.file("etcd.crt"), a.file("etcd.key")
	cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync = 10, 100, true
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	}
	return "https://" + e.Clients[0].Addr().String()
}

// One set of flags is for both clients of an external etcd: that of the API server and that of the ledger.
func TestExternalEtcdIsReachedWithItsCertificates(t *testing.T) {
	a := newAuthority(t)
	endpoint := tlsEtcd(t, a)
	a.sign("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	c := schedulerConfig{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0", EtcdServers: []string{endpoint},
		EtcdCA: a.file("ca.crt"), EtcdCert: a.file("client.crt"), EtcdKey: a.file("client.key"),
	}
	known := make(chan struct{})
	close(known)
	api, err := newServer(c, live.NewStores(time.Now), known, &door{files: files.New(files.Config{})}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- api.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-api.Ready():
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("the API server does not get at its etcd")
	}
	client, err := kubernetes.NewForConfig(api.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}

	records, err := openLedger(ctx, c, api, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Commit(ctx, []record.Write{{Key: record.KeyFramework, Value: &padisv1.FrameworkRecord{FrameworkId: "f"}}}); err != nil {
		t.Error(err)
	}
	if s, err := records.Load(ctx); err != nil || s.Framework.GetFrameworkId() != "f" {
		t.Errorf("%v, %v", s.Framework, err)
	}
	if err := records.Close(); err != nil {
		t.Error(err)
	}

	// The etcd does ask for a certificate.
	c.EtcdCert, c.EtcdKey = "", ""
	if l, err := openLedger(ctx, c, api, zap.NewNop()); err == nil {
		_ = l.Close()
		t.Error("etcd let somebody in without a certificate")
	}
}

func TestWhatIsWrongWithEtcdsCertificatesIsSaidAtOnce(t *testing.T) {
	a := newAuthority(t)
	for _, c := range []struct {
		servers   []string
		ca, cert  string
		key, want string
	}{
		{[]string{"https://127.0.0.1:1"}, a.file("none"), "", "", "none: no such file"},
		{[]string{"https://127.0.0.1:1"}, a.file("ca.key"), "", "", "ca.key holds no PEM certificate"},
		{[]string{"https://127.0.0.1:1"}, "", a.file("ca.crt"), a.file("ca.crt"), "client certificate for etcd"},
		{[]string{"https://127.0.0.1:1"}, "", a.file("ca.crt"), "", "a certificate needs its key"},
		{nil, a.file("ca.crt"), "", "", "Config.EtcdServers"},
	} {
		config := schedulerConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0", EtcdServers: c.servers, EtcdCA: c.ca, EtcdCert: c.cert, EtcdKey: c.key}
		_, err := newServer(config, live.NewStores(time.Now), nil, &door{}, zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	config := schedulerConfig{DataDir: "d", Master: "m", ArtifactURL: "u", FailoverTimeout: time.Hour, EtcdCA: "ca"}
	if err := config.validate(); err == nil || !strings.Contains(err.Error(), "--etcd-servers") {
		t.Errorf("--etcd-ca without --etcd-servers: %v", err)
	}
}
