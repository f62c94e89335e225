package render

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"padis.io/padis/reconcile/gitops/render/helm"
	"padis.io/padis/reconcile/gitops/render/ignore"
	"padis.io/padis/reconcile/gitops/render/kustomize"
)

// walk is one call of Render.
type walk struct {
	in    Input
	cache *Cache

	objects  []Object
	problems []Problem
	seen     map[string]bool // files that are counted; several kustomizations may read one
	counted  []counted       // the same in order, to take some back
	bytes    int
	over     bool // a bound of the whole tree was hit, which is told once
}

// counted is a file of the tree that was read.
type counted struct {
	name string
	size int
}

func (w *walk) problem(file, format string, args ...any) {
	w.problems = append(w.problems, Problem{File: file, Message: fmt.Sprintf(format, args...)})
}

// unreadable says why a file or directory cannot be read.
func (w *walk) unreadable(name string, err error) {
	w.problems = append(w.problems, Problem{File: name, Message: because(name, err), Passing: passing(err)})
}

// because is what an error says of a file, without what whoever reads it knows already.
func because(name string, err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return strings.TrimPrefix(err.Error(), name+": ")
}

// passing tells whether a tree says that what is wrong with it may be gone the next time.
func passing(err error) bool {
	var p interface{ Passing() bool }
	return errors.As(err, &p) && p.Passing()
}

// unread is why a file cannot be read.
type unread struct {
	why string
	err error
}

func (u *unread) Error() string { return u.why }
func (u *unread) Unwrap() error { return u.err }

func (w *walk) start() {
	root := path.Clean(w.in.Path)
	if !fs.ValidPath(root) {
		w.problem(w.in.Path, "not a path within the source: write it without a leading / and without ..")
		return
	}
	info, err := fs.Stat(w.in.FS, root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.problem(root, "not in the source: mend the Sync's path, or add it to the repository")
	case err != nil:
		w.unreadable(root, err)
	case w.in.Helm != nil && !w.isChart(root):
		w.problem(root, "spec.helm is set, and there is no %s: set spec.path to the directory of a chart, or unset spec.helm", helm.ChartFile)
	case info.IsDir():
		w.folder(root, nil)
	default:
		w.content(root, "")
	}
}

// scope is a .padisignore and the directory that it speaks of.
type scope struct {
	dir   string
	rules ignore.Rules
}

func ignored(scopes []scope, name string, folder bool) bool {
	for _, s := range slices.Backward(scopes) { // what is nearer counts more
		rel := name
		if s.dir != "." {
			rel = strings.TrimPrefix(name, s.dir+"/")
		}
		if spoken, ignored := s.rules.Match(rel, folder); spoken {
			return ignored
		}
	}
	return false
}

func (w *walk) folder(dir string, scopes []scope) {
	entries, err := fs.ReadDir(w.in.FS, dir) // sorted
	if err != nil {
		w.unreadable(dir, err)
		return
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	if slices.ContainsFunc(kustomize.Files, has) {
		w.kustomization(dir)
		return
	}
	if has(helm.ChartFile) {
		w.chart(dir)
		return
	}
	if has(ignore.File) {
		name := path.Join(dir, ignore.File)
		data, err := w.read(name)
		var rules ignore.Rules
		if err == nil {
			rules, err = ignore.Parse(string(data))
		}
		if err != nil {
			w.unreadable(name, err)
			return
		}
		scopes = append(scopes[:len(scopes):len(scopes)], scope{dir, rules})
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if w.over || strings.HasPrefix(e.Name(), ".") || ignored(scopes, name, e.IsDir()) {
			continue
		}
		switch {
		case e.IsDir():
			w.folder(name, scopes)
		case !manifest(e.Name()):
		case e.Type().IsRegular():
			w.file(name)
		default:
			w.link(name)
		}
	}
}

// link follows a symbolic link to a file; the source has seen to it that it stays in the tree. Links to directories might go round.
func (w *walk) link(name string) {
	info, err := fs.Stat(w.in.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		w.problem(name, "a symbolic link that leads nowhere: put the file where it leads to, or take it out")
	} else if err != nil {
		w.unreadable(name, err)
	} else if info.Mode().IsRegular() {
		w.content(name, "")
	} else {
		w.problem(name, "neither a file nor a link to one: remove it, or add it to %s", ignore.File)
	}
}

func manifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(strings.TrimSuffix(name, ".age")))
}

// read bounds what is read of one file and of the tree.
func (w *walk) read(name string) ([]byte, error) { return w.readOf(name, ignore.File) }

// readOf names where a file can be left out.
func (w *walk) readOf(name, ignores string) ([]byte, error) {
	f, err := w.in.FS.Open(name)
	if err != nil {
		return nil, &unread{because(name, err), err}
	}
	most := w.in.Options.FileBytes
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, &unread{because(name, err), err}
	}
	if len(data) > most {
		return nil, fmt.Errorf("the file has more than %d bytes: split it, or add it to %s", most, ignores)
	}
	if err := w.count(name, ignores, len(data)); err != nil {
		return nil, err
	}
	return data, nil
}

// count bounds the tree by a file of that size.
func (w *walk) count(name, ignores string, size int) error {
	switch {
	case w.seen[name]:
	case len(w.seen) >= w.in.Options.Files:
		w.over = true
		return fmt.Errorf("the tree has more than %d files: split it into several Syncs, or ignore some in %s", w.in.Options.Files, ignores)
	case w.bytes+size > w.in.Options.TreeBytes:
		w.over = true
		return fmt.Errorf("the tree has more than %d bytes: split it into several Syncs, or ignore some in %s", w.in.Options.TreeBytes, ignores)
	default:
		w.seen[name] = true
		w.counted = append(w.counted, counted{name, size})
		w.bytes += size
	}
	return nil
}

// forget gives what takes back what is counted from now on.
func (w *walk) forget() func() {
	n, over := len(w.counted), w.over
	return func() {
		for _, c := range w.counted[n:] {
			delete(w.seen, c.name)
			w.bytes -= c.size
		}
		w.counted, w.over = w.counted[:n], over
	}
}

// Hashed is a tree that knows which files are alike without reading them.
type Hashed interface {
	// Hash is equal for equal contents only. Symbolic links are not followed.
	Hash(name string) (string, error)
}

// hash of a file, if the tree knows it.
func (w *walk) hash(name string) string {
	t, ok := w.in.FS.(Hashed)
	if !ok {
		return ""
	}
	h, err := t.Hash(name)
	if err != nil {
		// Whoever reads it says why.
		return ""
	}
	return h
}

// file renders a file that is no link, unless the cache has it: then it is not even read if the tree knows its hash.
func (w *walk) file(name string) {
	hash := w.hash(name)
	if known, ok := w.cache.unread(name, hash); ok {
		if err := w.count(name, ignore.File, known.size); err != nil {
			w.problem(name, "%v", err)
			return
		}
		w.cache.newFiles[name] = known
		w.take(name, known.result)
		return
	}
	w.content(name, hash)
}

// content renders what a file or link leads to, unless the cache has it.
func (w *walk) content(name, hash string) {
	data, err := w.read(name)
	if err != nil {
		w.unreadable(name, err)
		return
	}
	w.take(name, w.cache.file(name, hash, data, func() result { return renderFile(w.in, name, data) }))
}

// kustomization builds one directory, unless the cache has it.
func (w *walk) kustomization(dir string) {
	forget := w.forget()
	w.take(dir, w.cache.build(dir, w.look, func() (result, []kustomize.Use) {
		// What the last build has looked at is not what this one reads.
		forget()
		return renderBuild(w.in, dir, w.read)
	}))
}

// look is what one Use of a build sees.
func (w *walk) look(u kustomize.Use) []byte {
	if u.File {
		data, err := w.read(u.Name)
		if err != nil {
			return nil
		}
		return append([]byte("file "), data...)
	}
	info, err := fs.Stat(w.in.FS, u.Name)
	switch {
	case err != nil:
		return nil
	case info.IsDir():
		return []byte("directory")
	}
	return []byte("there")
}

func (w *walk) take(from string, r result) {
	w.problems = append(w.problems, r.problems...)
	if len(w.objects)+len(r.objects) > w.in.Options.Objects {
		w.over = true
		w.problem(from, "the tree has more than %d objects: split it into several Syncs", w.in.Options.Objects)
		return
	}
	w.objects = append(w.objects, r.objects...)
}
