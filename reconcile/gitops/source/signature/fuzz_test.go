package signature

import (
	"encoding/pem"
	"strings"
	"testing"
	"time"
)

const exampleKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkZ1mGqUqwIZXhOcXGkl7ZzAaNqzUOUNxGVYL6Jzq1g"

const exampleCommit = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@example.com> 1 +0000\ncommitter C <c@example.com> 1 +0000\ngpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lHAAAAAQ==\n -----END SSH SIGNATURE-----\n\nx\n"

// What cannot be vouched for is never vouched for, whatever its bytes are.
func FuzzCommit(f *testing.F) {
	f.Add([]byte(exampleCommit))
	f.Add([]byte(strings.ReplaceAll(exampleCommit, "SSH", "PGP")))
	f.Add([]byte(strings.ReplaceAll(exampleCommit, "SSH SIGNATURE", "SIGNED MESSAGE")))
	keys, err := Read(Trust{AllowedSigners: []byte("ann@example.com " + exampleKey)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := Parse(Commit, hashOf(Commit, string(raw)), raw)
		if err != nil {
			return
		}
		if s, err := keys.Verify(o); err == nil {
			t.Fatalf("%s vouches for what nobody signed", s)
		}
	})
}

func FuzzTag(f *testing.F) {
	f.Add([]byte("object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\ntype commit\ntag v1\ntagger C <c@example.com> 1 +0000\n\nx\n-----BEGIN PGP SIGNATURE-----\n\nxx\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := Parse(Tag, hashOf(Tag, string(raw)), raw)
		if err != nil {
			return
		}
		if string(o.Payload)+string(o.Signature) != string(raw) {
			t.Fatal("payload and signature are not the tag")
		}
	})
}

func FuzzAllowedSigners(f *testing.F) {
	f.Add([]byte("ann@example.com " + exampleKey))
	f.Add([]byte(`"a,b" cert-authority,namespaces="git",valid-after="20200101Z" ` + exampleKey + "\n# x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = readAllowedSigners(b)
		_, _ = readKeyring(b)
		_, _ = readRoots(b)
	})
}

func FuzzSignatures(f *testing.F) {
	f.Add([]byte("SSHSIG\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		o := Object{By: Person{Time: time.Unix(1, 0)}, Payload: []byte("tree x")}
		for _, a := range []struct {
			name   string
			format Format
		}{{"SSH SIGNATURE", SSH}, {"PGP SIGNATURE", OpenPGP}, {"SIGNED MESSAGE", X509}} {
			o.Format, o.Signature = a.format, pem.EncodeToMemory(&pem.Block{Type: a.name, Bytes: blob})
			if s, err := (&Keys{}).Verify(o); err == nil {
				t.Fatalf("%s vouches, and nobody is trusted", s)
			}
		}
	})
}
