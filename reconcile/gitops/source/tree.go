package source

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Tree is the files of a revision below a directory, as an fs.FS that reads the cache. It is safe for concurrent use, and
// must be closed. Symbolic links are followed within it; one that leads out of it is refused by its name.
type Tree struct {
	objects *objects
	options Options
	time    time.Time
	root    object.TreeEntry
	mounts  map[string]*Tree
	// paths that are read, from dir on, which is the directory that root is.
	paths    paths
	dir      string
	mu       sync.Mutex
	dirs     map[plumbing.Hash]map[string]object.TreeEntry
	read     map[plumbing.Hash]bool
	total    int64
	borrowed bool
}

var (
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.ReadFileFS = (*Tree)(nil)
	_ fs.StatFS     = (*Tree)(nil)
)

// Tree opens the files of a revision below the directory, "." for all. Nothing but the name, the commit and the submodules
// of the revision is looked at, so that one that was written down can be opened after a restart.
func (c *Cache) Tree(rev Revision, dir string) (*Tree, error) {
	o, err := c.opened(rev)
	if err != nil {
		return nil, err
	}
	t, err := newTree(o, rev, c.options, dir)
	if err != nil {
		o.close()
		return nil, sourced(err, rev.Name)
	}
	t.borrowed = false
	for _, s := range rev.Submodules {
		p, ok := below(s.Path, dir)
		if !ok {
			continue
		}
		sub, err := c.Tree(s.Revision, ".")
		if err != nil {
			t.Close()
			return nil, err
		}
		t.mounts[p] = sub
	}
	return t, nil
}

// below gives the path from the directory on.
func below(p, dir string) (string, bool) {
	if dir == "." {
		return p, true
	}
	return strings.CutPrefix(p, dir+"/")
}

// Hash of a directory or file of a revision, without reading what is in it. Two of one hash are alike.
func (c *Cache) Hash(rev Revision, p string) (string, error) {
	t, err := c.Tree(rev, ".")
	if err != nil {
		return "", err
	}
	defer t.Close()
	return t.Hash(p)
}

// Object gives the content of the revision's commit, or of its tag, as it was signed.
func (c *Cache) Object(rev Revision, hash string) ([]byte, error) {
	o, err := c.opened(rev)
	if err != nil {
		return nil, err
	}
	defer o.close()
	b, err := o.content(plumbing.AnyObject, plumbing.NewHash(hash), maxStructure)
	if err != nil {
		return nil, sourced(err, rev.Name)
	}
	return b, nil
}

func (c *Cache) opened(rev Revision) (*objects, error) {
	src := c.source(rev.Name)
	o := src.open(src.now())
	if !isHash(rev.Commit) || !o.has(plumbing.NewHash(rev.Commit)) {
		o.close()
		return nil, &Error{Reason: ReasonCacheDamaged, Source: rev.Name, Message: "commit " + rev.Commit + " is not among what was fetched of the repository: name one that is in its history, or wait until it is fetched"}
	}
	return o, nil
}

// sourced makes an error name the source.
func sourced(err error, name string) error {
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Reason: ReasonCacheDamaged, Source: name, Message: err.Error() + "; fetch it again", Err: err}
	}
	if e.Source == "" {
		e.Source = name
	}
	return err
}

// newTree reads objects that are the caller's to close.
func newTree(o *objects, rev Revision, options Options, dir string) (*Tree, error) {
	c, err := o.commit(plumbing.NewHash(rev.Commit))
	if err != nil {
		return nil, err
	}
	read, err := cleaned(rev.Paths)
	if err != nil {
		return nil, &Error{Reason: ReasonInvalid, Message: err.Error()}
	}
	t := &Tree{objects: o, paths: read, dir: ".", options: options, time: c.Committer.When.UTC(), root: object.TreeEntry{Mode: filemode.Dir, Hash: c.TreeHash}, borrowed: true,
		mounts: map[string]*Tree{}, dirs: map[plumbing.Hash]map[string]object.TreeEntry{}, read: map[plumbing.Hash]bool{}}
	if dir == "." {
		return t, nil
	}
	if !fs.ValidPath(dir) {
		return nil, &Error{Reason: ReasonInvalid, Path: dir, Message: "it is not a path from the root of the repository without a slash before it"}
	}
	// Not through links: the directory is what symbolic links must not leave.
	t.root, err = t.lookup(dir, false)
	if isNotExist(err) || err == nil && t.root.Mode != filemode.Dir {
		return nil, &Error{Reason: ReasonRefNotFound, Path: dir, Message: "commit " + rev.Commit + " has no such directory: what was applied stays; correct the path, or push the directory"}
	}
	t.dir = dir
	return t, err
}

// sees tells whether something of what is at a path is read.
func (t *Tree) sees(name string) bool {
	return len(t.paths) == 0 || t.paths.sees(path.Join(t.dir, name))
}

// Close lets go of the cache's files.
func (t *Tree) Close() {
	for _, m := range t.mounts {
		m.Close()
	}
	if !t.borrowed {
		t.objects.mu.Lock()
		defer t.objects.mu.Unlock()
		t.objects.close()
	}
}

// Hash of a directory or file, without reading what is in it.
func (t *Tree) Hash(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: "hash", Path: name, Err: fs.ErrInvalid}
	}
	if m, rest := t.mount(name); m != nil {
		return m.Hash(rest)
	}
	e, err := t.lookup(name, false)
	if err != nil {
		return "", &fs.PathError{Op: "hash", Path: name, Err: err}
	}
	return e.Hash.String(), nil
}

// mount finds the submodule that a path is in.
func (t *Tree) mount(name string) (*Tree, string) {
	for p, m := range t.mounts {
		if name == p {
			return m, "."
		}
		if rest, ok := strings.CutPrefix(name, p+"/"); ok {
			return m, rest
		}
	}
	return nil, ""
}

func (t *Tree) entries(h plumbing.Hash) (map[string]object.TreeEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d, ok := t.dirs[h]; ok {
		return d, nil
	}
	t.objects.mu.Lock()
	list, err := t.objects.tree(h)
	t.objects.mu.Unlock()
	if err != nil {
		return nil, err
	}
	d := make(map[string]object.TreeEntry, len(list))
	for _, e := range list {
		d[e.Name] = e
	}
	t.dirs[h] = d
	return d, nil
}

// maxLinks that are followed on the way to one file.
const maxLinks = 40

// lookup finds an entry; links on the way are followed, and the last one if asked.
func (t *Tree) lookup(name string, last bool) (object.TreeEntry, error) {
	e, _, err := t.resolve(name, last)
	return e, err
}

// resolve finds an entry, and the path that it is at once links were followed.
func (t *Tree) resolve(name string, last bool) (object.TreeEntry, string, error) {
	for range maxLinks {
		e, link, err := t.walk(name, last)
		if err != nil || link == "" {
			return e, name, err
		}
		name = link
	}
	return object.TreeEntry{}, name, &Error{Reason: ReasonSymlinkRefused, Path: name, Message: "symbolic links lead in a circle: take them out"}
}

// walk goes along a path up to its first link, and then gives the path to go on with.
func (t *Tree) walk(name string, last bool) (e object.TreeEntry, link string, err error) {
	e = t.root
	if name == "." {
		return e, "", nil
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if e.Mode != filemode.Dir {
			return e, "", fs.ErrNotExist
		}
		d, err := t.entries(e.Hash)
		if err != nil {
			return e, "", err
		}
		var ok bool
		if e, ok = d[part]; !ok {
			return e, "", fs.ErrNotExist
		}
		if len(t.paths) > 0 && !t.sees(path.Join(parts[:i+1]...)) {
			return e, "", errOutside
		}
		if e.Mode == filemode.Symlink && (i < len(parts)-1 || last) {
			here := path.Join(parts[:i+1]...)
			to, err := t.target(e.Hash, here)
			if err != nil {
				return e, "", err
			}
			return e, path.Join(append([]string{to}, parts[i+1:]...)...), nil
		}
	}
	return e, "", nil
}

// target of a link, as a path from the root of the tree.
func (t *Tree) target(h plumbing.Hash, here string) (string, error) {
	t.objects.mu.Lock()
	b, err := t.objects.content(plumbing.BlobObject, h, 4096)
	t.objects.mu.Unlock()
	if err != nil {
		return "", at(err, here)
	}
	to := path.Join(path.Dir(here), string(b))
	if path.IsAbs(string(b)) || !fs.ValidPath(to) {
		return "", &Error{Reason: ReasonSymlinkRefused, Path: here, Message: "it is a symbolic link that leaves the tree: put a file in its place, or widen the path of what reads it"}
	}
	if !t.sees(to) {
		return "", &Error{Reason: ReasonSymlinkRefused, Path: here, Message: "it is a symbolic link to " + to + ", which is in none of the paths that the source gives: put a file in its place, or add that path"}
	}
	return to, nil
}

// ReadFile gives the content of a file of at most Options.MaxFile bytes; of all files, at most Options.MaxTree.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readfile", Path: name, Err: fs.ErrInvalid}
	}
	if m, rest := t.mount(name); m != nil {
		return m.ReadFile(rest)
	}
	e, err := t.lookup(name, true)
	if err == nil && e.Mode == filemode.Dir {
		err = errors.New("it is a directory")
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readfile", Path: name, Err: err}
	}
	b, err := t.blob(e, name)
	if err != nil {
		return nil, &fs.PathError{Op: "readfile", Path: name, Err: err}
	}
	return b, nil
}

func (t *Tree) blob(e object.TreeEntry, name string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.objects.mu.Lock()
	defer t.objects.mu.Unlock()
	n, err := t.objects.size(e.Hash)
	most := t.options.MaxFile
	switch {
	case errors.Is(err, plumbing.ErrObjectNotFound):
		err := fail(ReasonTooLarge, "it has more than %d bytes and was not fetched: put it elsewhere", most)
		return nil, at(err, name)
	case err != nil:
		return nil, err
	case n > most:
		err := fail(ReasonTooLarge, "it has %d bytes, at most %d are read: put it elsewhere", n, most)
		return nil, at(err, name)
	}
	if !t.read[e.Hash] {
		if t.total+n > t.options.MaxTree {
			err := fail(ReasonTooLarge, "with it the files that are read have more than %d bytes in all: split the source, or name a path", t.options.MaxTree)
			return nil, at(err, name)
		}
		t.read[e.Hash] = true
		t.total += n
	}
	return t.objects.content(plumbing.BlobObject, e.Hash, most)
}

// ReadDir lists a directory in the order of names. Links are listed as such; a submodule that was not fetched is an empty
// directory.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	if m, rest := t.mount(name); m != nil {
		return m.ReadDir(rest)
	}
	e, real, err := t.resolve(name, true)
	var d map[string]object.TreeEntry
	switch {
	case err != nil:
	case e.Mode == filemode.Dir:
		d, err = t.entries(e.Hash)
	case e.Mode != filemode.Submodule:
		err = errors.New("it is not a directory")
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	out := make([]fs.DirEntry, 0, len(d))
	for _, e := range d {
		if t.sees(path.Join(real, e.Name)) {
			out = append(out, entry{t, e})
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// Stat tells of what a path leads to, links followed.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name, true) }

// Lstat tells of a link itself.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name, false) }

// ReadLink gives what a link says.
func (t *Tree) ReadLink(name string) (string, error) {
	i, err := t.stat("readlink", name, false)
	if err != nil {
		return "", err
	}
	if i.Mode()&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	x := i.(info)
	x.t.objects.mu.Lock()
	defer x.t.objects.mu.Unlock()
	b, err := x.t.objects.content(plumbing.BlobObject, x.e.Hash, 4096)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(b), nil
}

func (t *Tree) stat(op, name string, last bool) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if m, rest := t.mount(name); m != nil {
		i, err := m.stat(op, rest, last)
		if err == nil && rest == "." {
			x := i.(info)
			x.name = path.Base(name)
			i = x
		}
		return i, err
	}
	e, err := t.lookup(name, last)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return info{path.Base(name), t, e}, nil
}

// Open opens a file or directory.
func (t *Tree) Open(name string) (fs.File, error) {
	i, err := t.stat("open", name, true)
	if err != nil {
		return nil, err
	}
	if i.IsDir() {
		list, err := t.ReadDir(name)
		return &openDir{info: i, list: list}, err
	}
	b, err := t.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return &openFile{bytes.NewReader(b), i}, nil
}

type info struct {
	name string
	t    *Tree
	e    object.TreeEntry
}

func (i info) Name() string       { return i.name }
func (i info) ModTime() time.Time { return i.t.time }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return nil }

// Size of a file that was not fetched is more than any that is read.
func (i info) Size() int64 {
	if i.IsDir() {
		return 0
	}
	i.t.objects.mu.Lock()
	defer i.t.objects.mu.Unlock()
	n, err := i.t.objects.size(i.e.Hash)
	if err != nil {
		return i.t.options.MaxFile + 1
	}
	return n
}

func (i info) Mode() fs.FileMode {
	switch i.e.Mode {
	case filemode.Dir, filemode.Submodule:
		return fs.ModeDir | 0o555
	case filemode.Symlink:
		return fs.ModeSymlink | 0o777
	case filemode.Executable:
		return 0o555
	}
	return 0o444
}

type entry struct {
	t *Tree
	e object.TreeEntry
}

func (e entry) Name() string               { return e.e.Name }
func (e entry) IsDir() bool                { return e.Type().IsDir() }
func (e entry) Type() fs.FileMode          { return info{e.e.Name, e.t, e.e}.Mode().Type() }
func (e entry) Info() (fs.FileInfo, error) { return info{e.e.Name, e.t, e.e}, nil }

type openFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info fs.FileInfo
	list []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.Name(), Err: errors.New("it is a directory")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.list) {
		if n > 0 && len(d.list) == 0 {
			return nil, io.EOF
		}
		n = len(d.list)
	}
	out := d.list[:n]
	d.list = d.list[n:]
	return out, nil
}
