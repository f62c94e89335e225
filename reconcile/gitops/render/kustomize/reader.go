package kustomize

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"padis.io/padis/reconcile/gitops/render/decode"
	"padis.io/padis/reconcile/gitops/render/sops"
)

// Reader is all that kustomize sees of the world: a tree, read only, with encrypted files decrypted. Each kustomization passes
// through it before kustomize acts on it, which is where those are refused that reach out of the tree.
type Reader struct {
	// Tree gives a file's content, within the bounds that its owner sets.
	Tree   func(name string) ([]byte, error)
	FS     fs.FS
	Keys   sops.Identities
	Limits decode.Limits

	// Documents is how many a build may read: what kustomize takes grows with their square.
	Documents int

	// Broken is the first file that is broken, and why.
	Broken *Broken
	// Used is what the build depends on: what was read, and what was looked for.
	Used []Use
	// Decrypted are the values that were encrypted.
	Decrypted []string

	root    string
	origins bool // asked for by us, not by the kustomization
	secrets []string

	documents int // read so far
}

// Broken is a file that cannot be read.
type Broken struct {
	File string
	Why  *decode.Error
}

func (b *Broken) Error() string { return b.File + ": " + b.Why.Error() }

// Use is one look at the tree.
type Use struct {
	Name string
	File bool // it was read; else it was looked whether it is there, and what it is
}

// ReadFile gives what kustomize is to see of a file.
func (r *Reader) ReadFile(p string) ([]byte, error) {
	name := clean(p)
	r.Used = append(r.Used, Use{Name: name, File: true})
	data, err := r.Tree(name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, r.broken(name, &decode.Error{Message: err.Error()})
		}
		return nil, err
	}
	kustomization := slices.Contains(Files, path.Base(name))
	data, e := r.open(name, data, kustomization)
	if e == nil && kustomization {
		data, e = r.admit(name, data)
	}
	if e != nil {
		return nil, r.broken(name, e)
	}
	return data, nil
}

func (r *Reader) broken(name string, e *decode.Error) error {
	if r.Broken == nil {
		r.Broken = &Broken{File: name, Why: e}
	}
	return r.Broken
}

// open decrypts, and bounds what kustomize's own parser would expand.
func (r *Reader) open(name string, data []byte, kustomization bool) ([]byte, *decode.Error) {
	whole := false
	if plain, ok := strings.CutSuffix(name, ".age"); ok {
		var err error
		if data, err = sops.File(data, r.Keys); err != nil {
			return nil, &decode.Error{Message: err.Error()}
		}
		r.secrets = append(r.secrets, strings.Split(string(data), "\n")...)
		name, whole = plain, true
	}
	structured := kustomization || slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(name))
	sealed := bytes.Contains(data, []byte(decode.Encrypted))
	if !structured && !sealed {
		if whole {
			r.decrypted(string(data))
		}
		return data, nil
	}
	as := name
	if !structured {
		as += ".json" // sops wraps files of no format of its own into JSON
	}
	docs, e := decode.Documents(as, data, r.Limits)
	if e != nil && structured {
		return nil, e
	}
	if r.documents += len(docs); r.documents > r.Documents {
		return nil, &decode.Error{Message: fmt.Sprintf("the kustomization reads more than %d documents, and kustomize slows down with their square: split it into several", r.Documents)}
	}
	for _, doc := range docs {
		if e := decode.Bounded(doc, r.Limits); e != nil {
			return nil, e
		}
	}
	if whole {
		for _, doc := range docs {
			r.contents(doc)
		}
	}
	switch {
	case slices.ContainsFunc(docs, sops.Of):
		secrets, err := sops.Decrypt(docs, r.Keys)
		if err != nil {
			return nil, &decode.Error{Message: err.Error()}
		}
		r.secrets = append(r.secrets, secrets...)
		r.Decrypted = append(r.Decrypted, secrets...)
		if wrapped := child(docs[0], "data"); !structured && wrapped != nil {
			r.decrypted(wrapped.Value)
			return []byte(wrapped.Value), nil
		}
		return encode(docs)
	case sealed:
		return nil, &decode.Error{Message: "encrypted by sops in a form that is not supported: use its YAML, JSON or binary form"}
	}
	return data, nil
}

// decrypted remembers a file that was encrypted, and the values in it if it is one of variables.
func (r *Reader) decrypted(text string) {
	r.Decrypted = append(r.Decrypted, text)
	for line := range strings.Lines(text) {
		if _, value, ok := strings.Cut(line, "="); ok {
			r.Decrypted = append(r.Decrypted, strings.TrimSpace(value))
		}
	}
}

// contents remembers what a document that was encrypted as a whole holds, but for what names its object.
func (r *Reader) contents(n *yaml.Node) {
	switch {
	case n.Kind == yaml.ScalarNode:
		r.Decrypted = append(r.Decrypted, n.Value)
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k := n.Content[i].Value; k != "apiVersion" && k != "kind" && k != "metadata" {
				r.contents(n.Content[i+1])
			}
		}
	default:
		for _, child := range n.Content {
			r.contents(child)
		}
	}
}

func encode(docs []*yaml.Node) ([]byte, *decode.Error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	for _, doc := range docs {
		if err := enc.Encode(doc); err != nil {
			return nil, &decode.Error{Line: doc.Line, Message: "cannot be written again after decryption"}
		}
	}
	if err := enc.Close(); err != nil {
		return nil, &decode.Error{Message: "cannot be written again after decryption"}
	}
	return out.Bytes(), nil
}

var errReadOnly = errors.New("the tree of a source is read only")

func clean(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(p)), "/")
	if p == "" {
		return "."
	}
	return p
}

func (r *Reader) stat(p string) (string, fs.FileInfo, error) {
	name := clean(p)
	r.Used = append(r.Used, Use{Name: name})
	info, err := fs.Stat(r.FS, name)
	return name, info, err
}

// Exists tells whether there is something.
func (r *Reader) Exists(p string) bool {
	_, _, err := r.stat(p)
	return err == nil
}

// IsDir tells whether it is a directory.
func (r *Reader) IsDir(p string) bool {
	_, info, err := r.stat(p)
	return err == nil && info.IsDir()
}

// CleanedAbs splits a path into the directory and the file, if it is one.
func (r *Reader) CleanedAbs(p string) (filesys.ConfirmedDir, string, error) {
	name, info, err := r.stat(p)
	if err != nil {
		return "", "", fmt.Errorf("%s is not in the source", name)
	}
	if info.IsDir() {
		return filesys.ConfirmedDir(path.Join("/", name)), "", nil
	}
	return filesys.ConfirmedDir(path.Join("/", path.Dir(name))), path.Base(name), nil
}

// What a build has no use for.

func (r *Reader) Create(string) (filesys.File, error)  { return nil, errReadOnly }
func (r *Reader) Mkdir(string) error                   { return errReadOnly }
func (r *Reader) MkdirAll(string) error                { return errReadOnly }
func (r *Reader) RemoveAll(string) error               { return errReadOnly }
func (r *Reader) WriteFile(string, []byte) error       { return errReadOnly }
func (r *Reader) Open(string) (filesys.File, error)    { return nil, errReadOnly }
func (r *Reader) ReadDir(string) ([]string, error)     { return nil, errReadOnly }
func (r *Reader) Glob(string) ([]string, error)        { return nil, errReadOnly }
func (r *Reader) Walk(string, filepath.WalkFunc) error { return errReadOnly }
