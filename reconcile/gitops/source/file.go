package source

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// openFile runs git-upload-pack of the host. It does so only below the directories that were opened for it: the tenants of
// a cluster are not those who may read its files.
func (c *Cache) openFile(ctx context.Context, r remote) (session, error) {
	path, err := filepath.EvalSymlinks(r.path)
	if err != nil {
		return nil, fail(ReasonRepositoryNotFound, "there is no repository %s on this host: what was applied stays; correct the url", r.path)
	}
	allowed := false
	for _, root := range c.options.FileRoots {
		if root, err := filepath.EvalSymlinks(root); err == nil {
			rel, err := filepath.Rel(root, path)
			allowed = allowed || err == nil && filepath.IsLocal(rel)
		}
	}
	if !allowed {
		return nil, fail(ReasonInvalid, "url: repositories of this host are open below %q only: use https or ssh, or have its directory opened by who runs the scheduler", strings.Join(c.options.FileRoots, ", "))
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fail(ReasonUnreachable, "url: a repository of this host needs git on it: install it, or use https or ssh")
	}
	cmd := exec.CommandContext(ctx, git, "upload-pack", "--strict", "--", gitDir(path))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C"}
	st := &streamSession{said: &head{}}
	cmd.Stderr = st.said
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	st.in, st.out = in, out
	st.end = sync.OnceFunc(func() {
		_ = in.Close()
		_ = out.Close()
		_ = cmd.Wait()
	})
	return st, nil
}

// gitDir of a repository with a working copy is the directory .git in it.
func gitDir(path string) string {
	inner := filepath.Join(path, ".git")
	if s, err := os.Stat(inner); err == nil && s.IsDir() {
		return inner
	}
	return path
}
