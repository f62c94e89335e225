package sourcetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The servers are what git itself can clone from; only those who may are let in, and none while they are stopped.
func TestServersServeGit(t *testing.T) {
	w := NewWork(t)
	head := w.Commit("a", "1")
	inner := w.Beside("lib")
	lib := inner.Commit("b", "2")
	secret := Login{Username: "ann", Password: "secret"}
	proxy := NewProxy(t, "", "")
	ca := ""
	for _, s := range []*Server{File(w), HTTP(t, w, Login{}), HTTP(t, w, secret), HTTPS(t, w, Login{Token: "token"}), SSH(t, w)} {
		ask := func(url string, more ...string) (string, error) {
			cmd := exec.Command("git", append(more, "ls-remote", url, "refs/heads/main")...)
			cmd.Dir = t.TempDir()
			cmd.Env = append(cmd.Environ(), "HOME="+cmd.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_SSL_CAINFO="+ca)
			out, err := cmd.CombinedOutput()
			hash, _, _ := strings.Cut(string(out), "\t")
			return hash, err
		}
		var with []string
		switch {
		case s.PrivateKey != nil:
			dir := t.TempDir()
			key, known := write(t, dir, "key", s.PrivateKey), write(t, dir, "known_hosts", s.KnownHosts)
			with = []string{"-c", "core.sshCommand=ssh -F none -i " + key + " -o IdentitiesOnly=yes -o UserKnownHostsFile=" + known}
		case s.Token != "":
			ca = write(t, t.TempDir(), "ca.pem", s.CA)
			with = []string{"-c", "http.extraHeader=Authorization: Bearer " + s.Token}
		case s.Username != "":
			if _, err := ask(s.URL, "-c", "credential.helper=!echo password=wrong; echo username=ann; :"); err == nil {
				t.Error("a wrong password is let in")
			}
			with = []string{"-c", "http.proxy=" + proxy.URL, "-c", "credential.helper=!echo password=secret; echo username=ann; :"}
		}
		for url, want := range map[string]string{s.URL: head, s.Of("lib"): lib} {
			if got, err := ask(url, with...); err != nil || got != want {
				t.Errorf("%s: %s has %s, not %s: %v", s.Name, url, got, want, err)
			}
		}
		if s.Name == "file" {
			continue
		}
		s.Stop()
		if got, err := ask(s.URL, with...); err == nil {
			t.Errorf("%s: it is stopped, and has said %s", s.Name, got)
		}
		s.Start()
		if got, err := ask(s.URL, with...); err != nil || got != head {
			t.Errorf("%s: it is started again, and has said %s: %v", s.Name, got, err)
		}
	}
	if proxy.Used() == 0 {
		t.Error("the proxy was not used")
	}
}

func write(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, append(b, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// Who signs is who git says has signed.
func TestSignersSign(t *testing.T) {
	w := NewWork(t)
	for _, s := range []*Signer{SSHSigner(t, "ann@example.com"), GPGSigner(t, "bob@example.com"), X509Signer(t, "eve@example.com")} {
		w.SignBy(s)
		w.Commit()
		if raw := w.Git("cat-file", "commit", "HEAD"); !strings.Contains(raw, "gpgsig -----BEGIN") || s.Key == "" || len(s.Public) == 0 {
			t.Errorf("%s: %s\n%s", s.Format, s.Key, raw)
		}
	}
	w.SignBy(nil)
	w.Commit()
	if strings.Contains(w.Git("cat-file", "commit", "HEAD"), "gpgsig") {
		t.Error("nobody has signed")
	}
}
