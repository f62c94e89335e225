package kustomize

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"go.yaml.in/yaml/v3"

	"padis.io/padis/reconcile/gitops/render/decode"
	"padis.io/padis/reconcile/gitops/render/sops"
)

const app = "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: web}\nspec: {replicas: 1}\n"

func tree(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func reader(t testing.TB, files map[string]string) *Reader {
	t.Helper()
	key, err := os.ReadFile("../sops/testdata/key.txt")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := sops.Parse(string(key))
	if err != nil {
		t.Fatal(err)
	}
	m := tree(files)
	return &Reader{FS: m, Keys: ids, Limits: decode.Defaults, Documents: 100, Tree: func(name string) ([]byte, error) { return fs.ReadFile(m, name) }}
}

func text(t *testing.T, o Object) string {
	t.Helper()
	data, err := yaml.Marshal(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBuild(t *testing.T) {
	r := reader(t, map[string]string{
		"base/kustomization.yaml":      "resources: [app.yaml]\n",
		"base/app.yaml":                app,
		"overlay/kustomization.yaml":   "resources: [../base]\nnamePrefix: eu-\npatches:\n- path: patch.yaml\nconfigMapGenerator:\n- name: settings\n  literals: [DEBUG=yes]\n  files: [motd.txt]",
		"overlay/patch.yaml":           "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: web}\nspec: {replicas: 3}\n",
		"overlay/motd.txt":             "hello\n",
		"elsewhere/kustomization.yaml": "broken: [\n",
	})
	got, err := Build(r, "overlay")
	if err != nil || len(got) != 2 {
		t.Fatalf("%d objects, %v, %v", len(got), err, r.Broken)
	}
	if s := text(t, got[0]); !strings.Contains(s, "name: eu-web") || !strings.Contains(s, "replicas: 3") || strings.Contains(s, "annotations") {
		t.Error(s)
	}
	if s := text(t, got[1]); !strings.Contains(s, "hello") || !strings.Contains(s, "name: eu-settings-") {
		t.Error(s)
	}
	if got[0].File != "base/app.yaml" || got[1].File != "overlay/kustomization.yaml" {
		t.Errorf("from %q and %q", got[0].File, got[1].File)
	}
	v, e := decode.Value(got[1].Root, decode.Defaults, nil)
	if e != nil || v.(map[string]any)["data"].(map[string]any)["DEBUG"] != "yes" {
		t.Errorf("%v, %v", v, e)
	}
	for _, u := range r.Used {
		if strings.HasPrefix(u.Name, "elsewhere") {
			t.Error("looked where nothing pointed to")
		}
	}
}

func TestEncryptedFilesAreDecrypted(t *testing.T) {
	testdata := func(name string) string {
		data, err := os.ReadFile("../sops/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	r := reader(t, map[string]string{
		"kustomization.yaml": "resources: [secret.yaml]\nsecretGenerator:\n- name: files\n  files: [whole.age, binary.bin]\n",
		"secret.yaml":        testdata("secret.yaml"), "whole.age": testdata("armored.age"), "binary.bin": testdata("binary.bin"),
	})
	got, err := Build(r, ".")
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", err, r.Broken)
	}
	if s := text(t, got[0]); !strings.Contains(s, "correct horse") || strings.Contains(s, "sops:") {
		t.Error(s)
	}
	if s := text(t, got[1]); !strings.Contains(s, "YW55IAAgYnl0ZXMK"[:12]) || strings.Contains(s, "RU5DW0FFUz") {
		t.Error(s)
	}
}

func TestRefused(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for k := 'b'; k < 'm'; k++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", k, k, strings.Repeat(fmt.Sprintf("*%c,", k-1), 9), k-1)
	}
	for kustomization, want := range map[string]string{
		"resources: ['https://example.com/app.yaml']":                                       `resources: "https://example.com/app.yaml" is not a path of this source`,
		"resources: ['HTTPS://example.com/app.yaml']":                                       "is not a path of this source",
		"resources: [github.com/a/b]":                                                       "is not a path of this source",
		"resources: ['git@example.com:a/b']":                                                "is not a path of this source",
		"resources: ['git::https://example.com/a.git']":                                     "is not a path of this source",
		"bases: ['ssh://example.com/a/b?ref=main']":                                         "is not a path of this source",
		"components: ['file:///etc']":                                                       "is not a path of this source",
		"crds: ['http://example.com/a']":                                                    "crds: ",
		"configurations: ['http://example.com/a']":                                          "configurations: ",
		"patches: [{path: 'http://example.com/a'}]":                                         "patches: ",
		"patchesJson6902: [{path: 'http://example.com/a', target: {kind: App, name: web}}]": "patchesJson6902: ",
		"patchesStrategicMerge: ['http://example.com/a']":                                   "patches",
		"replacements: [{path: 'http://example.com/a'}]":                                    "replacements: ",
		"configMapGenerator: [{name: a, files: ['k=http://example.com/a']}]":                "configMapGenerator: ",
		"secretGenerator: [{name: a, envs: ['http://example.com/a']}]":                      "secretGenerator: ",
		"generators: [g.yaml]":                                                              "plugins are not run",
		"transformers: [g.yaml]":                                                            "plugins are not run",
		"validators: [g.yaml]":                                                              "plugins are not run",
		"helmCharts: [{name: a, repo: 'https://example.com'}]":                              "Helm is not run",
		"openapi: {path: a.json}":                                                           "schemas of one's own",
		"resource: [app.yaml]":                                                              "not a kustomization",
		"resources: [app.yaml":                                                              "not valid YAML",
		"resources: [../../etc/passwd]":                                                     "etc/passwd",
		"resources: [/app.yaml]":                                                            "kustomize",
		"resources: [missing.yaml]":                                                         "missing.yaml",
		"resources: [bomb.yaml]":                                                            "bomb.yaml: line 1: the document has more than",
		"resources: [broken.yaml]":                                                          "broken.yaml: line 1: not valid YAML",
		"configMapGenerator: [{name: a, files: [../outside.txt]}]":                          "outside.txt",
		"configMapGenerator: [{name: a, envs: [sealed.env]}]":                               "sealed.env: encrypted by sops in a form that is not supported",
		"resources: [sealed.yaml]":                                                          "sealed.yaml: encrypted by sops in a form",
	} {
		r := reader(t, map[string]string{"o/kustomization.yaml": kustomization + "\n", "o/app.yaml": app, "app.yaml": app, "outside.txt": "x", "o/g.yaml": app, "o/bomb.yaml": bomb,
			"o/broken.yaml": "a: 1\nb: [c\n", "o/sealed.env": "A=ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]\n", "o/sealed.yaml": "a: ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]\n"})
		_, err := Build(r, "o")
		if err == nil {
			t.Errorf("%s passes", kustomization)
			continue
		}
		e := err.Error()
		if r.Broken != nil {
			e = r.Broken.File + ": " + r.Broken.Why.Error()
		}
		if !strings.Contains(e, want) {
			t.Errorf("%s: %s, want %s", kustomization, e, want)
		}
	}
}

func TestMessagesTellNoSecret(t *testing.T) {
	secret, err := os.ReadFile("../sops/testdata/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{
		"resources: [secret.yaml, secret.yaml]\n",
		"resources: [secret.yaml]\npatches:\n- patch: '{\"hunter2\": ['\n",
		"resources: [app.yaml]\npatches:\n- path: secret.yaml\n",
		"secretGenerator: [{name: a, literals: [hunter2]}]\n",
		"secretGenerator: [{name: a, literals: [A=hunter2, A=hunter2]}]\n",
		"secretGenerator: [{name: a, envs: [secret.env]}]\n",
	} {
		r := reader(t, map[string]string{"kustomization.yaml": k, "secret.yaml": string(secret), "app.yaml": app, "secret.env": "1=2=hunter2\n\xff=hunter2\n"})
		_, err := Build(r, ".")
		if err == nil {
			t.Errorf("%s passes", k)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v", k, err)
		}
	}
}

// Whatever a kustomization says, a build ends and reads the tree alone.
func FuzzBuild(f *testing.F) {
	f.Add("resources: [app.yaml]\nnamePrefix: x\n")
	f.Add("resources: [app.yaml]\npatches: [{patch: '[{\"op\":\"add\",\"path\":\"/spec/x\",\"value\":1}]', target: {kind: App}}]\n")
	f.Add("configMapGenerator: [{name: a, literals: [a=b], envs: [e]}]\nreplicas: [{name: web, count: 2}]\nimages: [{name: a, newTag: b}]\n")
	f.Fuzz(func(t *testing.T, kustomization string) {
		r := reader(t, map[string]string{"kustomization.yaml": kustomization, "app.yaml": app, "e": "k=v\n"})
		objects, err := Build(r, ".")
		if err != nil && len(objects) > 0 {
			t.Fatal("objects and an error")
		}
	})
}

// An empty kustomization is a mistake, though what is asked of kustomize beside is not empty.
func TestEmptyKustomization(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"} {
		r := reader(t, map[string]string{"shop/kustomization.yaml": text, "shop/app.yaml": app})
		got, err := Build(r, "shop")
		if err == nil || r.Broken == nil || r.Broken.File != "shop/kustomization.yaml" || !strings.Contains(r.Broken.Why.Message, "it is empty") {
			t.Errorf("%q: %v, %v, %v", text, got, err, r.Broken)
		}
	}
}

func TestWhatKustomizeSaysIsCut(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"resources: [nope.yaml]\n", "kustomize: resources: nope.yaml: nope.yaml is not in the source"},
		{"resources: [app.yaml, app.yaml]\n", "kustomize: resources: app.yaml: may not add resource with an already registered id: App.v1alpha1.padis.io/web.[noNs]"},
	} {
		_, err := Build(reader(t, map[string]string{"kustomization.yaml": c.text, "app.yaml": app}), ".")
		if err == nil || err.Error() != c.want {
			t.Errorf("%v and not %s", err, c.want)
		}
	}
}
