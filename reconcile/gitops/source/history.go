package source

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// maxPaths that a revision may have; a tree of a few kB can have any number.
const maxPaths = 1 << 20

func (o *objects) content(kind plumbing.ObjectType, h plumbing.Hash, most int64) ([]byte, error) {
	obj, err := o.get(kind, h)
	if err != nil {
		return nil, err
	}
	if obj.Size() > most {
		return nil, fail(ReasonTooLarge, "object %s has %d bytes, at most %d are read", h, obj.Size(), most)
	}
	r, err := obj.Reader()
	if err != nil {
		return nil, o.read(err, true)
	}
	defer r.Close()
	b := make([]byte, obj.Size())
	_, err = io.ReadFull(r, b)
	return b, o.read(err, true)
}

func (o *objects) commit(h plumbing.Hash) (*object.Commit, error) {
	obj, err := o.get(plumbing.CommitObject, h)
	if err != nil {
		return nil, err
	}
	c := &object.Commit{}
	return c, c.Decode(obj)
}

// peel follows annotated tags to the commit. tag is the first of them.
func (o *objects) peel(h plumbing.Hash) (commit plumbing.Hash, tag string, err error) {
	for range 8 {
		obj, err := o.get(plumbing.AnyObject, h)
		if err != nil {
			return h, "", err
		}
		switch obj.Type() {
		case plumbing.CommitObject:
			return h, tag, nil
		case plumbing.TagObject:
			t := &object.Tag{}
			if err := t.Decode(obj); err != nil {
				return h, "", err
			}
			if tag == "" {
				tag = h.String()
			}
			h = t.Target
		default:
			return h, "", fail(ReasonRefNotFound, "%s is a %s and not a commit: name a branch, tag or commit", h, obj.Type())
		}
	}
	return h, "", fail(ReasonRefNotFound, "%s is a tag of a tag, eight times over: name a tag of a commit", h)
}

// grown tells whether a commit has grown out of an older one. known is false where the history was not fetched so far.
func (o *objects) grown(ctx context.Context, from, to plumbing.Hash, shallow map[string]bool) (yes, known bool, err error) {
	seen := map[plumbing.Hash]bool{to: true}
	known = true
	for queue := []plumbing.Hash{to}; len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return false, false, err
		}
		h := queue[0]
		if h == from {
			return true, true, nil
		}
		if shallow[h.String()] {
			known = false
			continue
		}
		c, err := o.commit(h)
		if err != nil {
			return false, false, err
		}
		for _, p := range c.ParentHashes {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return false, known, nil
}

// tree reads a directory. Names that could lead elsewhere are refused.
func (o *objects) tree(h plumbing.Hash) ([]object.TreeEntry, error) {
	obj, err := o.get(plumbing.TreeObject, h)
	if err != nil {
		return nil, err
	}
	if obj.Size() > maxStructure {
		return nil, fail(ReasonTooLarge, "directory %s has %d bytes, at most %d are read", h, obj.Size(), maxStructure)
	}
	t := &object.Tree{}
	if err := t.Decode(obj); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(t.Entries))
	for _, e := range t.Entries {
		if e.Name == "" || e.Name == "." || e.Name == ".." || strings.EqualFold(e.Name, ".git") || strings.ContainsAny(e.Name, "/\x00") || seen[e.Name] {
			return nil, fail(ReasonInvalid, "directory %s has an entry %q, which git itself would refuse: make the commit anew", h, e.Name)
		}
		seen[e.Name] = true
	}
	return t.Entries, nil
}

// differ gives the paths of the files that are not alike in two trees, in order. Directories of one hash are not read. Of the
// first tree what was then in the paths is looked at, of both what is in them now: what was not read then is new.
func (o *objects) differ(ctx context.Context, a, b plumbing.Hash, then, now paths) ([]string, error) {
	d := &differ{ctx: ctx, objects: o, then: then, now: now, same: slices.Equal(then, now)}
	err := d.trees(a, b, "", 0)
	return d.paths, err
}

type differ struct {
	ctx       context.Context
	objects   *objects
	then, now paths
	same      bool
	paths     []string
	visited   int
}

// known tells whether all that is read of a directory now was read then.
func (d *differ) known(dir string) bool { return d.same || d.then.inside(dir) }

func (d *differ) entries(h plumbing.Hash, dir string, of paths) (map[string]object.TreeEntry, []string, error) {
	m := map[string]object.TreeEntry{}
	if h.IsZero() {
		return m, nil, nil
	}
	list, err := d.objects.tree(h)
	if err != nil {
		return nil, nil, err
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		if p := path.Join(dir, e.Name); len(d.now)+len(of) == 0 || d.now.sees(p) && of.sees(p) {
			m[e.Name] = e
			names = append(names, e.Name)
		}
	}
	d.visited += len(names)
	if d.visited > 2*maxPaths {
		return nil, nil, fail(ReasonTooLarge, "the repository has more than %d files: split it", maxPaths)
	}
	return m, names, d.ctx.Err()
}

func (d *differ) trees(a, b plumbing.Hash, dir string, depth int) error {
	if a == b && (d.known(dir) || b.IsZero()) {
		return nil
	}
	if depth > 256 {
		return &Error{Reason: ReasonTooLarge, Path: dir, Message: "directories are more than 256 deep: make them flatter"}
	}
	ma, na, err := d.entries(a, dir, d.then)
	if err != nil {
		return at(err, dir)
	}
	mb, nb, err := d.entries(b, dir, d.now)
	if err != nil {
		return at(err, dir)
	}
	for _, name := range merge(na, nb, ma) {
		x, y := ma[name], mb[name]
		p := path.Join(dir, name)
		if x.Hash == y.Hash && x.Mode == y.Mode && (d.known(p) || y.Mode != filemode.Dir) {
			continue
		}
		var ta, tb plumbing.Hash
		if x.Mode == filemode.Dir {
			ta = x.Hash
		}
		if y.Mode == filemode.Dir {
			tb = y.Hash
		}
		if x.Mode != filemode.Dir && !x.Hash.IsZero() || y.Mode != filemode.Dir && !y.Hash.IsZero() {
			d.paths = append(d.paths, p)
		}
		if err := d.trees(ta, tb, p, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// merge gives the names of both lists once, in the order of the second with those that only the first has before.
func merge(a, b []string, inA map[string]object.TreeEntry) []string {
	inB := make(map[string]bool, len(b))
	for _, n := range b {
		inB[n] = true
	}
	out := make([]string, 0, len(inA)+len(b))
	for _, n := range a {
		if !inB[n] {
			out = append(out, n)
		}
	}
	return append(out, b...)
}

// at says which path an error is about, where it does not say so yet.
func at(err error, p string) error {
	var e *Error
	if errors.As(err, &e) && e.Path == "" {
		e.Path = p
	}
	return err
}
