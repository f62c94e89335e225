package kustomize

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/types"

	"padis.io/padis/reconcile/gitops/render/decode"
)

// admit refuses a kustomization that would fetch or execute something. It reads it by kustomize's own types, so that both see the same.
func (r *Reader) admit(name string, data []byte) ([]byte, *decode.Error) {
	var k types.Kustomization
	if err := k.Unmarshal(data); err != nil {
		return nil, &decode.Error{Message: "not a kustomization: " + r.clean(err.Error())}
	}
	if k.CheckEmpty() != nil {
		// What is asked for below would hide that from kustomize.
		return nil, &decode.Error{Message: "it is empty: name its resources, or remove it to have the manifests of the directory read"}
	}
	for _, f := range []struct {
		field string
		used  bool
		why   string
	}{
		{"generators", len(k.Generators) > 0, "plugins are not run: use configMapGenerator, secretGenerator or plain resources"},
		{"transformers", len(k.Transformers) > 0, "plugins are not run: use patches, replacements, labels or images"},
		{"validators", len(k.Validators) > 0, "plugins are not run"},
		{"helmCharts", len(k.HelmCharts) > 0 || len(k.HelmChartInflationGenerator) > 0 || k.HelmGlobals != nil, "Helm is not run: commit what `helm template` prints"},
		{"openapi", len(k.OpenAPI) > 0, "schemas of one's own are not supported"},
	} {
		if f.used {
			return nil, &decode.Error{Field: f.field, Message: f.why}
		}
	}
	for _, p := range paths(k) {
		if remote(p.path) {
			return nil, &decode.Error{Field: p.field, Message: fmt.Sprintf("%.200q is not a path of this source: what is elsewhere is not fetched, since no commit vouches for it; copy it into the repository, or make it a GitSource and Sync of its own", p.path)}
		}
	}
	if path.Dir(name) == r.root && len(k.BuildMetadata) == 0 && !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		// Ask where objects come from; the annotation is taken off again.
		r.origins = true
		data = append(bytes.TrimRight(data, "\n"), "\nbuildMetadata: [originAnnotations]\n"...)
	}
	return data, nil
}

type said struct{ field, path string }

// paths are all that kustomize would load.
func paths(k types.Kustomization) []said {
	var out []said
	add := func(field string, ps ...string) {
		for _, p := range ps {
			out = append(out, said{field, p})
		}
	}
	add("resources", k.Resources...)
	add("components", k.Components...)
	//lint:ignore SA1019 kustomize still reads it, so it must be admitted like the others
	add("bases", k.Bases...)
	add("crds", k.Crds...)
	add("configurations", k.Configurations...)
	for _, p := range k.Patches {
		add("patches", p.Path)
	}
	//lint:ignore SA1019 kustomize still reads it, so it must be admitted like the others
	for _, p := range k.PatchesJson6902 {
		add("patchesJson6902", p.Path)
	}
	for _, p := range k.Replacements {
		add("replacements", p.Path)
	}
	//lint:ignore SA1019 kustomize still reads it, so it must be admitted like the others
	for _, p := range k.PatchesStrategicMerge {
		if s := strings.ToLower(strings.TrimSpace(string(p))); strings.HasPrefix(s, "http:") || strings.HasPrefix(s, "https:") {
			add("patchesStrategicMerge", s) // others may be patches themselves, which have colons, too
		}
	}
	source := func(field string, s types.KvPairSources) {
		for _, f := range s.FileSources {
			if _, after, ok := strings.Cut(f, "="); ok {
				f = after
			}
			add(field, f)
		}
		add(field, s.EnvSources...)
		add(field, s.EnvSource)
	}
	for _, g := range k.ConfigMapGenerator {
		source("configMapGenerator", g.KvPairSources)
	}
	for _, g := range k.SecretGenerator {
		source("secretGenerator", g.KvPairSources)
	}
	return out
}

// remote is wider than what kustomize takes for a URL or a repository: there, a scheme, a user, or a name of GitHub is enough.
func remote(p string) bool {
	return strings.ContainsAny(p, ":@?") || strings.Contains(strings.ToLower(p), "github.com")
}
