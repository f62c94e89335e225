// Package gitops reconciles GitSources and Syncs: what is in git is fetched and verified, and what it declares is applied and
// kept in force. Edge: talks to the API server and, by its package source, to git servers.
//
// What is to be done is decided in decide, and what files mean in render. This package reads what they look at, writes what
// they say, and shows it in statuses and events.
package gitops

import (
	"context"
	"io/fs"
	"sync"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/source"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// repositories is what is needed of the package source.
type repositories interface {
	// Fetch brings a commit into the cache.
	Fetch(ctx context.Context, spec source.Spec) (source.Revision, error)
	// Object gives a commit or tag of a revision as it was signed.
	Object(rev source.Revision, hash string) ([]byte, error)
	// Files opens the tree of a revision. Who has read it calls the function.
	Files(rev source.Revision) (fs.FS, func(), error)
}

// Cached has the repositories of a cache.
type Cached struct{ *source.Cache }

// Files opens the whole tree of a revision.
func (c Cached) Files(rev source.Revision) (fs.FS, func(), error) {
	t, err := c.Tree(rev, ".")
	if err != nil {
		return nil, nil, err
	}
	return t, t.Close, nil
}

// recorder takes events; record.EventRecorder is one.
type recorder interface {
	Event(object apiruntime.Object, eventtype, reason, message string)
}

// Revisions are the commits that were fetched and verified in this process, by source. Safe for concurrent use.
type Revisions struct {
	mu sync.Mutex
	by map[types.NamespacedName]verified
}

// verified is a commit that may be read.
type verified struct {
	source.Revision
	signer *v1alpha1.Signer
	// rules are those that it was verified by, and all the commits that were verified by them.
	rules string
	all   map[string]bool
}

func (r *Revisions) get(name types.NamespacedName) (verified, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.by[name]
	return v, ok
}

func (r *Revisions) set(name types.NamespacedName, v verified) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = map[types.NamespacedName]verified{}
	}
	r.by[name] = v
}

func (r *Revisions) drop(name types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.by, name)
}
