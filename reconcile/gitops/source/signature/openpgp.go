package signature

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

type keyring struct{ keys openpgp.EntityList }

// readKeyring takes several armoured blocks after one another, too, as they come about by concatenation.
func readKeyring(b []byte) (keyring, error) {
	var k keyring
	const begin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	if len(bytes.TrimSpace(b)) == 0 {
		return k, nil
	}
	blocks := [][]byte{b}
	armoured := bytes.Contains(b, []byte(begin))
	if armoured {
		blocks = nil
		for _, part := range bytes.Split(b, []byte(begin))[1:] {
			blocks = append(blocks, append([]byte(begin), part...))
		}
	}
	for i, block := range blocks {
		read := openpgp.ReadKeyRing
		if armoured {
			read = openpgp.ReadArmoredKeyRing
		}
		keys, err := read(bytes.NewReader(block))
		if err != nil {
			return k, fmt.Errorf("block %d: %w", i+1, err)
		}
		for _, e := range keys {
			if e.PrivateKey != nil {
				return k, fmt.Errorf("block %d holds a private key: give what gpg --export writes", i+1)
			}
		}
		k.keys = append(k.keys, keys...)
	}
	return k, nil
}

func (k keyring) verify(o Object) (Signer, error) {
	block, err := armor.Decode(bytes.NewReader(o.Signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return Signer{}, refuse(ReasonSignatureBroken, "", "the OpenPGP signature's armour cannot be read")
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(block.Body); err != nil {
		return Signer{}, refuse(ReasonSignatureBroken, "", "the OpenPGP signature's armour cannot be read: %v", err)
	}
	id, at := issuer(raw.Bytes())
	config := &packet.Config{Time: func() time.Time { return at }}
	_, signer, err := openpgp.VerifyDetachedSignature(k.keys, bytes.NewReader(o.Payload), &raw, config)
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return Signer{}, refuse(ReasonSignerUnknown, id, "OpenPGP key %s is not among the trusted ones: add it to the keyring if you believe it", id)
	case errors.Is(err, pgperrors.ErrKeyExpired), errors.Is(err, pgperrors.ErrSignatureExpired), errors.Is(err, pgperrors.ErrKeyRevoked):
		return Signer{}, refuse(ReasonKeyNotValidThen, id, "OpenPGP key %s was not valid at %s: %v", id, at.Format(time.RFC3339), err)
	case err != nil:
		return Signer{}, refuse(ReasonSignatureBroken, id, "the signature by OpenPGP key %s does not fit: %v", id, err)
	}
	s := Signer{Format: OpenPGP, Key: strings.ToUpper(hex.EncodeToString(signer.PrimaryKey.Fingerprint))}
	for name, identity := range signer.Identities {
		if identity.UserId != nil && identity.UserId.Email != "" {
			name = identity.UserId.Email
		}
		if !identity.Revoked(at) && !slices.Contains(s.Identities, name) {
			s.Identities = append(s.Identities, name)
		}
	}
	slices.Sort(s.Identities)
	return s, nil
}

// issuer is the key that says it signed, for messages, and when. A signature names its own time, and is younger than its
// commit by the time that it took to make.
func issuer(raw []byte) (string, time.Time) {
	p, err := packet.Read(bytes.NewReader(raw))
	if err != nil {
		return "of no name", time.Time{}
	}
	sig, ok := p.(*packet.Signature)
	switch {
	case !ok:
		return "of no name", time.Time{}
	case len(sig.IssuerFingerprint) > 0:
		return strings.ToUpper(hex.EncodeToString(sig.IssuerFingerprint)), sig.CreationTime
	case sig.IssuerKeyId != nil:
		return fmt.Sprintf("%016X", *sig.IssuerKeyId), sig.CreationTime
	}
	return "of no name", sig.CreationTime
}
