package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// signedAt is when the commits of the tests are made.
const signedAt = "1700000000 +0100"

// repo is a repository that real tools sign in.
type repo struct {
	t   *testing.T
	dir string
	env []string
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	dir := t.TempDir()
	r := &repo{t: t, dir: dir, env: append(os.Environ(), "HOME="+dir, "GNUPGHOME="+filepath.Join(dir, "gpg"), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.com",
		"GIT_AUTHOR_DATE="+signedAt, "GIT_COMMITTER_DATE="+signedAt)}
	r.run("git", "init", "-q", "-b", "main", ".")
	return r
}

func (r *repo) run(name string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = r.dir, r.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func (r *repo) object(kind Kind, rev string) Object {
	r.t.Helper()
	hash := strings.TrimSpace(r.run("git", "rev-parse", rev))
	o, err := Parse(kind, hash, []byte(r.run("git", "cat-file", string(kind), hash)))
	if err != nil {
		r.t.Fatal(err)
	}
	return o
}

func (r *repo) sshKey(name string, args ...string) (public, fingerprint string) {
	r.t.Helper()
	r.run("ssh-keygen", append([]string{"-q", "-N", "", "-C", "", "-f", name}, args...)...)
	b, err := os.ReadFile(filepath.Join(r.dir, name+".pub"))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(b)), strings.Fields(r.run("ssh-keygen", "-l", "-f", name))[1]
}

func (r *repo) commitSSH(key string) Object {
	r.t.Helper()
	r.run("git", "-c", "gpg.format=ssh", "-c", "user.signingkey="+filepath.Join(r.dir, key), "commit", "-q", "-S", "--allow-empty", "-m", "a change\n\nwith a body")
	return r.object(Commit, "HEAD")
}

func read(t *testing.T, trust Trust) *Keys {
	t.Helper()
	k, err := Read(trust)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}

func TestSSH(t *testing.T) {
	for _, kind := range [][]string{{"-t", "ed25519"}, {"-t", "ecdsa"}, {"-t", "rsa", "-b", "2048"}} {
		t.Run(kind[1], func(t *testing.T) {
			r := newRepo(t)
			public, id := r.sshKey("key", kind...)
			other, _ := r.sshKey("other", kind...)
			o := r.commitSSH("key")
			if o.By.Email != "c@example.com" || o.By.Time.Unix() != 1700000000 || o.Format != SSH {
				t.Fatalf("got %+v", o)
			}
			for _, c := range []struct {
				name, line string
				want       Reason
			}{
				{"allowed", "ann@example.com " + public, ""},
				{"of this namespace", `ann@example.com namespaces="file,git" ` + public, ""},
				{"quoted", `"ann@example.com,bob@example.com" ` + public + " a comment", ""},
				{"valid then", `ann@example.com valid-after="20230101",valid-before="20240101Z" ` + public, ""},
				{"the second line", "# team\n\nann@example.com valid-before=\"20200101\" " + public + "\nann@example.com " + public, ""},
				{"of another namespace", `ann@example.com namespaces="file" ` + public, ReasonSignerUnknown},
				{"not yet valid", `ann@example.com valid-after="20231115000000" ` + public, ReasonKeyNotValidThen},
				{"no longer valid", `ann@example.com valid-before="202311140000" ` + public, ReasonKeyNotValidThen},
				{"another key", "ann@example.com " + other, ReasonSignerUnknown},
				{"as an authority", "ann@example.com cert-authority " + public, ReasonSignerUnknown},
				{"nobody", "", ReasonSignerUnknown},
			} {
				t.Run(c.name, func(t *testing.T) {
					s, err := read(t, Trust{AllowedSigners: []byte(c.line)}).Verify(o)
					if c.want != "" {
						wantReason(t, err, c.want)
						for _, part := range []string{"commit " + o.Hash, id} {
							if !strings.Contains(err.Error(), part) {
								t.Errorf("%q does not name %s", err, part)
							}
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if s.Key != id || s.Identities[0] != "ann@example.com" || s.Format != SSH {
						t.Fatalf("got %+v, want key %s", s, id)
					}
				})
			}
		})
	}
}

func TestSSHCertificates(t *testing.T) {
	r := newRepo(t)
	ca, _ := r.sshKey("ca", "-t", "ed25519")
	_, id := r.sshKey("key", "-t", "ed25519")
	r.run("ssh-keygen", "-q", "-s", "ca", "-I", "ann", "-n", "ann@example.com", "-V", "20230101:20240101", "key.pub")
	o := r.commitSSH("key-cert.pub")
	s, err := read(t, Trust{AllowedSigners: []byte("*@example.com cert-authority " + ca)}).Verify(o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Key != id || s.Identities[0] != "ann@example.com" {
		t.Fatalf("got %+v", s)
	}
	_, err = read(t, Trust{AllowedSigners: []byte("*@example.org cert-authority " + ca)}).Verify(o)
	wantReason(t, err, ReasonSignerUnknown)
	_, err = read(t, Trust{AllowedSigners: []byte("*@example.com " + ca)}).Verify(o)
	wantReason(t, err, ReasonSignerUnknown)
	r.run("ssh-keygen", "-q", "-s", "ca", "-I", "ann", "-n", "ann@example.com", "-V", "20200101:20210101", "key.pub")
	_, err = read(t, Trust{AllowedSigners: []byte("*@example.com cert-authority " + ca)}).Verify(r.commitSSH("key-cert.pub"))
	wantReason(t, err, ReasonKeyNotValidThen)
	r.run("ssh-keygen", "-q", "-s", "ca", "-h", "-I", "ann", "-n", "ann@example.com", "key.pub")
	_, err = read(t, Trust{AllowedSigners: []byte("*@example.com cert-authority " + ca)}).Verify(r.commitSSH("key-cert.pub"))
	wantReason(t, err, ReasonSignerUnknown)
}

// A signature of a file by the same key must not be taken for one of a commit.
func TestSSHOfAnotherNamespace(t *testing.T) {
	r := newRepo(t)
	public, _ := r.sshKey("key", "-t", "ed25519")
	r.run("git", "commit", "-q", "--allow-empty", "-m", "x")
	o := r.object(Commit, "HEAD")
	if err := os.WriteFile(filepath.Join(r.dir, "payload"), o.Payload, 0o600); err != nil {
		t.Fatal(err)
	}
	r.run("ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", "key", "payload")
	o.Signature, _ = os.ReadFile(filepath.Join(r.dir, "payload.sig"))
	o.Format = SSH
	_, err := read(t, Trust{AllowedSigners: []byte("ann@example.com " + public)}).Verify(o)
	wantReason(t, err, ReasonSignatureBroken)
}

func TestChangedAfterItWasSigned(t *testing.T) {
	r := newRepo(t)
	public, _ := r.sshKey("key", "-t", "ed25519")
	o := r.commitSSH("key")
	raw := r.run("git", "cat-file", "commit", "HEAD")
	changed := strings.Replace(raw, "a change", "a chance", 1)
	if _, err := Parse(Commit, o.Hash, []byte(changed)); err == nil {
		t.Fatal("the content has another hash")
	}
	o, err := Parse(Commit, hashOf(Commit, changed), []byte(changed))
	if err != nil {
		t.Fatal(err)
	}
	_, err = read(t, Trust{AllowedSigners: []byte("ann@example.com " + public)}).Verify(o)
	wantReason(t, err, ReasonSignatureBroken)
}

func TestNotSigned(t *testing.T) {
	r := newRepo(t)
	r.run("git", "commit", "-q", "--allow-empty", "-m", "-----BEGIN SSH SIGNATURE-----\nin the message only")
	_, err := read(t, Trust{}).Verify(r.object(Commit, "HEAD"))
	wantReason(t, err, ReasonNotSigned)
}

func TestTags(t *testing.T) {
	r := newRepo(t)
	public, id := r.sshKey("key", "-t", "ed25519")
	r.run("git", "commit", "-q", "--allow-empty", "-m", "x")
	head := strings.TrimSpace(r.run("git", "rev-parse", "HEAD"))
	tag := func(args ...string) {
		r.run("git", append([]string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + filepath.Join(r.dir, "key"), "tag"}, args...)...)
	}
	tag("-s", "-m", "first", "v1.0.0")
	tag("-a", "-m", "unsigned", "v1.0.1")
	keys := read(t, Trust{AllowedSigners: []byte("ann@example.com " + public)})
	o := r.object(Tag, "v1.0.0")
	s, err := keys.VerifyTag(o, head)
	if err != nil || s.Key != id || o.Name != "v1.0.0" {
		t.Fatalf("got %+v, %v", s, err)
	}
	_, err = keys.VerifyTag(r.object(Tag, "v1.0.1"), head)
	wantReason(t, err, ReasonNotSigned)
	r.run("git", "commit", "-q", "--allow-empty", "-m", "y")
	_, err = keys.VerifyTag(o, strings.TrimSpace(r.run("git", "rev-parse", "HEAD")))
	wantReason(t, err, ReasonTagOfOther)
}

func TestOpenPGP(t *testing.T) {
	r := newRepo(t)
	if err := os.Mkdir(filepath.Join(r.dir, "gpg"), 0o700); err != nil {
		t.Fatal(err)
	}
	clock := func(day string) {
		if err := os.WriteFile(filepath.Join(r.dir, "gpg", "gpg.conf"), []byte("faked-system-time "+day+"T000000\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clock("20231101")
	defer r.run("gpgconf", "--kill", "all")
	key := func(mail string, args ...string) (public, fingerprint string) {
		r.run("gpg", append([]string{"--batch", "--quiet", "--passphrase", "", "--quick-generate-key", mail}, args...)...)
		for _, line := range strings.Split(r.run("gpg", "--batch", "--with-colons", "--list-keys", mail), "\n") {
			if f := strings.Split(line, ":"); f[0] == "fpr" {
				return r.run("gpg", "--batch", "--armor", "--export", mail), f[9]
			}
		}
		t.Fatal("no fingerprint")
		return "", ""
	}
	ann, id := key("Ann <ann@example.com>", "ed25519", "sign", "never")
	bob, _ := key("Bob <bob@example.com>", "rsa2048", "sign", "never")
	old, _ := key("Old <old@example.com>", "ed25519", "sign", "never")
	sign := func(mail string) Object {
		r.run("git", "-c", "user.signingkey="+mail, "commit", "-q", "-S", "--allow-empty", "-m", "x")
		return r.object(Commit, "HEAD")
	}
	both := read(t, Trust{Keyring: []byte(ann + bob)})
	s, err := both.Verify(sign("ann@example.com"))
	if err != nil || s.Key != id || s.Identities[0] != "ann@example.com" {
		t.Fatalf("got %+v, %v", s, err)
	}
	if s, err = both.Verify(sign("bob@example.com")); err != nil || s.Identities[0] != "bob@example.com" {
		t.Fatalf("got %+v, %v", s, err)
	}
	o := sign("old@example.com")
	_, err = both.Verify(o)
	wantReason(t, err, ReasonSignerUnknown)
	_, err = read(t, Trust{}).Verify(o)
	wantReason(t, err, ReasonSignerUnknown)
	o.Payload = append(o.Payload, 'x')
	_, err = read(t, Trust{Keyring: []byte(old)}).Verify(o)
	wantReason(t, err, ReasonSignatureBroken)
	// A signature is younger than its commit by the time that it took to make.
	clock("20231120")
	o = sign("ann@example.com")
	if s, err = both.Verify(o); err != nil {
		t.Fatal(err)
	}
	clock("20231102")
	r.run("gpg", "--batch", "--quiet", "--quick-set-expire", id, "20231105T000000")
	_, err = read(t, Trust{Keyring: []byte(r.run("gpg", "--batch", "--armor", "--export", id))}).Verify(o)
	wantReason(t, err, ReasonKeyNotValidThen)
	if _, err := Read(Trust{Keyring: []byte(r.run("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--armor", "--export-secret-keys", "bob@example.com"))}); err == nil {
		t.Fatal("a private key was taken")
	}
}

// certificate is one of an authority where parent is nil.
func certificate(t *testing.T, parent *x509.Certificate, by *ecdsa.PrivateKey, usage x509.ExtKeyUsage, from time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: "ann"}, EmailAddresses: []string{"ann@example.com"}, NotBefore: from, NotAfter: from.Add(10 * time.Minute), ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	if parent == nil {
		c = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: from.AddDate(-1, 0, 0), NotAfter: from.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func hashOf(kind Kind, raw string) string {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00%s", kind, len(raw), raw)
	return hex.EncodeToString(h.Sum(nil))
}

func commitX509(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey, detach bool) Object {
	t.Helper()
	head := "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@example.com> " + signedAt + "\ncommitter C <c@example.com> " + signedAt + "\n"
	sd, err := pkcs7.NewSignedData([]byte(head + "\nx\n"))
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	// The attribute of the time at which was signed would be that of the test.
	if err := sd.SignWithoutAttr(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	if detach {
		sd.Detach()
	}
	der, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	armour := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "SIGNED MESSAGE", Bytes: der})))
	raw := head + "gpgsig " + strings.ReplaceAll(armour, "\n", "\n ") + "\n\nx\n"
	o, err := Parse(Commit, hashOf(Commit, raw), []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestX509(t *testing.T) {
	then := time.Unix(1700000000, 0).Add(-time.Minute)
	ca, caKey := certificate(t, nil, nil, 0, then)
	trust := Trust{Roots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})}
	cert, key := certificate(t, ca, caKey, x509.ExtKeyUsageCodeSigning, then)
	o := commitX509(t, cert, key, true)
	s, err := read(t, trust).Verify(o)
	if err != nil || s.Format != X509 || s.Identities[0] != "ann@example.com" || !strings.HasPrefix(s.Key, "SHA256:") {
		t.Fatalf("got %+v, %v", s, err)
	}
	_, err = read(t, Trust{}).Verify(o)
	wantReason(t, err, ReasonSignerUnknown)
	other, _ := certificate(t, nil, nil, 0, then)
	_, err = read(t, Trust{Roots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Raw})}).Verify(o)
	wantReason(t, err, ReasonSignerUnknown)
	_, err = read(t, trust).Verify(commitX509(t, cert, key, false))
	wantReason(t, err, ReasonSignatureBroken)
	o.Payload = append(o.Payload, 'x')
	_, err = read(t, trust).Verify(o)
	wantReason(t, err, ReasonSignatureBroken)
	cert, key = certificate(t, ca, caKey, x509.ExtKeyUsageServerAuth, then)
	_, err = read(t, trust).Verify(commitX509(t, cert, key, true))
	wantReason(t, err, ReasonSignerUnknown)
	cert, key = certificate(t, ca, caKey, x509.ExtKeyUsageCodeSigning, then.Add(-time.Hour))
	_, err = read(t, trust).Verify(commitX509(t, cert, key, true))
	wantReason(t, err, ReasonKeyNotValidThen)
}

func TestTrustThatCannotBeRead(t *testing.T) {
	for _, c := range []Trust{
		{AllowedSigners: []byte("ann@example.com")},
		{AllowedSigners: []byte("ann@example.com no-touch-required ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkZ1mGqUqwIZXhOcXGkl7ZzAaNqzUOUNxGVYL6Jzq1g")},
		{AllowedSigners: []byte(`ann@example.com valid-after="soon" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkZ1mGqUqwIZXhOcXGkl7ZzAaNqzUOUNxGVYL6Jzq1g`)},
		{Keyring: []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx\n-----END PGP PUBLIC KEY BLOCK-----\n")},
		{Keyring: []byte("nothing")},
		{Roots: []byte("nothing")},
		{Roots: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})},
	} {
		_, err := Read(c)
		wantReason(t, err, ReasonTrustMalformed)
	}
}
