package crds

import (
	"testing"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// Every field of every kind says what it is: `padis explain` has nothing else to show.
func TestEveryFieldIsExplained(t *testing.T) {
	entries, err := Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		t.Fatal("no CRDs are embedded")
	}
	for _, e := range entries {
		b, err := Files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(b, &crd); err != nil {
			t.Fatalf("%s: %v", e.Name(), err)
		}
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
