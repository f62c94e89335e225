// Package sops decrypts what sops encrypted to age recipients: documents value by value with their message authentication code, and
// whole files that age alone encrypted. Keys are inputs; there is no other way to a key. Pure.
//
// The format is sops' own (getsops/sops: sops.go, aes/cipher.go); why it is read here and not by that library is in
// docs/design/0014-gitops-rendering.md. No message holds a value.
package sops

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"go.yaml.in/yaml/v3"
)

// MaxBytes bounds a decrypted file: age streams.
const MaxBytes = 10 << 20

// Identities are private keys of age. The zero value has none.
type Identities struct {
	keys   []age.Identity
	digest [sha256.Size]byte
}

// Digest tells sets of keys apart, without telling them.
func (ids Identities) Digest() [sha256.Size]byte { return ids.digest }

// Parse reads private keys as age-keygen writes them: one a line, "#" begins a comment. An error says which line, never what is in it.
func Parse(keys string) (Identities, error) {
	ids := Identities{digest: sha256.Sum256([]byte(keys))}
	for i, line := range strings.Split(keys, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var id age.Identity
		var err error
		if strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1") {
			id, err = age.ParseHybridIdentity(line)
		} else {
			id, err = age.ParseX25519Identity(line)
		}
		if err != nil {
			return Identities{}, fmt.Errorf("line %d of the decryption keys is not a private key of age: it begins with AGE-SECRET-KEY-1, as age-keygen writes it", i+1)
		}
		ids.keys = append(ids.keys, id)
	}
	return ids, nil
}

// File decrypts a file that age alone encrypted, armored or not.
func File(data []byte, ids Identities) ([]byte, error) {
	if len(ids.keys) == 0 {
		return nil, errNoKey
	}
	var r io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(armor.Header)) {
		r = armor.NewReader(r)
	}
	return open(r, ids)
}

var (
	errNoKey    = errors.New("encrypted, and no decryption key is given: name the Secret that holds the age key in the Sync")
	errNotOurs  = errors.New("encrypted, and none of the given age keys opens it: encrypt it to their public keys, too")
	errBroken   = errors.New("damaged: its age encryption cannot be read")
	errTampered = errors.New("its values are not those that sops encrypted (the message authentication code differs): it was changed without sops; restore it, or encrypt it again")
)

func open(r io.Reader, ids Identities) ([]byte, error) {
	plain, err := age.Decrypt(r, ids.keys...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, errNotOurs
	}
	if err != nil {
		return nil, errBroken
	}
	out, err := io.ReadAll(io.LimitReader(plain, MaxBytes+1))
	if err != nil {
		return nil, errBroken
	}
	if len(out) > MaxBytes {
		return nil, fmt.Errorf("larger than %d bytes when decrypted", MaxBytes)
	}
	return out, nil
}

// Of tells whether sops encrypted a document: it then has a mapping "sops" with a "mac" at its top.
func Of(doc *yaml.Node) bool {
	m := get(doc, "sops")
	return m != nil && get(m, "mac") != nil
}

// Decrypt decrypts the documents of one file, in place, and takes the metadata away. sops covers them by one code: so either all of
// them are as they were encrypted, or none is to be trusted. It gives the texts that were secret, for whoever must keep them out of messages.
func Decrypt(docs []*yaml.Node, ids Identities) (secrets []string, err error) {
	if len(ids.keys) == 0 {
		return nil, errNoKey
	}
	meta := metadata{}
	for i, doc := range docs {
		if !Of(doc) {
			return nil, errors.New("only some of its documents are encrypted: encrypt the whole file with sops, or split it")
		}
		if i == 0 {
			if meta, err = metadataOf(get(doc, "sops")); err != nil {
				return nil, err
			}
		}
		remove(doc, "sops")
	}
	key, err := meta.dataKey(ids)
	if err != nil {
		return nil, err
	}
	w := walker{meta: meta, key: key, mac: sha512.New(), left: maxNodes}
	if meta.macOnlyEncrypted {
		w.mac.Write(macOnlyEncrypted)
	}
	for _, doc := range docs {
		if err := w.node(doc, nil, false, 0); err != nil {
			return nil, err
		}
	}
	said, err := decrypt(meta.mac, key, meta.lastModified)
	if err != nil || subtle.ConstantTimeCompare([]byte(said.text), []byte(strings.ToUpper(fmt.Sprintf("%x", w.mac.Sum(nil))))) != 1 {
		return nil, errTampered
	}
	return w.secrets, nil
}

// macOnlyEncrypted begins the code where it covers encrypted values alone: sha256("sops"), as sops has it.
var macOnlyEncrypted = []byte{0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
	0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69}

const (
	maxNodes = 200_000
	maxDepth = 100
)

type metadata struct {
	recipients                       []string // the data key, encrypted to each
	mac, lastModified                string
	unencryptedSuffix, encryptSuffix string
	unencryptedRegex, encryptRegex   *regexp.Regexp
	macOnlyEncrypted                 bool
}

func metadataOf(n *yaml.Node) (metadata, error) {
	text := func(key string) string {
		if v := get(n, key); v != nil && v.Kind == yaml.ScalarNode && v.ShortTag() != "!!null" {
			return v.Value
		}
		return ""
	}
	m := metadata{mac: text("mac"), unencryptedSuffix: text("unencrypted_suffix"), encryptSuffix: text("encrypted_suffix"), macOnlyEncrypted: text("mac_only_encrypted") == "true"}
	for _, key := range []string{"unencrypted_comment_regex", "encrypted_comment_regex"} {
		if text(key) != "" {
			return m, fmt.Errorf("sops.%s is not supported: choose what is encrypted by encrypted_regex", key)
		}
	}
	if g := get(n, "key_groups"); g != nil && len(g.Content) > 0 {
		return m, errors.New("sops.key_groups (a key in shares) is not supported: encrypt it to age recipients")
	}
	modified, err := time.Parse(time.RFC3339, text("lastmodified"))
	if err != nil {
		return m, errors.New("sops.lastmodified is not a time (RFC 3339)")
	}
	m.lastModified = modified.Format(time.RFC3339)
	for key, re := range map[string]**regexp.Regexp{"unencrypted_regex": &m.unencryptedRegex, "encrypted_regex": &m.encryptRegex} {
		if text(key) == "" {
			continue
		}
		if *re, err = regexp.Compile(text(key)); err != nil {
			return m, fmt.Errorf("sops.%s is not a regular expression", key)
		}
	}
	recipients := get(n, "age")
	if recipients == nil || recipients.Kind != yaml.SequenceNode || len(recipients.Content) == 0 {
		return m, errors.New("not encrypted to any age recipient; keys of other kinds (pgp, kms, vault) are not supported: encrypt it with sops --age")
	}
	for _, r := range recipients.Content {
		if enc := get(r, "enc"); enc != nil {
			m.recipients = append(m.recipients, enc.Value)
		}
	}
	return m, nil
}

func (m metadata) dataKey(ids Identities) ([]byte, error) {
	err := errNotOurs
	for _, r := range m.recipients {
		key, e := open(armor.NewReader(strings.NewReader(r)), ids)
		if e == nil && len(key) == 32 {
			return key, nil
		}
		if e == nil || !errors.Is(e, errNotOurs) {
			err = errBroken
		}
	}
	return nil, err
}

// encrypted tells what sops decides for a key; below an encrypted key everything is. The rules are applied in this order, so that
// each decides anew what the one before said.
func (m metadata) encrypted(path []string) bool {
	some := func(f func(string) bool) bool {
		for _, p := range path {
			if f(p) {
				return true
			}
		}
		return false
	}
	yes := true
	if m.unencryptedSuffix != "" && some(func(p string) bool { return strings.HasSuffix(p, m.unencryptedSuffix) }) {
		yes = false
	}
	if m.encryptSuffix != "" {
		yes = some(func(p string) bool { return strings.HasSuffix(p, m.encryptSuffix) })
	}
	if m.unencryptedRegex != nil && some(m.unencryptedRegex.MatchString) {
		yes = false
	}
	if m.encryptRegex != nil {
		yes = some(m.encryptRegex.MatchString)
	}
	return yes
}

func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func remove(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}

// macText is how sops writes a value into the code: as Python would.
func macText(n *yaml.Node) (string, error) {
	switch n.ShortTag() {
	case "!!bool":
		if strings.EqualFold(n.Value, "true") {
			return "True", nil
		}
		return "False", nil
	case "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			return "", errors.New("a number that sops cannot hold")
		}
		switch v := v.(type) {
		case int:
			return strconv.Itoa(v), nil
		case int64:
			return strconv.FormatInt(v, 10), nil
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64), nil
		}
		return "", errors.New("a number that sops cannot hold")
	case "!!timestamp":
		var t time.Time
		if err := n.Decode(&t); err != nil {
			return "", errors.New("not a time")
		}
		text, err := t.MarshalText()
		return string(text), err
	}
	return n.Value, nil
}
