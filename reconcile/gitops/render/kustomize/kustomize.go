// Package kustomize builds kustomizations of a tree by kustomize's library. It reads through a Reader alone, so that nothing is
// fetched, executed or written. Edge: talks to kustomize, which is given the files of a source.
package kustomize

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/krusty"
)

// Files are the names of kustomizations, as kustomize looks for them.
var Files = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// Object is one object of a build.
type Object struct {
	File string // where it comes from, if kustomize says so
	Root *yaml.Node
}

// Build builds the kustomization in dir, a path of the tree. The Reader then knows what was read. Errors of files are the Reader's
// (Reader.Broken); err is what kustomize itself says, without secrets.
func Build(r *Reader, dir string) (objects []Object, err error) {
	defer func() {
		if p := recover(); p != nil {
			objects, err = nil, fmt.Errorf("kustomize cannot build it: %s", r.clean(fmt.Sprint(p)))
		}
	}()
	r.root = dir
	// kustomize keeps the schema of its merges in package variables.
	building.Lock()
	defer building.Unlock()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(r, "/"+dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize: %s", plain(r.clean(err.Error())))
	}
	for _, res := range built.Resources() {
		n := res.YNode()
		if n != nil && n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
			n = n.Content[0]
		}
		if n == nil {
			continue
		}
		o := Object{Root: n}
		if r.origins {
			o.File = origin(n, dir)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

var building sync.Mutex

const originKey = "config.kubernetes.io/origin"

// origin takes the annotation that says where an object comes from, which the Reader asked for, off the object.
func origin(n *yaml.Node, dir string) string {
	meta := child(n, "metadata")
	annotations := child(meta, "annotations")
	said := child(annotations, originKey)
	if said == nil {
		return ""
	}
	var o struct {
		Path         string `yaml:"path"`
		ConfiguredIn string `yaml:"configuredIn"`
	}
	_ = yaml.Unmarshal([]byte(said.Value), &o) // what cannot be read says nothing
	drop(annotations, originKey)
	if len(annotations.Content) == 0 {
		drop(meta, "annotations")
	}
	if o.Path == "" {
		o.Path = o.ConfiguredIn
	}
	if o.Path == "" {
		return ""
	}
	return path.Join(dir, o.Path)
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func drop(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
			return
		}
	}
}

// quoted are the places where kustomize's errors print files: configurations of its plugins and patches.
var quoted = regexp.MustCompile("(?s)(with config: |SM or JSON patch from |unable to parse .* from |literal sources? |env source files?: |invalid line ).*")

// refused is how kustomize says that it cannot take a resource; it then tries whether it is a directory, and says that, too.
var refused = regexp.MustCompile(`^accumulating (resources|components): accumulation err='(?:accumulating|merging) \w+ from '([^']*)': (.*?)': must build at directory: .*$`)

// plain takes out of a message what kustomize has only tried.
func plain(msg string) string {
	m := refused.FindStringSubmatch(msg)
	if m == nil {
		return msg
	}
	return m[1] + ": " + m[2] + ": " + m[3]
}

// clean takes out of a message what may be secret.
func (r *Reader) clean(msg string) string {
	for _, s := range r.secrets {
		if s = strings.TrimSpace(s); s != "" {
			msg = strings.ReplaceAll(msg, s, "***")
		}
	}
	msg = quoted.ReplaceAllString(msg, "$1(not shown: it may hold secrets)")
	msg = strings.Join(strings.Fields(msg), " ")
	if len(msg) > 500 {
		msg = strings.ToValidUTF8(msg[:500], "") + " ..."
	}
	return msg
}
