package source

import (
	"sort"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

// wanted is what a Ref means on a server.
type wanted struct {
	// ref that was found, or empty for a commit alone.
	ref string
	// hash of the commit or of the annotated tag.
	hash plumbing.Hash
	// tips must be fetched to have it.
	tips []plumbing.Hash
	// on is the tip of the branch that the commit must be on, if any.
	on plumbing.Hash
}

// resolve finds what is wanted among what a server advertises.
func resolve(adv *packp.AdvRefs, ref Ref) (wanted, error) {
	one := func(name string) (wanted, error) {
		h, ok := adv.References[name]
		if !ok {
			return wanted{}, fail(ReasonRefNotFound, "the repository has no %s: what was applied stays; push it, or name another one", name)
		}
		return wanted{ref: name, hash: h, tips: []plumbing.Hash{h}}, nil
	}
	switch {
	case ref.Commit != "":
		return resolveCommit(adv, ref)
	case ref.Branch != "":
		return one("refs/heads/" + ref.Branch)
	case ref.Tag != "":
		return one("refs/tags/" + ref.Tag)
	case ref.SemVer != "":
		name, err := highest(adv, ref.SemVer)
		if err != nil {
			return wanted{}, err
		}
		return one(name)
	}
	if adv.Head == nil {
		return wanted{}, fail(ReasonRefNotFound, "the repository has no default branch: name one")
	}
	for _, s := range adv.Capabilities.Get(capability.SymRef) {
		if name, ok := strings.CutPrefix(s, "HEAD:"); ok {
			return one(name)
		}
	}
	return wanted{ref: "HEAD", hash: *adv.Head, tips: []plumbing.Hash{*adv.Head}}, nil
}

// resolveCommit asks for the commit itself where the server lets us, and for everything that it may be on elsewhere.
func resolveCommit(adv *packp.AdvRefs, ref Ref) (wanted, error) {
	w := wanted{hash: plumbing.NewHash(ref.Commit)}
	if ref.Branch != "" {
		tip, ok := adv.References["refs/heads/"+ref.Branch]
		if !ok {
			return w, fail(ReasonRefNotFound, "the repository has no refs/heads/%s: what was applied stays; push it, or name another one", ref.Branch)
		}
		w.ref, w.on, w.tips = "refs/heads/"+ref.Branch, tip, []plumbing.Hash{tip}
		return w, nil
	}
	for _, h := range adv.References {
		if h == w.hash {
			w.tips = []plumbing.Hash{h}
			return w, nil
		}
	}
	if adv.Capabilities.Supports(capability.AllowReachableSHA1InWant) || adv.Capabilities.Supports("allow-any-sha1-in-want") {
		w.tips = []plumbing.Hash{w.hash}
		return w, nil
	}
	seen := map[plumbing.Hash]bool{}
	for _, name := range sorted(adv.References) {
		h := adv.References[name]
		if !seen[h] && (strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/")) {
			seen[h] = true
			w.tips = append(w.tips, h)
		}
	}
	return w, nil
}

// highest is the tag of the highest version in the range.
func highest(adv *packp.AdvRefs, within string) (string, error) {
	c, err := semver.NewConstraint(within)
	if err != nil {
		return "", fail(ReasonInvalid, "spec.ref.semver %q: %v; write a range as >=1.2.0 <2", within, err)
	}
	var best *semver.Version
	name, tags := "", 0
	for _, ref := range sorted(adv.References) {
		tag, ok := strings.CutPrefix(ref, "refs/tags/")
		if !ok {
			continue
		}
		v, err := semver.NewVersion(tag)
		if err != nil {
			continue
		}
		tags++
		if c.Check(v) && (best == nil || v.GreaterThan(best)) {
			best, name = v, ref
		}
	}
	if best == nil {
		return "", fail(ReasonRefNotFound, "none of the repository's %d tags that are versions is within %q: what was applied stays; push one, or widen spec.ref.semver (pre-releases fit only where it names one, as >=1.0.0-0)", tags, within)
	}
	return name, nil
}

func sorted(m map[string]plumbing.Hash) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
