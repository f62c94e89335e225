package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 365 * 24 * time.Hour
	// renewBefore is the rest of life below which a certificate is made anew at the next start.
	renewBefore = 30 * 24 * time.Hour
	// backdate forgives clients whose clock is behind.
	backdate = time.Hour
)

// SchedulerName is the common name with which the scheduler comes to executors. As a user of the API it may do nothing.
const SchedulerName = "padis:scheduler"

// pair is a certificate and its key, in PEM and parsed.
type pair struct {
	certPEM, keyPEM []byte
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
}

// pki are the keys of the server: an authority of its own, what it serves with, what the administrator logs in with, and
// what it shows to executors.
type pki struct {
	caCert   []byte
	server   pair
	admin    pair
	executor pair
}

// openPKI reads the keys in dir and makes those that are missing, near their end, or not valid for the names.
func openPKI(dir string, names []string, now time.Time) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	ca, err := readPair(dir, "ca")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: restore it, or remove %s to make new keys (clients then need the new kubeconfig)", err, dir)
	}
	if err != nil || ca.cert.NotAfter.Sub(now) < renewBefore {
		template := &x509.Certificate{
			Subject: pkix.Name{CommonName: "padis-ca"}, IsCA: true, BasicConstraintsValid: true, NotAfter: now.Add(caLife),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		if ca, err = makePair(dir, "ca", template, nil, now); err != nil {
			return nil, err
		}
	}
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "padis"}, NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, n)
		}
	}
	admin := &x509.Certificate{
		Subject: pkix.Name{CommonName: "padis-admin", Organization: []string{masters}}, NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	executor := &x509.Certificate{
		Subject: pkix.Name{CommonName: SchedulerName}, NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	out := &pki{caCert: ca.certPEM}
	if out.server, err = leaf(dir, "server", server, ca, now, names); err != nil {
		return nil, err
	}
	if out.admin, err = leaf(dir, "admin", admin, ca, now, nil); err != nil {
		return nil, err
	}
	if out.executor, err = leaf(dir, "scheduler", executor, ca, now, nil); err != nil {
		return nil, err
	}
	return out, nil
}

// leaf reads a certificate, or makes it anew when it cannot serve as the template asks.
func leaf(dir, name string, template *x509.Certificate, ca pair, now time.Time, names []string) (pair, error) {
	p, err := readPair(dir, name)
	if err == nil && p.cert.NotAfter.Sub(now) >= renewBefore && p.cert.CheckSignatureFrom(ca.cert) == nil {
		for _, n := range names {
			if err = p.cert.VerifyHostname(n); err != nil {
				break
			}
		}
		if err == nil {
			return p, nil
		}
	}
	return makePair(dir, name, template, &ca, now)
}

func readPair(dir, name string) (pair, error) {
	var (
		p   pair
		err error
	)
	if p.certPEM, err = os.ReadFile(filepath.Join(dir, name+".crt")); err != nil {
		return p, fmt.Errorf("certificate: %w", err)
	}
	if p.keyPEM, err = os.ReadFile(filepath.Join(dir, name+".key")); err != nil {
		return p, fmt.Errorf("key: %w", err)
	}
	cert, _ := pem.Decode(p.certPEM)
	key, _ := pem.Decode(p.keyPEM)
	if cert == nil || key == nil {
		return p, fmt.Errorf("%s: not a PEM certificate and key", filepath.Join(dir, name))
	}
	if p.cert, err = x509.ParseCertificate(cert.Bytes); err != nil {
		return p, fmt.Errorf("%s.crt: %w", filepath.Join(dir, name), err)
	}
	if p.key, err = x509.ParseECPrivateKey(key.Bytes); err != nil {
		return p, fmt.Errorf("%s.key: %w", filepath.Join(dir, name), err)
	}
	if !p.key.PublicKey.Equal(p.cert.PublicKey) {
		return p, fmt.Errorf("%s: certificate and key do not belong together", filepath.Join(dir, name))
	}
	return p, nil
}

// makePair signs a certificate with ca, or with its own key when ca is nil, and writes it.
func makePair(dir, name string, template *x509.Certificate, ca *pair, now time.Time) (pair, error) {
	var p pair
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return p, fmt.Errorf("key of %s: %w", name, err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return p, fmt.Errorf("serial number of %s: %w", name, err)
	}
	template.NotBefore = now.Add(-backdate)
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return p, fmt.Errorf("certificate of %s: %w", name, err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return p, fmt.Errorf("key of %s: %w", name, err)
	}
	p.certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p.keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	p.key = key
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		return p, fmt.Errorf("certificate of %s: %w", name, err)
	}
	if err = writeFile(filepath.Join(dir, name+".key"), p.keyPEM, 0o600); err != nil {
		return p, err
	}
	return p, writeFile(filepath.Join(dir, name+".crt"), p.certPEM, 0o644)
}

// writeFile replaces a file whole, so that a crash leaves the old or the new one.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
