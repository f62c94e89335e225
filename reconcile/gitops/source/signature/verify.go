package signature

import (
	"fmt"
)

// Reason says why nobody vouches for an object, or why who does is not allowed to.
type Reason string

// The reasons.
const (
	ReasonTrustMalformed   Reason = "TrustMalformed"
	ReasonNotSigned        Reason = "NotSigned"
	ReasonSignatureBroken  Reason = "SignatureBroken"
	ReasonSignerUnknown    Reason = "SignerUnknown"
	ReasonKeyNotValidThen  Reason = "KeyNotValidThen"
	ReasonTagOfOther       Reason = "TagOfOther"
	ReasonSignerNotAllowed Reason = "SignerNotAllowed"
)

// Error is why an object is not trusted.
type Error struct {
	Reason Reason
	// Object as "commit 1234...", Key that signed it, as far as known, and the Path that the signer must not change.
	Object, Key, Path string
	Message           string
}

func (e *Error) Error() string {
	if e.Object == "" {
		return fmt.Sprintf("%s (%s)", e.Message, e.Reason)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Object, e.Message, e.Reason)
}

// Trust is whom to believe. An empty part trusts nobody by signatures of that format.
type Trust struct {
	// AllowedSigners as in ssh-keygen(1), ALLOWED SIGNERS. Times without Z are UTC, too.
	AllowedSigners []byte
	// Keyring of OpenPGP public keys, armoured or not.
	Keyring []byte
	// Roots are certificates in PEM, of the authorities whose signers are believed.
	Roots []byte
}

// Keys is Trust that has been read.
type Keys struct {
	ssh  []allowedSigner
	pgp  keyring
	x509 roots
}

// Read reads whom to believe.
func Read(t Trust) (*Keys, error) {
	k := &Keys{}
	var err error
	if k.ssh, err = readAllowedSigners(t.AllowedSigners); err != nil {
		return nil, &Error{Reason: ReasonTrustMalformed, Message: fmt.Sprintf("allowed signers: %v", err)}
	}
	if k.pgp, err = readKeyring(t.Keyring); err != nil {
		return nil, &Error{Reason: ReasonTrustMalformed, Message: fmt.Sprintf("OpenPGP keys: %v", err)}
	}
	if k.x509, err = readRoots(t.Roots); err != nil {
		return nil, &Error{Reason: ReasonTrustMalformed, Message: fmt.Sprintf("root certificates: %v", err)}
	}
	return k, nil
}

// Signer is who vouches for an object.
type Signer struct {
	Format Format
	// Identities of the signer as the trust names them: principals, addresses of the OpenPGP key, names of the certificate.
	Identities []string
	// Key is the fingerprint: SHA256:BASE64 of SSH, 40 or 64 hex digits of the OpenPGP primary key, and SHA256:HEX of the
	// certificate.
	Key string
}

// String gives "ann@example.com (ssh SHA256:...)".
func (s Signer) String() string {
	if len(s.Identities) == 0 {
		return fmt.Sprintf("%s %s", s.Format, s.Key)
	}
	return fmt.Sprintf("%s (%s %s)", s.Identities[0], s.Format, s.Key)
}

// Verify says who vouches for the object. The error is an *Error.
func (k *Keys) Verify(o Object) (Signer, error) {
	var s Signer
	var err error
	switch o.Format {
	case SSH:
		s, err = k.verifySSH(o)
	case OpenPGP:
		s, err = k.pgp.verify(o)
	case X509:
		s, err = k.x509.verify(o)
	default:
		err = refuse(ReasonNotSigned, "", "it is not signed: sign it (git commit -S, git tag -s), or take the verification out of the source")
	}
	if err != nil {
		e := err.(*Error)
		e.Object = string(o.Kind) + " " + o.Hash
		return Signer{}, e
	}
	return s, nil
}

// VerifyTag says who vouches for the commit by a tag of it. A signed tag of another commit vouches for nothing.
func (k *Keys) VerifyTag(tag Object, commit string) (Signer, error) {
	s, err := k.Verify(tag)
	if err != nil {
		return Signer{}, err
	}
	if tag.Kind != Tag || tag.TargetKind != string(Commit) || tag.Target != commit {
		return Signer{}, &Error{Reason: ReasonTagOfOther, Object: string(tag.Kind) + " " + tag.Hash, Key: s.Key,
			Message: fmt.Sprintf("it is a tag of the %s %s and not of the commit %s: tag the commit itself", tag.TargetKind, tag.Target, commit)}
	}
	return s, nil
}

func refuse(r Reason, key, format string, args ...any) *Error {
	return &Error{Reason: r, Key: key, Message: fmt.Sprintf(format, args...)}
}
