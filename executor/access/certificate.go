package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"padis.io/padis/proto/padis/stream"
)

// certificateLife outlives any executor: the certificate is known by its bytes, not by its dates.
const certificateLife = 100 * 365 * 24 * time.Hour

func newCertificate(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "padis:executor"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// admit says how one client is to be checked.
func (s *Server) admit(certificate tls.Certificate) (*tls.Config, error) {
	clients := s.clients.Load()
	if clients == nil {
		return nil, errors.New("nobody is let in before the scheduler has said who may be")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		// A session that is resumed would not be checked against an authority that has changed.
		SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"}, VerifyConnection: onlyScheduler,
	}, nil
}

func onlyScheduler(state tls.ConnectionState) error {
	if name := state.PeerCertificates[0].Subject.CommonName; name != stream.SchedulerName {
		return fmt.Errorf("client %q is not %s", name, stream.SchedulerName)
	}
	return nil
}
