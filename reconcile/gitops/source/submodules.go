package source

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// Bounds of submodules: how many a repository may have, and how deep they may nest.
const (
	maxSubmodules = 64
	maxNested     = 4
)

// submodules fetches those that .gitmodules names, at the commits that the tree names. The commit that is verified vouches
// for them by these hashes.
func (f *fetching) submodules(ctx context.Context, rev *Revision) error {
	whole := *rev
	whole.Paths = nil
	t, err := newTree(f.objects, whole, f.cache.options, ".")
	if err != nil {
		return err
	}
	b, err := t.ReadFile(".gitmodules")
	if err != nil {
		if isNotExist(err) {
			return nil
		}
		return err
	}
	m := config.NewModules()
	if err := m.Unmarshal(b); err != nil {
		return &Error{Reason: ReasonInvalid, Path: ".gitmodules", Message: fmt.Sprintf("it cannot be read: %v", err)}
	}
	if len(m.Submodules) > maxSubmodules || f.nested >= maxNested {
		return &Error{Reason: ReasonTooLarge, Path: ".gitmodules", Message: fmt.Sprintf("there are more than %d submodules, or they nest deeper than %d: take some out", maxSubmodules, maxNested)}
	}
	urls := map[string]string{}
	for _, s := range m.Submodules {
		urls[path.Clean(s.Path)] = s.URL
	}
	read, err := cleaned(rev.Paths)
	if err != nil {
		return err
	}
	for _, p := range slices.Sorted(keys(urls)) {
		if !read.sees(p) {
			continue
		}
		e, err := t.lookup(p, false)
		if isNotExist(err) || err == nil && e.Mode != filemode.Submodule {
			continue
		}
		if err != nil {
			return err
		}
		spec, err := f.submodule(p, urls[p], e.Hash)
		if err != nil {
			return &Error{Reason: ReasonInvalid, Path: ".gitmodules", Message: fmt.Sprintf("submodule %s: %v", p, err)}
		}
		spec.Paths = read.from(p)
		sub, err := f.cache.fetch(ctx, spec, f.nested+1)
		if err != nil {
			return err
		}
		rev.Received += sub.Received
		rev.Submodules = append(rev.Submodules, Submodule{Path: p, Revision: sub})
	}
	return nil
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// submodule has the credentials of its parent only on the same server: .gitmodules could name any other.
func (f *fetching) submodule(p, where string, commit plumbing.Hash) (Spec, error) {
	s := f.spec
	s.Name = f.spec.Name + submoduleMark + p
	s.Ref, s.Since, s.SincePaths, s.MayRewrite = Ref{Commit: commit.String()}, "", nil, false
	if strings.HasPrefix(where, "./") || strings.HasPrefix(where, "../") {
		var err error
		if where, err = relative(f.spec.URL, where); err != nil {
			return s, err
		}
	}
	s.URL = where
	r, err := parseURL(where)
	if err != nil {
		return s, err
	}
	if r.server() != f.remote.server() {
		if r.scheme == "ssh" {
			return s, fmt.Errorf("%s is on another server than its parent, to which no credentials are given: name it by https", where)
		}
		s.Auth = Auth{}
	}
	return s, nil
}

// relative does what git does with a URL that begins with ./ or ../.
func relative(parent, where string) (string, error) {
	if u, err := url.Parse(parent); err == nil && u.Scheme != "" {
		u.Path = path.Join(u.Path, where)
		return u.String(), nil
	}
	host, p, ok := strings.Cut(parent, ":")
	if !ok {
		return "", fmt.Errorf("%s is relative to %s, which has no path", where, parent)
	}
	return host + ":" + path.Join(p, where), nil
}
