package sourcetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Signer is somebody with a key that git signs with.
type Signer struct {
	// Format is ssh, openpgp or x509, as git calls them.
	Format string
	// Identity is the mail address that the key is of, and Key its fingerprint as Padis shows it.
	Identity, Key string
	// Public is what those who believe the signer are given: a line of an allowed_signers file, a key in armour, or the
	// certificate of the authority in PEM.
	Public  []byte
	signing string
	program string
}

// SSHSigner signs by ssh-keygen.
func SSHSigner(t testing.TB, identity string) *Signer {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	Run(t, dir, "ssh-keygen", "-q", "-N", "", "-C", "", "-t", "ed25519", "-f", key)
	return &Signer{Format: "ssh", Identity: identity, Key: strings.Fields(Run(t, dir, "ssh-keygen", "-l", "-f", key))[1],
		Public: fmt.Appendf(nil, "%s %s", identity, content(t, dir, "key.pub")), signing: key}
}

// GPGSigner signs by GnuPG with a home of its own.
func GPGSigner(t testing.TB, identity string) *Signer {
	t.Helper()
	// The agent's socket is in it, and the path of a socket is short.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		Run(t, home, "gpgconf", "--homedir", home, "--kill", "all")
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) string {
		t.Helper()
		return Run(t, home, "gpg", append([]string{"--homedir", home, "--batch", "--quiet"}, args...)...)
	}
	gpg("--passphrase", "", "--quick-generate-key", identity, "ed25519", "sign", "never")
	s := &Signer{Format: "openpgp", Identity: identity, Public: []byte(gpg("--armor", "--export", identity)), signing: identity,
		program: script(t, "exec gpg --homedir "+home+" \"$@\"")}
	for line := range strings.Lines(gpg("--with-colons", "--list-keys", identity)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			s.Key = f[9]
		}
	}
	return s
}

// X509Signer signs by OpenSSL with a certificate of an authority of its own, as gitsign and smimesign do.
func X509Signer(t testing.TB, identity string) *Signer {
	t.Helper()
	dir := t.TempDir()
	openssl := func(args ...string) string { t.Helper(); return Run(t, dir, "openssl", args...) }
	openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
	if err := os.WriteFile(filepath.Join(dir, "extensions"), []byte("extendedKeyUsage=codeSigning\nsubjectAltName=email:"+identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-out", "request", "-subj", "/CN=signer")
	openssl("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", "1", "-out", "cert.pem")
	// What git asks of gpgsm: a status on the descriptor 2, and a detached signature in its armour.
	sign := "echo '[GNUPG:] SIG_CREATED ' >&2; openssl cms -sign -binary -md sha256 -signer " + dir + "/cert.pem -inkey " + dir + "/key -outform PEM | sed 's/ CMS-----/ SIGNED MESSAGE-----/'"
	print := strings.TrimPrefix(openssl("x509", "-in", "cert.pem", "-noout", "-fingerprint", "-sha256"), "sha256 Fingerprint=")
	return &Signer{Format: "x509", Identity: identity, Key: "SHA256:" + strings.ToLower(strings.ReplaceAll(print, ":", "")), Public: content(t, dir, "ca.pem"), signing: identity, program: script(t, sign)}
}

// script makes a program of a line of the shell.
func script(t testing.TB, line string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+line+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// SignBy has somebody sign all commits from now on; nil nobody.
func (w *Work) SignBy(s *Signer) {
	w.t.Helper()
	if s == nil {
		w.Git("config", "commit.gpgsign", "false")
		return
	}
	w.Git("config", "gpg.format", s.Format)
	w.Git("config", "user.signingkey", s.signing)
	w.Git("config", "commit.gpgsign", "true")
	if s.program != "" {
		w.Git("config", "gpg."+s.Format+".program", s.program)
	}
}
