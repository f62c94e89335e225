package crds

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// definitions reads all of them, by the name of their file.
func definitions(t *testing.T) map[string]*apiextv1.CustomResourceDefinition {
	t.Helper()
	out := map[string]*apiextv1.CustomResourceDefinition{}
	entries, err := Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := Files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		crd := &apiextv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(b, crd); err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
		out[e.Name()] = crd
	}
	return out
}

// What is generated is embedded: a kind that was forgotten would not be served.
func TestEveryDefinitionIsEmbedded(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") {
			want = append(want, e.Name())
		}
	}
	if got := slices.Sorted(maps.Keys(definitions(t))); !slices.Equal(got, want) {
		t.Errorf("embedded are %v, generated are %v", got, want)
	}
}

// Every field of every kind says what it is: `padis explain` has nothing else to show.
func TestEveryFieldIsExplained(t *testing.T) {
	for _, crd := range definitions(t) {
		for _, v := range crd.Spec.Versions {
			explained(t, crd.Spec.Names.Singular, v.Schema.OpenAPIV3Schema)
		}
	}
}

func explained(t *testing.T, path string, s *apiextv1.JSONSchemaProps) {
	t.Helper()
	if s.Description == "" && path != "" {
		t.Errorf("%s has no description", path)
	}
	for name, p := range s.Properties {
		if name != "metadata" {
			explained(t, path+"."+name, &p)
		}
	}
	if s.Items != nil && s.Items.Schema != nil {
		for name, p := range s.Items.Schema.Properties {
			explained(t, path+"."+name, &p)
		}
	}
}
