// Package signature says who vouches for a commit or an annotated tag of git, by an SSH, OpenPGP or X.509 signature, and
// which paths that signer may change. Pure.
//
// Keys and certificates are judged as of the time that the commit, the tag or an OpenPGP signature itself names, as git
// does: a repository stays valid when a key expires, and a key that was stolen is taken away by taking it out of the list,
// not by a date.
package signature

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind is what is signed.
type Kind string

// The kinds.
const (
	Commit Kind = "commit"
	Tag    Kind = "tag"
)

// Format is how it is signed.
type Format string

// The formats; None is of what is not signed.
const (
	None    Format = ""
	SSH     Format = "ssh"
	OpenPGP Format = "openpgp"
	X509    Format = "x509"
)

// marks begin a signature. Git knows both words for OpenPGP.
var marks = []struct {
	begin  string
	format Format
}{
	{"-----BEGIN SSH SIGNATURE-----", SSH},
	{"-----BEGIN PGP SIGNATURE-----", OpenPGP},
	{"-----BEGIN PGP MESSAGE-----", OpenPGP},
	{"-----BEGIN SIGNED MESSAGE-----", X509},
}

func formatOf(line []byte) Format {
	for _, m := range marks {
		if bytes.HasPrefix(line, []byte(m.begin)) {
			return m.format
		}
	}
	return None
}

// Person is an author, committer or tagger, as the object says; nothing proves it.
type Person struct {
	Name, Email string
	Time        time.Time
}

// Object is a commit or an annotated tag.
type Object struct {
	Kind Kind
	// Hash of the object.
	Hash string
	// Target is the object that a tag names, of the kind TargetKind, and Name is the tag's own.
	Target, TargetKind, Name string
	// By is the committer or tagger; its time is that of the signature.
	By Person
	// Format and Signature in its armour, and the Payload that is signed: the object without its signature.
	Format    Format
	Signature []byte
	Payload   []byte
}

// Parse reads the content of an object, which must have the hash (SHA-1).
func Parse(kind Kind, hash string, content []byte) (Object, error) {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(content))
	h.Write(content)
	if got := hex.EncodeToString(h.Sum(nil)); got != hash {
		return Object{}, fmt.Errorf("%s %s: its content has the hash %s: the cache is damaged, remove it", kind, hash, got)
	}
	o := Object{Kind: kind, Hash: hash}
	var err error
	switch kind {
	case Commit:
		err = o.commit(content)
	case Tag:
		err = o.tag(content)
	default:
		err = fmt.Errorf("only commits and tags are signed")
	}
	if err != nil {
		return Object{}, fmt.Errorf("%s %s: %w", kind, hash, err)
	}
	return o, nil
}

// commit takes the header gpgsig out of the content; what remains is signed.
func (o *Object) commit(content []byte) error {
	end := bytes.Index(content, []byte("\n\n"))
	if end < 0 {
		end = len(content)
	} else {
		end++
	}
	if bytes.IndexByte(content[:end], 0) >= 0 {
		return fmt.Errorf("a header holds a NUL byte")
	}
	headers := 0
	signature, dropping := false, false
	payload := make([]byte, 0, len(content))
	for rest := content[:end]; len(rest) > 0; headers++ {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line = rest[:i+1]
		}
		rest = rest[len(line):]
		if line[0] == ' ' {
			switch {
			case headers == 0:
				return fmt.Errorf("it begins with a continued header")
			case signature:
				o.Signature = append(o.Signature, line[1:]...)
			case !dropping:
				payload = append(payload, line...)
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(" "))
		signature, dropping = false, false
		switch string(name) {
		case "gpgsig":
			if o.Signature != nil {
				return fmt.Errorf("it has two headers gpgsig")
			}
			signature, o.Signature = true, append([]byte{}, value...)
			continue
		case "gpgsig-sha256":
			dropping = true
			continue
		case "committer":
			if o.By != (Person{}) {
				return fmt.Errorf("it has two committers")
			}
			by, err := person(string(bytes.TrimSuffix(value, []byte("\n"))))
			if err != nil {
				return fmt.Errorf("committer: %w", err)
			}
			o.By = by
		case "tree":
			if headers != 0 {
				return fmt.Errorf("the tree is not its first header")
			}
		}
		payload = append(payload, line...)
	}
	o.Payload = append(payload, content[end:]...)
	if !bytes.HasPrefix(o.Payload, []byte("tree ")) || o.By == (Person{}) {
		return fmt.Errorf("it has no tree or no committer")
	}
	if o.Signature != nil {
		if o.Format = formatOf(o.Signature); o.Format == None {
			return fmt.Errorf("its header gpgsig holds no signature of a known kind")
		}
	}
	return nil
}

// tag cuts the content at the last line that begins a signature, as git does.
func (o *Object) tag(content []byte) error {
	cut := len(content)
	for at := 0; at < len(content); {
		if f := formatOf(content[at:]); f != None {
			cut, o.Format = at, f
		}
		i := bytes.IndexByte(content[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	o.Payload = content[:cut]
	if cut < len(content) {
		o.Signature = content[cut:]
	}
	header, _, _ := strings.Cut(string(o.Payload), "\n\n")
	if strings.IndexByte(header, 0) >= 0 {
		return fmt.Errorf("a header holds a NUL byte")
	}
	want := []string{"object", "type", "tag", "tagger"}
	for i, line := range strings.Split(strings.TrimSuffix(header, "\n"), "\n") {
		name, value, _ := strings.Cut(line, " ")
		if i >= len(want) {
			break
		}
		if name != want[i] {
			return fmt.Errorf("header %d is %q and not %s", i+1, name, want[i])
		}
		switch name {
		case "object":
			o.Target = value
		case "type":
			o.TargetKind = value
		case "tag":
			o.Name = value
		case "tagger":
			by, err := person(value)
			if err != nil {
				return fmt.Errorf("tagger: %w", err)
			}
			o.By = by
		}
	}
	if o.Target == "" || o.By == (Person{}) {
		return fmt.Errorf("it has no object or no tagger")
	}
	return nil
}

// person reads "Name <email> 1700000000 +0100".
func person(s string) (Person, error) {
	open, shut := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if open < 0 || shut < open {
		return Person{}, fmt.Errorf("%q is not of the form NAME <EMAIL> SECONDS ZONE", s)
	}
	fields := strings.Fields(s[shut+1:])
	if len(fields) != 2 {
		return Person{}, fmt.Errorf("%q has no time", s)
	}
	sec, err := strconv.ParseInt(fields[0], 10, 40)
	if err != nil || sec < 0 {
		return Person{}, fmt.Errorf("%q: its time %q is not a number of seconds", s, fields[0])
	}
	return Person{Name: strings.TrimSpace(s[:open]), Email: s[open+1 : shut], Time: time.Unix(sec, 0).UTC()}, nil
}
