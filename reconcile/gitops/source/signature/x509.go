package signature

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/smallstep/pkcs7"
)

type roots struct {
	pool *x509.CertPool
}

func readRoots(b []byte) (roots, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return roots{}, nil
	}
	r := roots{pool: x509.NewCertPool()}
	n := 0
	for rest := b; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 || n == 0 {
				return roots{}, errors.New("there is something that is not a certificate in PEM")
			}
			return r, nil
		}
		if block.Type != "CERTIFICATE" {
			return roots{}, fmt.Errorf("block %d is of the type %q and not a CERTIFICATE", n+1, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return roots{}, fmt.Errorf("block %d: %w", n+1, err)
		}
		r.pool.AddCert(c)
	}
}

// verify proves a detached CMS signature, as gpgsm, smimesign and gitsign write them. Certificates of gitsign live ten
// minutes; that it was within them that was signed is what the commit says, for no log of Rekor is asked.
func (r roots) verify(o Object) (Signer, error) {
	block, _ := pem.Decode(o.Signature)
	if block == nil || block.Type != "SIGNED MESSAGE" {
		return Signer{}, refuse(ReasonSignatureBroken, "", "the X.509 signature's armour cannot be read")
	}
	p7, err := pkcs7.Parse(block.Bytes)
	if err != nil {
		return Signer{}, refuse(ReasonSignatureBroken, "", "the X.509 signature cannot be read: %v", err)
	}
	cert := p7.GetOnlySigner()
	if cert == nil || len(p7.Content) != 0 {
		return Signer{}, refuse(ReasonSignatureBroken, "", "the X.509 signature is not a detached one of one signer with its certificate")
	}
	sum := sha256.Sum256(cert.Raw)
	id := "SHA256:" + hex.EncodeToString(sum[:])
	p7.Content = o.Payload
	// Without a trust store the library proves the signature alone, so that a wrong one and an unknown signer can be told apart.
	if err := p7.VerifyWithChainAtTime(nil, o.By.Time); err != nil {
		return Signer{}, refuse(ReasonSignatureBroken, id, "the signature by certificate %s (%s) does not fit: %v", id, cert.Subject, err)
	}
	if r.pool == nil {
		return Signer{}, refuse(ReasonSignerUnknown, id, "certificate %s (%s) signed, and no root certificates are trusted: add those of its issuer (%s) if you believe it", id, cert.Subject, cert.Issuer)
	}
	between := x509.NewCertPool()
	for _, c := range p7.Certificates {
		between.AddCert(c)
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: r.pool, Intermediates: between, CurrentTime: o.By.Time,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection}})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Signer{}, refuse(ReasonKeyNotValidThen, id, "certificate %s (%s) was not valid at %s: %v", id, cert.Subject, o.By.Time.Format(time.RFC3339), err)
	case err != nil:
		return Signer{}, refuse(ReasonSignerUnknown, id, "certificate %s (%s) is not believed: %v; add the root of its issuer (%s) if you believe it", id, cert.Subject, err, cert.Issuer)
	}
	s := Signer{Format: X509, Key: id, Identities: slices.Clone(cert.EmailAddresses)}
	for _, u := range cert.URIs {
		s.Identities = append(s.Identities, u.String())
	}
	if len(s.Identities) == 0 && cert.Subject.CommonName != "" {
		s.Identities = []string{cert.Subject.CommonName}
	}
	return s, nil
}
