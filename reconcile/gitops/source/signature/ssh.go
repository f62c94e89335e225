package signature

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// namespace is what git signs in; a signature of a file or a mail is none of a commit.
const namespace = "git"

// allowedSigner is one line of allowed signers.
type allowedSigner struct {
	principals  []string
	authority   bool
	namespaces  []string
	after       time.Time
	before      time.Time
	key         ssh.PublicKey
	fingerprint string
}

func readAllowedSigners(text []byte) ([]allowedSigner, error) {
	var out []allowedSigner
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := readAllowedSigner(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func readAllowedSigner(line string) (allowedSigner, error) {
	var s allowedSigner
	principals, rest := field(line)
	s.principals = strings.Split(strings.Trim(principals, `"`), ",")
	if slices.Contains(s.principals, "") {
		return s, fmt.Errorf("%q: an empty principal", principals)
	}
	for _, p := range s.principals {
		if _, err := path.Match(strings.TrimPrefix(p, "!"), ""); err != nil {
			return s, fmt.Errorf("principal %q is not a pattern", p)
		}
	}
	// ParseAuthorizedKey splits what is left just so: options, type, key, comment.
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return s, fmt.Errorf("%q: no key of the form PRINCIPALS [OPTIONS] TYPE BASE64", rest)
	}
	s.key, s.fingerprint = key, ssh.FingerprintSHA256(key)
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "cert-authority":
			s.authority = true
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
		case "valid-after":
			s.after, err = validity(value)
		case "valid-before":
			s.before, err = validity(value)
		default:
			err = fmt.Errorf("option %q is not known; there are cert-authority, namespaces, valid-after and valid-before", name)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// field cuts the first field off; it may be quoted.
func field(line string) (first, rest string) {
	if strings.HasPrefix(line, `"`) {
		if i := strings.IndexByte(line[1:], '"'); i >= 0 {
			return line[:i+2], strings.TrimSpace(line[i+2:])
		}
	}
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimSpace(line[i:])
}

func validity(s string) (time.Time, error) {
	digits := strings.TrimSuffix(s, "Z")
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) == len(digits) {
			if t, err := time.Parse(layout, digits); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("time %q is not of the form YYYYMMDD[HHMM[SS]][Z]", s)
}

// matches does what match_pattern_list of OpenSSH does: one pattern fits, and none that is negated does.
func matches(patterns []string, s string) bool {
	found := false
	for _, p := range patterns {
		not := strings.HasPrefix(p, "!")
		// OpenSSH has no classes, and its * goes over a slash; names of keys have none.
		if ok, _ := path.Match(strings.TrimPrefix(p, "!"), s); ok {
			if not {
				return false
			}
			found = true
		}
	}
	return found
}

// sshSignature is the blob of PROTOCOL.sshsig of OpenSSH.
type sshSignature struct {
	Version       uint32
	PublicKey     []byte
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Signature     []byte
}

const sshMagic = "SSHSIG"

// formatDSA is the signature format of DSA keys (RFC 4253), which has SHA-1 as RSA's of old.
const formatDSA = "ssh-dss"

func readSSH(armoured []byte) (sshSignature, error) {
	var s sshSignature
	text := strings.TrimSpace(strings.ReplaceAll(string(armoured), "\r", ""))
	text, ok1 := strings.CutPrefix(text, "-----BEGIN SSH SIGNATURE-----\n")
	text, ok2 := strings.CutSuffix(text, "\n-----END SSH SIGNATURE-----")
	if !ok1 || !ok2 {
		return s, errors.New("its armour is not that of an SSH signature")
	}
	blob, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		return s, fmt.Errorf("its armour: %w", err)
	}
	blob, ok := bytes.CutPrefix(blob, []byte(sshMagic))
	if !ok {
		return s, errors.New("it does not begin with " + sshMagic)
	}
	if err := ssh.Unmarshal(blob, &s); err != nil {
		return s, err
	}
	if s.Version != 1 {
		return s, fmt.Errorf("it is of version %d, known is 1", s.Version)
	}
	return s, nil
}

func (k *Keys) verifySSH(o Object) (Signer, error) {
	sig, err := readSSH(o.Signature)
	if err != nil {
		return Signer{}, refuse(ReasonSignatureBroken, "", "the SSH signature cannot be read: %v", err)
	}
	key, err := ssh.ParsePublicKey(sig.PublicKey)
	if err != nil {
		return Signer{}, refuse(ReasonSignatureBroken, "", "the SSH signature's key cannot be read: %v", err)
	}
	id := ssh.FingerprintSHA256(key)
	cert, isCert := key.(*ssh.Certificate)
	if isCert {
		id = ssh.FingerprintSHA256(cert.Key)
	}
	if sig.Namespace != namespace {
		return Signer{}, refuse(ReasonSignatureBroken, id, "key %s signed it for the namespace %q and not for %q", id, sig.Namespace, namespace)
	}
	var sum []byte
	switch sig.HashAlgorithm {
	case "sha256":
		h := sha256.Sum256(o.Payload)
		sum = h[:]
	case "sha512":
		h := sha512.Sum512(o.Payload)
		sum = h[:]
	default:
		return Signer{}, refuse(ReasonSignatureBroken, id, "key %s signed a hash of the kind %q; known are sha256 and sha512", id, sig.HashAlgorithm)
	}
	var s ssh.Signature
	if err := ssh.Unmarshal(sig.Signature, &s); err != nil {
		return Signer{}, refuse(ReasonSignatureBroken, id, "the signature by key %s cannot be read: %v", id, err)
	}
	if s.Format == ssh.KeyAlgoRSA || s.Format == formatDSA {
		return Signer{}, refuse(ReasonSignatureBroken, id, "key %s signed by %s, which uses SHA-1: sign with a newer OpenSSH or another key", id, s.Format)
	}
	signed := append([]byte(sshMagic), ssh.Marshal(struct {
		Namespace, Reserved, HashAlgorithm string
		Hash                               []byte
	}{sig.Namespace, sig.Reserved, sig.HashAlgorithm, sum})...)
	if err := key.Verify(signed, &s); err != nil {
		return Signer{}, refuse(ReasonSignatureBroken, id, "the signature is not by key %s: it was changed after it was signed", id)
	}
	return k.allowed(o, key, cert, id)
}

// allowed finds the line by which the key, or the certificate that signed, is believed.
func (k *Keys) allowed(o Object, key ssh.PublicKey, cert *ssh.Certificate, id string) (Signer, error) {
	at := o.By.Time
	because := refuse(ReasonSignerUnknown, id, "key %s is not among the allowed signers: add a line for it if you believe it", id)
	for _, line := range k.ssh {
		var identities []string
		switch {
		case !line.authority && cert == nil && bytes.Equal(line.key.Marshal(), key.Marshal()):
			identities = line.principals
		case line.authority && cert != nil && bytes.Equal(line.key.Marshal(), cert.SignatureKey.Marshal()):
			checker := ssh.CertChecker{Clock: func() time.Time { return at }}
			for _, p := range cert.ValidPrincipals {
				if cert.CertType != ssh.UserCert || !matches(line.principals, p) {
					continue
				}
				if err := checker.CheckCert(p, cert); err != nil {
					because = refuse(ReasonKeyNotValidThen, id, "the certificate of key %s was not valid at %s: %v", id, at.Format(time.RFC3339), err)
					continue
				}
				identities = append(identities, p)
			}
		}
		switch {
		case identities == nil:
		case line.namespaces != nil && !matches(line.namespaces, namespace):
			because = refuse(ReasonSignerUnknown, id, "key %s is allowed to sign in other namespaces than %q: add it to the line's namespaces", id, namespace)
		case !line.after.IsZero() && at.Before(line.after), !line.before.IsZero() && !at.Before(line.before):
			because = refuse(ReasonKeyNotValidThen, id, "key %s was not valid at %s, when it was signed", id, at.Format(time.RFC3339))
		default:
			return Signer{Format: SSH, Identities: identities, Key: id}, nil
		}
	}
	return Signer{}, because
}
