// Package render turns the files of a source into objects: plain YAML and JSON, kustomizations, charts, variables, and what sops or
// age encrypted. It says of everything that is wrong which file and line it is in; a result with problems must not be applied.
// Edge: talks to the tree of a source (fs.FS), and to who renders charts.
//
// What a file means is decided in pure packages (decode, substitute, sops, ignore); this one walks and remembers.
package render

import (
	"fmt"
	"io/fs"
	"sort"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"padis.io/padis/reconcile/gitops/render/decode"
	"padis.io/padis/reconcile/gitops/render/helm"
	"padis.io/padis/reconcile/gitops/render/sops"
)

// Input is what one Sync wants rendered.
type Input struct {
	FS   fs.FS  // the tree of one verified commit
	Path string // a directory or file of it; "" is all

	Variables map[string]string // for ${NAME}; nil leaves all text as it is
	Secret    map[string]bool   // variables whose values come from Secrets: the fields that they are put into are named by conceal.Annotation
	Decrypt   sops.Identities   // private keys of age
	Namespace string            // the Sync's target namespace: objects without one get it, objects of another are problems
	Default   string            // the namespace of objects that name none, if there is no target namespace

	Release string // the name of the release that charts are rendered for
	Helm    *Helm  // what is said of the chart in Path, if it is to be one
	// Chart renders a chart, within bounds. Without it, charts are problems.
	Chart func(helm.Request) (helm.Response, error)

	// Make makes of each object what is kept of it in its place; without it, that is the object. What it refuses is a problem.
	Make func(*unstructured.Unstructured) (any, error)

	Options Options
	Cache   *Cache // what the last call of the same Sync left, or nil

	others map[string]string // Variables, with other values for those that are secret; nil if none is
}

// Options bound the work. What is zero is as in Defaults.
type Options struct {
	decode.Limits
	Objects   int // in all
	Files     int // looked at
	TreeBytes int // of all files that are read
	Problems  int // told; there may be more
	Documents int // read by one kustomization
}

// Defaults of Options.
var Defaults = Options{Limits: decode.Defaults, Objects: 100_000, Files: 100_000, TreeBytes: 512 << 20, Problems: 100, Documents: 2000}

// Object is one object, and where it was said.
type Object struct {
	File string
	Line int // 0 if kustomize or a template made it
	// Made is what Input.Make has made of it; without that, it is here itself.
	Made any
	*unstructured.Unstructured
	id id
}

// id tells objects apart.
type id struct{ group, kind, namespace, name string }

// Problem is why a result must not be applied. It never holds a value, which may be a secret.
type Problem struct {
	File    string
	Line    int    // 0 if it is the file's
	Field   string // "" if it is the object's
	Message string
	Passing bool // it may be gone when the same is rendered again
}

func (p Problem) String() string {
	s := p.Message
	if p.Field != "" {
		s = p.Field + ": " + s
	}
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, s)
	}
	return p.File + ": " + s
}

// Render gives the objects of a tree in the order of its files, and what is wrong with it. Equal inputs give equal results, with and
// without a cache. The objects are shared with the cache: whoever changes one copies it first.
func Render(in Input) ([]Object, []Problem) {
	in.Options = in.Options.or(Defaults)
	in.others = others(in.Variables, in.Secret)
	w := walk{in: in, cache: in.Cache.begin(in), seen: map[string]bool{}}
	w.start()
	w.cache.end()
	problems := append(w.problems, w.twice()...)
	sort.SliceStable(problems, func(i, j int) bool {
		a, b := problems[i], problems[j]
		return a.File < b.File || a.File == b.File && a.Line < b.Line
	})
	if most := in.Options.Problems; len(problems) > most {
		more := len(problems) - most
		text := fmt.Sprintf("and %d more problems", more)
		if more == 1 {
			text = "and 1 more problem"
		}
		problems = append(problems[:most:most], Problem{File: in.Path, Message: text})
	}
	return w.objects, problems
}

func (o Options) or(d Options) Options {
	o.Limits = o.Limits.Or(d.Limits)
	for _, f := range []struct {
		v *int
		d int
	}{{&o.Objects, d.Objects}, {&o.Files, d.Files}, {&o.TreeBytes, d.TreeBytes}, {&o.Problems, d.Problems}, {&o.Documents, d.Documents}} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return o
}

// twice names both places of objects that are there twice.
func (w *walk) twice() []Problem {
	seen := make(map[id]*Object, len(w.objects))
	var problems []Problem
	for i := range w.objects {
		o := &w.objects[i]
		k := o.id
		first, twice := seen[k]
		if !twice {
			seen[k] = o
			continue
		}
		problems = append(problems, Problem{File: o.File, Line: o.Line, Field: "metadata.name",
			Message: fmt.Sprintf("%s %s is also in %s: remove one", k.kind, fullName(k.namespace, k.name), place(first))})
	}
	return problems
}

func fullName(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func place(o *Object) string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}
