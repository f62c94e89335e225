package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// Fetch brings what the spec names into the cache. Errors are *Error. Where it fails, what was fetched before stays.
func (c *Cache) Fetch(ctx context.Context, spec Spec) (Revision, error) {
	return c.fetch(ctx, spec, 0)
}

func (c *Cache) fetch(ctx context.Context, spec Spec, nested int) (Revision, error) {
	r, err := spec.check()
	if err != nil {
		return Revision{}, &Error{Reason: ReasonInvalid, Source: spec.Name, Message: err.Error()}
	}
	src := c.source(spec.Name)
	src.busy.Lock()
	defer src.busy.Unlock()
	f := &fetching{cache: c, src: src, spec: spec, remote: r, nested: nested, state: src.now()}
	if f.state.Name != spec.Name || f.state.URL != spec.URL {
		f.state = state{Name: spec.Name, URL: spec.URL, Generation: f.state.Generation}
	}
	if src.mend() {
		f.state = f.anew()
	}
	rev, err := f.run(ctx)
	if err != nil && classify(ctx, r, err).Reason == ReasonCacheDamaged && f.state.Generation > 0 {
		f.close()
		src.mend()
		f.state = f.anew()
		f.received = 0
		rev, err = f.run(ctx)
	}
	f.close()
	if err != nil {
		e := classify(ctx, r, err)
		if e.Source == "" {
			e.Source = spec.Name
		}
		return Revision{}, e
	}
	return rev, nil
}

// fetching is one fetch.
type fetching struct {
	cache    *Cache
	src      *cached
	spec     Spec
	remote   remote
	nested   int
	state    state
	objects  *objects
	received int64
}

// anew is a state that builds upon nothing that was fetched.
func (f *fetching) anew() state {
	return state{Name: f.spec.Name, URL: f.spec.URL, Generation: f.state.Generation, Tags: f.state.Tags}
}

func (f *fetching) close() {
	if f.objects != nil {
		f.objects.close()
		f.objects = nil
	}
}

func (f *fetching) run(ctx context.Context) (Revision, error) {
	f.reopen()
	w, err := f.find(ctx)
	if err != nil {
		return Revision{}, err
	}
	commit, tag, err := f.objects.peel(w.hash)
	if err != nil {
		return Revision{}, err
	}
	if err := f.unrewritten(ctx, w, commit); err != nil {
		return Revision{}, err
	}
	rev, err := f.describe(ctx, w, commit, tag)
	if err != nil {
		return Revision{}, err
	}
	if f.spec.Submodules {
		if err := f.submodules(ctx, &rev); err != nil {
			return Revision{}, err
		}
	}
	return rev, f.remember(w)
}

func (f *fetching) reopen() {
	f.close()
	st := f.state
	if len(st.Heads) == 0 {
		// Nothing of the generation is of this repository, or to be relied on.
		st.Generation = 0
	}
	f.objects = f.src.open(st)
	if n := len(st.Heads); n > 0 && !f.objects.has(plumbing.NewHash(st.Heads[n-1])) {
		// Somebody has removed packs; a server that is told of the heads would leave out what is gone.
		f.state.Heads = nil
		f.close()
		f.objects = &objects{}
	}
}

// find makes sure that what is wanted is in the cache. A commit that is there needs no server.
func (f *fetching) find(ctx context.Context) (wanted, error) {
	if c := f.spec.Ref.Commit; c != "" && f.spec.Ref.Branch == "" && f.objects.has(plumbing.NewHash(c)) {
		return wanted{hash: plumbing.NewHash(c)}, nil
	}
	s, err := f.cache.connect(ctx, f.remote, f.spec)
	if err != nil {
		return wanted{}, err
	}
	defer s.close()
	adv, err := s.advertised(ctx)
	if err != nil {
		return wanted{}, err
	}
	if of := adv.Capabilities.Get("object-format"); len(of) > 0 && of[0] != "sha1" {
		return wanted{}, otherHashes(of[0])
	}
	w, err := resolve(adv, f.spec.Ref)
	if err != nil {
		return w, err
	}
	missing := slices.DeleteFunc(slices.Clone(w.tips), f.objects.has)
	if len(missing) > 0 {
		if err := f.pull(ctx, s, adv, missing); err != nil {
			return w, err
		}
	}
	if !f.objects.has(w.hash) {
		return w, fail(ReasonRefNotFound, "no branch or tag has the commit %s, as far as they are fetched: push it, or name the branch that it is on", w.hash)
	}
	if !w.on.IsZero() {
		on, known, err := f.objects.grown(ctx, w.hash, w.on, set(f.state.Shallow))
		if err != nil {
			return w, err
		}
		if !on {
			return w, fail(ReasonRefNotFound, "commit %s is not on %s (looked at all of its history: %t): name another branch or commit", w.hash, w.ref, known)
		}
	}
	return w, nil
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

// pull fetches what is missing, as one more pack or, when there are too many, as the first of a new generation.
func (f *fetching) pull(ctx context.Context, s session, adv *packp.AdvRefs, missing []plumbing.Hash) error {
	st := f.state
	st.Heads, st.Shallow = slices.Clone(st.Heads), slices.Clone(st.Shallow)
	// A damaged or foreign generation is not built upon, and one that has grown too much is left behind.
	if len(st.Heads) == 0 || st.Packs >= f.cache.options.MaxPacks || st.Bytes > 3*st.Began+(64<<20) {
		st = state{Name: st.Name, URL: st.URL, Tags: st.Tags, Generation: st.Generation + 1}
		if err := os.RemoveAll(f.src.generation(st.Generation)); err != nil {
			return err
		}
	}
	req := packp.NewUploadPackRequestFromCapabilities(adv.Capabilities)
	for _, want := range []struct {
		c   capability.Capability
		ask bool
	}{{capability.NoProgress, true}, {capability.Shallow, f.spec.Depth > 0 || len(st.Shallow) > 0}, {capability.Filter, true}} {
		if want.ask && adv.Capabilities.Supports(want.c) {
			if err := req.Capabilities.Set(want.c); err != nil {
				return err
			}
		}
	}
	if req.Capabilities.Supports(capability.Filter) {
		req.Filter = packp.FilterBlobLimit(uint64(f.cache.options.MaxFile)+1, packp.BlobLimitPrefixNone)
	}
	switch {
	case f.spec.Depth > 0:
		req.Depth = packp.DepthCommits(f.spec.Depth)
	case len(st.Shallow) > 0:
		// What git itself asks for to have all of the history after all.
		req.Depth = packp.DepthCommits(1<<31 - 1)
	}
	req.Wants = missing
	for _, h := range st.Heads {
		req.Haves = append(req.Haves, plumbing.NewHash(h))
	}
	for _, h := range st.Shallow {
		req.Shallows = append(req.Shallows, plumbing.NewHash(h))
	}
	res, err := s.pack(ctx, req)
	if err != nil {
		return err
	}
	defer res.Close()
	n, err := f.store(ctx, f.src.generation(st.Generation), demultiplex(req.Capabilities, res))
	if err != nil {
		return err
	}
	f.received += n
	shallow := set(st.Shallow)
	for _, h := range res.Shallows {
		shallow[h.String()] = true
	}
	for _, h := range res.Unshallows {
		delete(shallow, h.String())
	}
	st.Shallow = slices.Sorted(maps.Keys(shallow))
	for _, h := range missing {
		st.Heads = append(st.Heads, h.String())
	}
	st.Heads = st.Heads[max(0, len(st.Heads)-maxHeads):]
	st.Packs++
	st.Bytes += n
	if st.Packs == 1 {
		st.Began = n
	}
	if err := f.src.save(st); err != nil {
		return err
	}
	f.state = st
	f.reopen()
	return nil
}

func demultiplex(c *capability.List, r io.Reader) io.Reader {
	switch {
	case c.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case c.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	}
	return r
}

// store writes a pack and its index. Both are there whole or not at all.
func (f *fetching) store(ctx context.Context, generation string, r io.Reader) (n int64, err error) {
	dir := filepath.Join(generation, "objects", "pack")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	old, err := filepath.Glob(filepath.Join(dir, ".incoming-*"))
	if err != nil {
		return 0, err
	}
	for _, name := range old {
		_ = os.Remove(name)
	}
	pack, err := os.CreateTemp(dir, ".incoming-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(pack.Name())
	defer pack.Close()
	idx, err := os.CreateTemp(dir, ".incoming-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(idx.Name())
	defer idx.Close()
	most := f.cache.options.MaxPack
	if n, err = io.Copy(pack, io.LimitReader(r, most+1)); err != nil {
		return n, err
	}
	if n > most {
		return n, fail(ReasonTooLarge, "the server sends more than %d bytes: take what is large out of the repository, or let the server filter (uploadpack.allowFilter)", most)
	}
	if _, err := pack.Seek(0, io.SeekStart); err != nil {
		return n, err
	}
	sum, err := writeIndex(ctx, pack, idx)
	if err != nil {
		return n, fmt.Errorf("the pack that came cannot be read: %w", err)
	}
	if err := errors.Join(pack.Sync(), idx.Sync()); err != nil {
		return n, err
	}
	name := filepath.Join(dir, "pack-"+sum.String())
	if err := os.Rename(pack.Name(), name+".pack"); err != nil {
		return n, err
	}
	return n, os.Rename(idx.Name(), name+".idx")
}

// unrewritten refuses a branch that did not grow out of the last good state, and a tag that was moved.
func (f *fetching) unrewritten(ctx context.Context, w wanted, commit plumbing.Hash) error {
	meant := f.spec.Confirmed != "" && (f.spec.Confirmed == commit.String() || f.spec.Confirmed == w.hash.String())
	if f.spec.MayRewrite || meant || w.ref == "" || !w.on.IsZero() {
		return nil
	}
	if strings.HasPrefix(w.ref, "refs/tags/") {
		was, now := f.state.Tags[w.ref], w.hash.String()
		if was == "" && f.spec.SinceRef == w.ref {
			was, now = f.spec.Since, commit.String()
		}
		if was != "" && was != now {
			return fail(ReasonHistoryRewritten, "%s was moved from %s to %s: what was applied stays; make a new tag, %s", w.ref, was, now, ifMeant(now))
		}
		return nil
	}
	if f.spec.Since == "" || f.spec.Since == commit.String() {
		return nil
	}
	yes, known, err := f.objects.grown(ctx, plumbing.NewHash(f.spec.Since), commit, set(f.state.Shallow))
	if err != nil {
		return err
	}
	if !yes && known {
		return fail(ReasonHistoryRewritten, "%s was force-pushed: %s has not grown out of %s: what was applied stays; push a commit on top of that, %s", w.ref, commit, f.spec.Since, ifMeant(commit.String()))
	}
	return nil
}

func ifMeant(hash string) string {
	return "or, if it is meant, annotate the GitSource with " + v1alpha1.AnnotationConfirmRewrite + "=" + hash
}

func (f *fetching) describe(ctx context.Context, w wanted, commit plumbing.Hash, tag string) (Revision, error) {
	c, err := f.objects.commit(commit)
	if err != nil {
		return Revision{}, err
	}
	rev := Revision{Name: f.spec.Name, URL: f.spec.URL, Commit: commit.String(), Ref: w.ref, Tag: tag, Author: fmt.Sprintf("%s <%s>", c.Author.Name, c.Author.Email),
		Message: c.Message[:min(len(c.Message), 4096)], Time: c.Committer.When.UTC(), Received: f.received, Paths: f.spec.Paths}
	if f.nested > 0 {
		return rev, nil
	}
	var before plumbing.Hash
	if s := plumbing.NewHash(f.spec.Since); f.spec.Since != "" && f.objects.has(s) {
		b, err := f.objects.commit(s)
		if err != nil {
			return rev, err
		}
		before, rev.Since = b.TreeHash, f.spec.Since
	}
	now, err1 := cleaned(f.spec.Paths)
	then, err2 := cleaned(f.spec.SincePaths)
	if err := errors.Join(err1, err2); err != nil {
		return rev, err
	}
	rev.Changed, err = f.objects.differ(ctx, before, c.TreeHash, then, now)
	return rev, err
}

// remember where a tag is.
func (f *fetching) remember(w wanted) error {
	if !strings.HasPrefix(w.ref, "refs/tags/") || f.state.Tags[w.ref] == w.hash.String() {
		return nil
	}
	st := f.state
	st.Tags = maps.Clone(st.Tags)
	if st.Tags == nil {
		st.Tags = map[string]string{}
	}
	st.Tags[w.ref] = w.hash.String()
	return f.src.save(st)
}
