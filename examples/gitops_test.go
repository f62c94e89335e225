package examples_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/gitops/render"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// syncs are those that a file declares; the sources that it declares are valid.
func syncs(t *testing.T, file string) []v1alpha1.Sync {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []v1alpha1.Sync
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(b)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "Sync":
			var y v1alpha1.Sync
			if err := yaml.UnmarshalStrict(doc, &y); err != nil {
				t.Fatal(err)
			}
			if errs := v1alpha1.ValidateSync(&y, time.LoadLocation); len(errs) > 0 {
				t.Errorf("sync %s: %v", y.Name, errs)
			}
			all = append(all, y)
		case "GitSource":
			var s v1alpha1.GitSource
			if err := yaml.UnmarshalStrict(doc, &s); err != nil {
				t.Fatal(err)
			}
			if errs := v1alpha1.ValidateGitSource(&s); len(errs) > 0 {
				t.Errorf("gitsource %s: %v", s.Name, errs)
			}
		}
	}
}

// The Syncs of the repository render what is in it, and all of that together can be put in force.
func TestTheRepositoryForGitOps(t *testing.T) {
	m := manifest{objects: config.Objects{}, cluster: declared.Input{}}
	found := map[string]int{}
	for _, y := range syncs(t, filepath.Join("gitops", "padis", "shop.yaml")) {
		variables := map[string]string{}
		for _, v := range y.Spec.Variables {
			variables[v.Name] = v.Value
		}
		objects, problems := render.Render(render.Input{FS: os.DirFS("gitops"), Path: y.Spec.Path, Namespace: y.Spec.TargetNamespace, Default: y.Namespace, Variables: variables})
		for _, p := range problems {
			t.Errorf("sync %s: %s", y.Name, p)
		}
		for _, o := range objects {
			found[o.GetKind()]++
			into := func(v any) {
				t.Helper()
				if err := apiruntime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, v, true); err != nil {
					t.Errorf("%s: %v", o.File, err)
				}
			}
			switch o.GetKind() {
			case "Network":
				var n v1alpha1.Network
				into(&n)
				m.cluster.Networks = append(m.cluster.Networks, n)
			case "IPPool":
				var p v1alpha1.IPPool
				into(&p)
				m.cluster.Pools = append(m.cluster.Pools, p)
			case "App":
				var a v1alpha1.App
				into(&a)
				if a.Namespace != "shop" || *a.Spec.Replicas != 2 || a.Spec.Template.Command[2] != "local" {
					t.Errorf("app is %s/%s with %d replicas, command %v", a.Namespace, a.Name, *a.Spec.Replicas, a.Spec.Template.Command)
				}
				if errs := v1alpha1.ValidateApp(&a); len(errs) > 0 {
					t.Errorf("app %s: %v", a.Name, errs)
				}
				m.apps = append(m.apps, a)
			}
		}
	}
	check(t, m)
	for _, kind := range []string{"Network", "IPPool", "App", "ConfigMap"} {
		if found[kind] != 1 {
			t.Errorf("%d objects of kind %s", found[kind], kind)
		}
	}
}
