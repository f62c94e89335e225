package render

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"padis.io/padis/api/conceal"
	"padis.io/padis/reconcile/gitops/render/decode"
	"padis.io/padis/reconcile/gitops/render/helm"
	"padis.io/padis/reconcile/gitops/render/ignore"
	"padis.io/padis/reconcile/gitops/render/sops"
	"padis.io/padis/reconcile/gitops/render/substitute"
)

// Helm is what a Sync says of the chart in its path.
type Helm struct {
	Values      []byte   // a JSON object, or nothing
	ValuesFiles []string // paths of the tree
}

// maxRelease is how long the name of a release may be: helm's own bound.
const maxRelease = 53

// APIVersions are what templates find in .Capabilities.APIVersions: the kinds that Padis serves of what a repository may declare, and its own.
func APIVersions() []string {
	var out []string
	for _, v := range []struct {
		version string
		kinds   []string
	}{
		{"v1", []string{"ConfigMap", "Namespace", "Secret", "ServiceAccount"}},
		{"padis.io/v1alpha1", []string{"App", "AppRevision", "BGPPeer", "ExecutorUpgrade", "GitSource", "IPPool", "ImagePrepull", "LoadBalancer", "Network", "Registry", "Sync", "Tenant"}},
		{"rbac.authorization.k8s.io/v1", []string{"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}},
	} {
		out = append(out, v.version)
		for _, k := range v.kinds {
			out = append(out, v.version+"/"+k)
		}
	}
	return out
}

func (w *walk) isChart(dir string) bool {
	_, err := fs.Stat(w.in.FS, path.Join(dir, helm.ChartFile))
	return err == nil
}

// chart renders the chart in a directory, unless the cache has it.
func (w *walk) chart(dir string) {
	at := path.Join(dir, helm.ChartFile)
	switch {
	case w.in.Chart == nil:
		w.problem(at, "Helm charts are not rendered here: commit what `helm template` prints, or add the directory to %s", ignore.File)
		return
	case len(w.in.Release) > maxRelease:
		w.problem(at, "the name of the release, %s, has more than %d characters: set spec.helm.releaseName", w.in.Release, maxRelease)
		return
	}
	c := chart{dir: dir}
	text, err := w.readOf(path.Join(dir, helm.IgnoreFile), helm.IgnoreFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.unreadable(path.Join(dir, helm.IgnoreFile), err)
		return
	}
	if c.ignore, err = helm.ParseIgnore(text); err != nil {
		w.problem(path.Join(dir, helm.IgnoreFile), "%v", err)
		return
	}
	before := len(w.problems)
	w.gather(&c, dir)
	if w.in.Helm != nil {
		for _, name := range w.in.Helm.ValuesFiles {
			data, err := w.readOf(name, "another file")
			if errors.Is(err, fs.ErrNotExist) {
				err = errors.New("not in the source: mend spec.helm.valuesFiles, or add it to the repository")
			}
			if err != nil {
				w.unreadable(name, err)
			}
			c.values = append(c.values, helm.File{Name: name, Data: data})
		}
	}
	if len(w.problems) > before {
		return
	}
	w.take(dir, w.cache.chart(dir, c.digest(), func() result { return renderChart(w.in, c) }))
}

// chart is a chart as it is in the tree.
type chart struct {
	dir    string
	ignore helm.Ignore
	files  []helm.File
	values []helm.File
}

// gather reads the files of a directory of the chart.
func (w *walk) gather(c *chart, dir string) {
	entries, err := fs.ReadDir(w.in.FS, dir)
	if err != nil {
		w.unreadable(dir, err)
		return
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		rel := name
		if c.dir != "." {
			rel = strings.TrimPrefix(name, c.dir+"/")
		}
		if w.over || c.ignore.Match(rel, e.IsDir()) {
			continue
		}
		if e.IsDir() {
			w.gather(c, name)
			continue
		}
		if !e.Type().IsRegular() {
			// A symbolic link; the source has seen to it that it stays in the tree.
			if info, err := fs.Stat(w.in.FS, name); err != nil {
				w.unreadable(name, err)
				continue
			} else if !info.Mode().IsRegular() {
				w.problem(name, "neither a file nor a link to one: remove it, or add it to %s", helm.IgnoreFile)
				continue
			}
		}
		data, err := w.readOf(name, helm.IgnoreFile)
		if err != nil {
			w.unreadable(name, err)
			continue
		}
		c.files = append(c.files, helm.File{Name: rel, Data: []byte(strings.TrimPrefix(string(data), "\ufeff"))})
	}
}

// digest is all that a chart comes to depends on, but the settings.
func (c *chart) digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, f := range slices.Concat(c.files, []helm.File{{}}, c.values) {
		write(h, []byte(f.Name))
		write(h, f.Data)
	}
	h.Sum(sum[:0])
	return sum
}

func renderChart(in Input, c chart) (r result) {
	for _, f := range c.files {
		if f.Name == helm.ChartFile || f.Name == helm.ValuesFile {
			docs, e := decode.Documents(f.Name, f.Data, in.Options.Limits)
			if e == nil && slices.ContainsFunc(docs, sops.Of) {
				// Templates could hide that it is not decrypted.
				e = &decode.Error{Message: "encrypted by sops: only what spec.helm.valuesFiles names is decrypted; move what is encrypted into such a file"}
			}
			if e != nil {
				r.broken(path.Join(c.dir, f.Name), e)
			}
		}
	}
	req := helm.Request{Files: c.files, Release: in.Release, Namespace: cmp.Or(in.Namespace, in.Default), APIVersions: APIVersions()}
	var secrets []string
	for _, f := range c.values {
		secrets = append(secrets, r.values(in, &req, f.Name, f.Data)...)
	}
	if in.Helm != nil && len(in.Helm.Values) > 0 {
		secrets = append(secrets, r.values(in, &req, "spec.helm.values", in.Helm.Values)...)
	}
	if len(r.problems) > 0 {
		return r
	}
	res, err := in.Chart(req)
	if err != nil {
		var death *helm.Death
		p := Problem{File: path.Join(c.dir, helm.ChartFile), Message: err.Error(), Passing: !errors.As(err, &death) || death.Passing}
		r.problems = append(r.problems, p)
		return r
	}
	hidden := slices.AppendSeq(slices.Clone(secrets), maps.Values(in.Variables))
	for _, p := range res.Problems {
		r.problems = append(r.problems, Problem{File: path.Join(c.dir, p.File), Line: p.Line, Field: p.Field, Message: conceal.Text(p.Message, hidden)})
	}
	in.Variables = nil // templates have their own; ${...} that they leave is meant for others
	for _, f := range res.Files {
		r.template(in, path.Join(c.dir, f.Name), f.Data, holding(secrets))
	}
	return r
}

// values adds a layer of values to a request. It gives the secrets in it: what was encrypted, and what variables have brought.
func (r *result) values(in Input, req *helm.Request, name string, data []byte) (secrets []string) {
	as := name
	if name == "spec.helm.values" {
		as = "values.json"
	}
	docs, e := decode.Documents(as, data, in.Options.Limits)
	if e != nil {
		r.broken(name, e)
		return nil
	}
	if slices.ContainsFunc(docs, sops.Of) {
		var err error
		if secrets, err = sops.Decrypt(docs, in.Decrypt); err != nil {
			r.broken(name, &decode.Error{Message: err.Error()})
			return nil
		}
	}
	var replace func(string) (string, error)
	if in.Variables != nil {
		replace = func(s string) (string, error) {
			for name := range in.Secret {
				if strings.Contains(s, "${"+name) {
					secrets = append(secrets, in.Variables[name])
				}
			}
			return substitute.Text(s, in.Variables)
		}
	}
	for _, doc := range docs {
		v, e := decode.Value(doc, in.Options.Limits, replace)
		if e == nil && doc.Kind != yaml.MappingNode {
			e = &decode.Error{Line: doc.Line, Message: "not a mapping: values are keys and what they stand for"}
		}
		var layer []byte
		if e == nil {
			var err error
			if layer, err = json.Marshal(v); err != nil {
				e = &decode.Error{Line: doc.Line, Message: "cannot be written as JSON"}
			}
		}
		if e != nil {
			if as != name {
				e.Line = 0
			}
			r.broken(name, e)
			return nil
		}
		req.Values = append(req.Values, layer)
	}
	return secrets
}

// template adds the objects that a template came to. secret tells which scalars hold a secret; nil if none does.
func (r *result) template(in Input, file string, data []byte, secret func(*yaml.Node) bool) {
	origin := func(line int) string { return fmt.Sprintf(" (line %d of what it renders)", line) }
	docs, e := decode.Documents("rendered.yaml", data, in.Options.Limits)
	if e != nil {
		r.problems = append(r.problems, Problem{File: file, Field: e.Field, Message: e.Message + origin(e.Line)})
		return
	}
	for _, doc := range docs {
		if hook := annotation(doc, "helm.sh/hook"); hook != "" {
			if tests(hook) {
				continue
			}
			r.problems = append(r.problems, Problem{File: file, Field: "metadata.annotations[helm.sh/hook]",
				Message: "hooks are not run: what is declared is kept in force, and nothing happens once. Switch it off by the chart's values, or use padis.io/wave for an order" + origin(doc.Line)})
			continue
		}
		v, e := decode.Value(doc, in.Options.Limits, nil)
		if e != nil {
			r.problems = append(r.problems, Problem{File: file, Field: e.Field, Message: e.Message + origin(e.Line)})
			continue
		}
		other := v
		if secret != nil {
			other = rendered(in, doc, secret, nil)
			kept(other)
		}
		kept(v)
		n := len(r.problems)
		r.value(in, file, 0, doc, v, other, 0)
		for i := range r.problems[n:] {
			r.problems[n+i].Message += origin(doc.Line)
		}
	}
}

// tests tells whether a hook is for `helm test` alone, which nobody runs.
func tests(hook string) bool {
	for h := range strings.SplitSeq(hook, ",") {
		if !slices.Contains([]string{"test", "test-success", "test-failure"}, strings.TrimSpace(h)) {
			return false
		}
	}
	return true
}

// kept keeps what helm would keep: an object with this policy stays when the chart has it no more.
func kept(v any) {
	m, _ := v.(map[string]any)
	meta, _ := m["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	if policy, _ := annotations["helm.sh/resource-policy"].(string); strings.TrimSpace(strings.ToLower(policy)) != "keep" {
		return
	}
	if _, set := annotations["padis.io/prune"]; !set {
		annotations["padis.io/prune"] = "disabled"
	}
}
