// Package sourcetest starts real git servers for tests, with working copies that real git commits in: HTTP and HTTPS by git's
// own backend, ssh by OpenSSH, proxies, and people who sign. Edge: talks to git, OpenSSH, GnuPG and OpenSSL as processes.
package sourcetest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Work is a working copy that real git commits in.
type Work struct {
	// Dir is where it is. Servers serve all that lies beside it.
	Dir string
	t   testing.TB
}

// NewWork makes a repository named shop whose branch is main. options are those of git init, as --object-format=sha256.
func NewWork(t testing.TB, options ...string) *Work {
	t.Helper()
	return newWork(t, filepath.Join(t.TempDir(), "shop"), options)
}

// Beside makes another repository, which the servers of this one serve, too.
func (w *Work) Beside(name string, options ...string) *Work {
	w.t.Helper()
	return newWork(w.t, filepath.Join(filepath.Dir(w.Dir), name), options)
}

func newWork(t testing.TB, dir string, options []string) *Work {
	t.Helper()
	w := &Work{dir, t}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.Git(append([]string{"init", "-q", "-b", "main"}, options...)...)
	w.Git("config", "gc.auto", "0")
	return w
}

// Run runs a program in a directory, with an environment in which nothing of the host's own settings counts, and gives what it
// has printed.
func Run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.com",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=protocol.file.allow", "GIT_CONFIG_VALUE_0=always")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// Git runs git in the working copy.
func (w *Work) Git(args ...string) string {
	w.t.Helper()
	return Run(w.t, w.Dir, "git", args...)
}

// Write writes a file without committing it.
func (w *Work) Write(name, content string) {
	w.t.Helper()
	p := filepath.Join(w.Dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// Link makes a symbolic link without committing it.
func (w *Work) Link(name, to string) {
	w.t.Helper()
	p := filepath.Join(w.Dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(to, p); err != nil {
		w.t.Fatal(err)
	}
}

// Commit writes files, given as name and content, commits all that there is, and gives the hash.
func (w *Work) Commit(files ...string) string {
	w.t.Helper()
	for i := 0; i < len(files); i += 2 {
		w.Write(files[i], files[i+1])
	}
	w.Git("add", "-A")
	w.Git("commit", "-q", "--allow-empty", "-m", "a change")
	return w.Head()
}

// Head is the hash of the commit that is checked out.
func (w *Work) Head() string {
	w.t.Helper()
	return w.Git("rev-parse", "HEAD")
}
