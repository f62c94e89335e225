package server

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// fixedCA is a client CA that is never asked.
type fixedCA struct {
	dynamiccertificates.CAContentProvider
}

func (fixedCA) VerifyOptions() (x509.VerifyOptions, bool) { return x509.VerifyOptions{}, false }

func TestKeysAreKeptAndRenewed(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	open := func(at time.Time, names ...string) *pki {
		t.Helper()
		p, err := openPKI(dir, names, at)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := open(now, "localhost", "127.0.0.1")
	again := open(now.Add(time.Hour), "localhost", "127.0.0.1")
	if !bytes.Equal(first.server.certPEM, again.server.certPEM) || !bytes.Equal(first.admin.certPEM, again.admin.certPEM) || !bytes.Equal(first.caCert, again.caCert) {
		t.Error("keys that are good were made anew")
	}
	if first.executor.cert.Subject.CommonName != SchedulerName || len(first.executor.cert.Subject.Organization) != 0 {
		t.Errorf("the scheduler comes to executors as %s, which the API must take for nobody", first.executor.cert.Subject)
	}
	named := open(now, "localhost", "127.0.0.1", "padis.example.org", "192.0.2.7")
	if bytes.Equal(first.server.certPEM, named.server.certPEM) || !bytes.Equal(first.admin.certPEM, named.admin.certPEM) {
		t.Error("a new name must renew the serving certificate and no other")
	}
	if err := named.server.cert.VerifyHostname("192.0.2.7"); err != nil {
		t.Error(err)
	}
	later := open(now.Add(leafLife-renewBefore/2), "localhost")
	if bytes.Equal(named.server.certPEM, later.server.certPEM) || bytes.Equal(named.admin.certPEM, later.admin.certPEM) || !bytes.Equal(named.caCert, later.caCert) {
		t.Error("near their end the leaves must be made anew, and not the authority")
	}
	last := open(now.Add(caLife-renewBefore/2), "localhost")
	if bytes.Equal(later.caCert, last.caCert) {
		t.Error("near its end the authority must be made anew")
	}
	if err := last.server.cert.CheckSignatureFrom(parse(t, dir, "ca").cert); err != nil {
		t.Errorf("the serving certificate is not of the new authority: %v", err)
	}
}

func parse(t *testing.T, dir, name string) pair {
	t.Helper()
	p, err := readPair(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBrokenAuthorityIsNotReplacedInSilence(t *testing.T) {
	dir := t.TempDir()
	if _, err := openPKI(dir, []string{"localhost"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openPKI(dir, []string{"localhost"}, time.Now()); err == nil || !strings.Contains(err.Error(), "restore it") {
			t.Errorf("ca.crt with %q: %v, want an error with the remedy", content, err)
		}
	}
}

func FuzzReadPair(f *testing.F) {
	dir := f.TempDir()
	if _, err := openPKI(dir, []string{"localhost"}, time.Now()); err != nil {
		f.Fatal(err)
	}
	cert, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		f.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cert, key)
	f.Add(key, cert)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte{})
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		dir := t.TempDir()
		if os.WriteFile(filepath.Join(dir, "x.crt"), cert, 0o600) != nil || os.WriteFile(filepath.Join(dir, "x.key"), key, 0o600) != nil {
			t.Skip("no space for the files")
		}
		if p, err := readPair(dir, "x"); err == nil && (p.cert == nil || p.key == nil) {
			t.Error("no error and no key")
		}
	})
}
