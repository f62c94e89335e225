package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"padis.io/padis/proto/padis/stream"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// A slow reader takes so much, then rests.
	sip  = 4 << 10
	rest = 50 * time.Millisecond
)

// reader follows the output of one container, slowly.
type reader struct {
	cancel context.CancelFunc
	done   chan struct{}
	read   int64
	err    error
}

// follow asks the executor for the output of a container from its beginning on.
func (m *machine) follow(ctx context.Context, container string) (*reader, error) {
	client, authority, err := clientCertificate()
	if err != nil {
		return nil, err
	}
	executor, err := m.tell(ctx, &padisv1.ToExecutor{Generation: 1, ClientCa: string(authority)})
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{client},
		// The certificate is known by its bytes.
		InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) == 0 || !bytes.Equal(raw[0], executor.GetCertificate()) {
				return errors.New("another certificate than the executor said")
			}
			return nil
		},
	}}
	ctx, cancel := context.WithCancel(ctx)
	query := stream.LogRequest{Stream: "stdout", Follow: true, TailLines: -1, LimitBytes: -1}.Query()
	url := "https://" + executor.GetEndpoint() + stream.InstancesPath + container + stream.LogVerb + "?" + query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		cancel()
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		cancel()
		return nil, errors.Join(fmt.Errorf("%s: %s: %s", url, response.Status, text), response.Body.Close())
	}
	r := &reader{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer response.Body.Close()
		r.err = r.sip(ctx, response.Body)
	}()
	return r, nil
}

// sip reads until ctx ends, and compares with what a writer writes.
func (r *reader) sip(ctx context.Context, from io.Reader) error {
	got, want := make([]byte, lineBytes*(sip/lineBytes)), []byte{}
	for next := int64(0); ; {
		if _, err := io.ReadFull(from, got); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the output that is followed ended: %w", err)
		}
		want = want[:0]
		for len(want) < len(got) {
			want = line(want, next)
			next++
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("who follows the output slowly read something else before line %d", next)
		}
		r.read += int64(len(got))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rest):
		}
	}
}

// stop ends the reader and says how much it has read.
func (r *reader) stop() (int64, error) {
	r.cancel()
	<-r.done
	return r.read, r.err
}

// clientCertificate is that of a scheduler, and the authority (PEM) that signed it: itself.
func clientCertificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: stream.SchedulerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authority, nil
}
