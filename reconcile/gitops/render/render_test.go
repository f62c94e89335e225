package render

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"padis.io/padis/api/crds"
	"padis.io/padis/reconcile/gitops/render/decode"
	"padis.io/padis/reconcile/gitops/render/helm"
	"padis.io/padis/reconcile/gitops/render/sops"
)

func tree(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func app(name string) string {
	return "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata:\n  name: " + name + "\nspec:\n  replicas: 1\n"
}

func names(objects []Object) string {
	var out []string
	for _, o := range objects {
		out = append(out, fmt.Sprintf("%s:%d %s %s/%s", o.File, o.Line, o.GetKind(), o.GetNamespace(), o.GetName()))
	}
	return strings.Join(out, "\n")
}

func lines(problems []Problem) string {
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return strings.Join(out, "\n")
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("sops/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func key(t testing.TB) sops.Identities {
	t.Helper()
	ids, err := sops.Parse(testdata(t, "key.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestTree(t *testing.T) {
	in := Input{Namespace: "shop", Path: "deploy", Decrypt: key(t), FS: tree(map[string]string{
		"README.md":                    "# not asked for",
		"deploy/.hidden.yaml":          "[",
		"deploy/.git/config.yaml":      "[",
		"deploy/notes.txt":             "[",
		"deploy/.padisignore":          "package.json\n/old/\n",
		"deploy/package.json":          "{}",
		"deploy/old/a.yaml":            "[",
		"deploy/a.yaml":                "# two\n---\n" + app("one") + "---\n# nothing\n---\n" + app("two"),
		"deploy/b.json":                "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"b\"}}",
		"deploy/c/list.yml":            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: first}\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: second}\n",
		"deploy/c/net.yaml":            "apiVersion: padis.io/v1alpha1\nkind: Network\nmetadata: {name: lan}\n",
		"deploy/k/kustomization.yaml":  "resources: [../../base]\nnamespace: shop\n",
		"deploy/s/secret.yaml":         testdata(t, "secret.yaml"),
		"deploy/s/whole.yaml.age":      strings.ReplaceAll(testdata(t, "armored.age"), "\r", ""),
		"base/kustomization.yaml":      "resources: [app.yaml]\nnamePrefix: k-\n",
		"base/app.yaml":                app("web"),
		"base/not-named.yaml":          "[",
		"deploy/z/.padisignore":        "*.yaml\n!keep.yaml\n",
		"deploy/z/drop.yaml":           "[",
		"deploy/z/keep.yaml":           app("keep"),
		"deploy/z/vendor/x/chart.yaml": "[",
	})}
	objects, problems := Render(in)
	// The whole file is the same Secret as the other: both places are named.
	if got, want := lines(problems), "deploy/s/whole.yaml.age:1: metadata.name: Secret shop/database is also in deploy/s/secret.yaml:1: remove one"; got != want {
		t.Errorf("problems:\n%s", got)
	}
	want := strings.Join([]string{
		"deploy/a.yaml:3 App shop/one", "deploy/a.yaml:12 App shop/two", "deploy/b.json:1 ConfigMap shop/b", "deploy/c/list.yml:4 ConfigMap shop/first", "deploy/c/list.yml:7 ConfigMap shop/second",
		"deploy/c/net.yaml:1 Network /lan", "base/app.yaml:0 App shop/k-web", "deploy/s/secret.yaml:1 Secret shop/database", "deploy/s/whole.yaml.age:1 Secret shop/database", "deploy/z/keep.yaml:1 App shop/keep",
	}, "\n")
	if got := names(objects); got != want {
		t.Errorf("objects:\n%s\nwant:\n%s", got, want)
	}
}

func TestProblems(t *testing.T) {
	meta := "apiVersion: v1\nkind: ConfigMap\nmetadata: "
	for name, c := range map[string]struct {
		files map[string]string
		edit  func(*Input)
		want  string
	}{
		"no path":          {nil, func(in *Input) { in.Path = "x/y" }, "x/y: not in the source"},
		"path leaves":      {nil, func(in *Input) { in.Path = "../x" }, "not a path within the source"},
		"absolute path":    {nil, func(in *Input) { in.Path = "/x" }, "not a path within the source"},
		"no object":        {map[string]string{"a.yaml": "- x\n"}, nil, "a.yaml:1: not an object"},
		"no kind":          {map[string]string{"a.yaml": "apiVersion: v1\n"}, nil, "a.yaml:1: kind: missing"},
		"no apiVersion":    {map[string]string{"a.yaml": "kind: App\n"}, nil, "a.yaml:1: apiVersion: missing"},
		"no metadata":      {map[string]string{"a.yaml": "apiVersion: v1\nkind: App\n"}, nil, "metadata: missing"},
		"no name":          {map[string]string{"a.yaml": meta + "{}"}, nil, "metadata.name: missing"},
		"number for name":  {map[string]string{"a.yaml": meta + "{name: 5}"}, nil, "metadata.name: not a string"},
		"generateName":     {map[string]string{"a.yaml": meta + "{generateName: a-}"}, nil, "metadata.generateName: would make another object"},
		"owner":            {map[string]string{"a.yaml": meta + "{name: a, ownerReferences: [{apiVersion: v1, kind: App, name: b, uid: c}]}"}, nil, "metadata.ownerReferences: names an object by a uid"},
		"label":            {map[string]string{"a.yaml": meta + "{name: a, labels: {ok: a, b: true, c: 5}}"}, nil, "metadata.labels[b]: not a string"},
		"labels":           {map[string]string{"a.yaml": meta + "{name: a, labels: [x]}"}, nil, "metadata.labels: not a mapping"},
		"namespace":        {map[string]string{"a.yaml": meta + "{name: a, namespace: other}"}, nil, `metadata.namespace: "other" is not the Sync's target namespace "shop"`},
		"no namespace":     {map[string]string{"a.yaml": meta + "{name: a}"}, func(in *Input) { in.Namespace = "" }, "metadata.namespace: missing"},
		"cluster-scoped":   {map[string]string{"a.yaml": "apiVersion: padis.io/v1alpha1\nkind: Tenant\nmetadata: {name: a, namespace: shop}"}, nil, "a Tenant is in no namespace"},
		"list in a list":   {map[string]string{"a.yaml": "kind: List\nitems: [{kind: List, items: []}]"}, nil, "a list in a list"},
		"twice":            {map[string]string{"a.yaml": app("x"), "b.yaml": "---\n" + app("x")}, nil, "b.yaml:2: metadata.name: App shop/x is also in a.yaml:1: remove one"},
		"variable":         {map[string]string{"a.yaml": meta + "\n  name: ${NONE}"}, func(in *Input) { in.Variables = map[string]string{} }, "a.yaml:4: metadata.name: the variable NONE is not given"},
		"variable, built":  {map[string]string{"kustomization.yaml": "resources: [a.yaml]", "a.yaml": meta + "\n  name: a\n  labels: {x: \"${NONE}\"}"}, func(in *Input) { in.Variables = map[string]string{} }, "a.yaml: metadata.labels.x: the variable NONE"},
		"no key":           {map[string]string{"a.yaml": testdata(t, "secret.yaml")}, func(in *Input) { in.Decrypt = sops.Identities{} }, "a.yaml: encrypted, and no decryption key is given"},
		"no key, age":      {map[string]string{"a.yaml.age": testdata(t, "file.age")}, func(in *Input) { in.Decrypt = sops.Identities{} }, "a.yaml.age: encrypted, and no decryption key is given"},
		"Helm":             {map[string]string{"c/Chart.yaml": "name: c", "c/templates/a.yaml": "{{ }}"}, nil, "c/Chart.yaml: Helm charts are not rendered"},
		"built wrong":      {map[string]string{"k/kustomization.yaml": "resources: [gone.yaml]"}, nil, "k: kustomize: "},
		"built from air":   {map[string]string{"k/kustomization.yaml": "resources: ['https://example.com/x']"}, nil, "k/kustomization.yaml: resources: "},
		"ignore":           {map[string]string{".padisignore": "a\n[\n"}, nil, ".padisignore: line 2"},
		"many objects":     {map[string]string{"a.yaml": app("a"), "b.yaml": app("b")}, func(in *Input) { in.Options.Objects = 1 }, "more than 1 objects"},
		"many files":       {map[string]string{"a.yaml": app("a"), "b.yaml": app("b")}, func(in *Input) { in.Options.Files = 1 }, "more than 1 files"},
		"large tree":       {map[string]string{"a.yaml": app("a"), "b.yaml": app("b")}, func(in *Input) { in.Options.TreeBytes = 150 }, "more than 150 bytes"},
		"large file":       {map[string]string{"a.yaml": app("a")}, func(in *Input) { in.Options.FileBytes = 20 }, "a.yaml: the file has more than 20 bytes"},
		"large build":      {map[string]string{"k/kustomization.yaml": "resources: [a.yaml]", "k/a.yaml": app("a") + "---\n" + app("b")}, func(in *Input) { in.Options.Documents = 2 }, "k/a.yaml: the kustomization reads more than 2 documents"},
		"large file built": {map[string]string{"k/kustomization.yaml": "resources: [a.yaml]", "k/a.yaml": app(strings.Repeat("a", 100))}, func(in *Input) { in.Options.FileBytes = 60 }, "k/a.yaml: the file has more than 60 bytes"},
	} {
		in := Input{Namespace: "shop", Decrypt: key(t), FS: tree(c.files)}
		if c.edit != nil {
			c.edit(&in)
		}
		_, problems := Render(in)
		if len(problems) != 1 || !strings.Contains(lines(problems), c.want) {
			t.Errorf("%s:\n%s\nwant %s", name, lines(problems), c.want)
		}
	}
}

func TestOneBrokenOfAThousand(t *testing.T) {
	files := thousand()
	files["apps/500.yaml"] = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\nstringData:\n  password: \"hunter2\n"
	objects, problems := Render(Input{FS: tree(files), Namespace: "shop"})
	if len(problems) != 1 || problems[0].File != "apps/500.yaml" || problems[0].Line < 6 || strings.Contains(problems[0].Message, "hunter2") {
		t.Errorf("%s", lines(problems))
	}
	if len(objects) != 999 {
		t.Errorf("%d objects", len(objects))
	}
	for i := range 1000 {
		files[fmt.Sprintf("apps/%d.yaml", i)] = "["
	}
	_, problems = Render(Input{FS: tree(files), Namespace: "shop"})
	if len(problems) != 101 || problems[100].Message != "and 900 more problems" {
		t.Errorf("%d problems, the last: %v", len(problems), problems[len(problems)-1])
	}
}

func TestVariables(t *testing.T) {
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${NAME}\ndata:\n  count: \"${N}\"\n  script: echo $${HOME} $PATH ${GREETING:-hi}\nspec: {replicas: \"${N}\"}\nnumber: ${N}\n"
	off := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: quiet\n  annotations: {padis.io/substitute: disabled}\ndata: {script: \"${NONE}\"}\n"
	in := Input{Namespace: "shop", Variables: map[string]string{"NAME": "c", "N": "3"}}
	for _, files := range []map[string]string{
		{"a.yaml": text, "b.yaml": off},
		{"a.yaml": text, "b.yaml": off, "kustomization.yaml": "resources: [a.yaml, b.yaml]\ncommonAnnotations: {by: \"${N}\"}\n"},
	} {
		in.FS = tree(files)
		objects, problems := Render(in)
		if len(problems) > 0 || len(objects) != 2 {
			t.Fatalf("%s", lines(problems))
		}
		got := objects[0].Object
		want := map[string]any{"count": "3", "script": "echo ${HOME} $PATH hi"}
		if objects[0].GetName() != "c" || !reflect.DeepEqual(got["data"], want) || got["number"] != int64(3) || !reflect.DeepEqual(got["spec"], map[string]any{"replicas": "3"}) {
			t.Errorf("%#v", got)
		}
		if s := objects[1].Object["data"].(map[string]any)["script"]; s != "${NONE}" {
			t.Errorf("%v", s)
		}
	}
	in.FS, in.Variables = tree(map[string]string{"a.yaml": off}), nil
	if _, problems := Render(in); len(problems) > 0 {
		t.Error(lines(problems))
	}
}

// Which kinds are in no namespace is what the definitions say.
func TestClusterScoped(t *testing.T) {
	entries, err := crds.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := crds.Files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Group string `json:"group"`
				Scope string `json:"scope"`
				Names struct {
					Kind string `json:"kind"`
				} `json:"names"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatal(err)
		}
		if got := ClusterScoped(crd.Spec.Group, crd.Spec.Names.Kind); got != (crd.Spec.Scope == "Cluster") {
			t.Errorf("%s: %v, the definition says %s", crd.Spec.Names.Kind, got, crd.Spec.Scope)
		}
	}
}

// hashed is a tree that knows hashes, and counts what is opened.
type hashed struct {
	fstest.MapFS
	opened int
}

func (h *hashed) Hash(name string) (string, error) { return fmt.Sprintf("%x", h.MapFS[name].Data), nil }

func (h *hashed) Open(name string) (fs.File, error) {
	if f := h.MapFS[name]; f != nil && f.Mode.IsRegular() {
		h.opened++
	}
	return h.MapFS.Open(name)
}

// A file that is as it was is not read, if the tree knows that without.
func TestOnlyWhatChangedIsRead(t *testing.T) {
	files := &hashed{MapFS: tree(thousand())}
	in := Input{FS: files, Namespace: "shop", Cache: &Cache{}}
	Render(in)
	files.opened = 0
	files.MapFS["apps/500.yaml"] = &fstest.MapFile{Data: []byte(app("changed"))}
	o, p := Render(in)
	if len(o) != 1000 || len(p) > 0 || files.opened != 1 || in.Cache.Parsed() != 1 {
		t.Errorf("%d objects, %d files opened, %d parsed: %s", len(o), files.opened, in.Cache.Parsed(), lines(p))
	}
}

// Rendering with a cache that saw any earlier trees gives what rendering without one gives.
func TestCacheChangesNothing(t *testing.T) {
	contents := []string{app("one"), app("two"), "[", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"${V}\"}\n", "resources: [x.yaml]\nnamePrefix: k-\n", "resources: [../a]\n", "b.yaml\n"}
	paths := []string{"a/x.yaml", "a/kustomization.yaml", "b.yaml", "c/kustomization.yaml", "c/x.yaml", ".padisignore"}
	rapid.Check(t, func(t *rapid.T) {
		cache := &Cache{}
		for range rapid.IntRange(1, 5).Draw(t, "commits") {
			files := map[string]string{}
			for _, p := range paths {
				if rapid.Bool().Draw(t, p) {
					files[p] = rapid.SampledFrom(contents).Draw(t, "content")
				}
			}
			in := Input{FS: tree(files), Namespace: rapid.SampledFrom([]string{"shop", "other"}).Draw(t, "namespace"), Variables: map[string]string{"V": rapid.SampledFrom([]string{"v", "w"}).Draw(t, "v")},
				Options: Options{Files: rapid.SampledFrom([]int{0, 2}).Draw(t, "most")}}
			objects, problems := Render(in)
			in.Cache = cache
			if rapid.Bool().Draw(t, "hashed") {
				in.FS = &hashed{MapFS: in.FS.(fstest.MapFS)}
			}
			for range 2 {
				o, p := Render(in)
				if names(o) != names(objects) || lines(p) != lines(problems) {
					t.Fatalf("with a cache:\n%s\n%s\nwithout:\n%s\n%s", names(o), lines(p), names(objects), lines(problems))
				}
			}
			if cache.Parsed() != 0 {
				t.Fatalf("%d parsed again", cache.Parsed())
			}
		}
	})
}

// What a kustomization has read before and reads no more does not count.
func TestOnlyWhatIsReadCounts(t *testing.T) {
	in := Input{Namespace: "shop", Cache: &Cache{}, Options: Options{Files: 2}}
	for _, files := range []map[string]string{
		{"a/kustomization.yaml": "resources: [x.yaml]\n", "a/x.yaml": app("one")},
		{"a/kustomization.yaml": "resources: []\n", "a/x.yaml": app("one"), "c/x.yaml": app("two")},
	} {
		in.FS = tree(files)
		if o, p := Render(in); len(o) != 1 || len(p) > 0 {
			t.Errorf("%s\n%s", names(o), lines(p))
		}
	}
}

// spoilt is a tree with a file that cannot be read at the moment, and one that may not be read.
type spoilt struct{ fstest.MapFS }

type damage struct{}

func (damage) Error() string { return "what was fetched is damaged" }
func (damage) Passing() bool { return true }

func (s *spoilt) Open(name string) (fs.File, error) {
	switch path.Base(name) {
	case "damaged.yaml":
		return nil, &fs.PathError{Op: "open", Path: name, Err: damage{}}
	case "secret.yaml":
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%s: it leaves the tree", name)}
	}
	return s.MapFS.Open(name)
}

// A file that cannot be read is named once, and only what is wrong with the commit makes it wrong for good.
func TestUnreadableFiles(t *testing.T) {
	chart := "apiVersion: v2\nname: web\nversion: 1.0.0\n"
	for _, c := range []struct {
		files   map[string]string
		want    string
		passing bool
	}{
		{map[string]string{"damaged.yaml": ""}, "damaged.yaml: what was fetched is damaged", true},
		{map[string]string{"secret.yaml": ""}, "secret.yaml: it leaves the tree", false},
		{map[string]string{"k/kustomization.yaml": "resources: [damaged.yaml]\n", "k/damaged.yaml": ""}, "k/damaged.yaml: what was fetched is damaged", true},
		{map[string]string{"k/kustomization.yaml": "resources: [secret.yaml]\n", "k/secret.yaml": ""}, "k/secret.yaml: it leaves the tree", false},
		{map[string]string{"c/Chart.yaml": chart, "c/damaged.yaml": ""}, "c/damaged.yaml: what was fetched is damaged", true},
		{map[string]string{"c/Chart.yaml": chart, "c/secret.yaml": ""}, "c/secret.yaml: it leaves the tree", false},
	} {
		in := Input{FS: &spoilt{tree(c.files)}, Namespace: "shop", Release: "web", Chart: func(helm.Request) (helm.Response, error) { return helm.Response{}, nil }}
		_, p := Render(in)
		if lines(p) != c.want || len(p) != 1 || p[0].Passing != c.passing {
			t.Errorf("%q, passing %t, and not %q", lines(p), len(p) > 0 && p[0].Passing, c.want)
		}
	}
	links := tree(nil)
	links["a.yaml"] = &fstest.MapFile{Data: []byte("b.yaml"), Mode: fs.ModeSymlink | 0o777}
	if _, p := Render(Input{FS: links, Namespace: "shop"}); lines(p) != "a.yaml: a symbolic link that leads nowhere: put the file where it leads to, or take it out" {
		t.Error(lines(p))
	}
}

func thousand() map[string]string {
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("apps/%d.yaml", i)] = app(fmt.Sprintf("app-%d", i)) + "  template:\n    image: registry.example.com/shop/web:1.2.3\n    resources: {cpus: \"0.5\", memory: 256Mi}\n    env:\n    - {name: MODE, value: production}\n    - {name: PORT, value: \"8080\"}\n"
	}
	return files
}

func BenchmarkThousandFiles(b *testing.B) {
	in := Input{FS: tree(thousand()), Namespace: "shop"}
	for b.Loop() {
		if o, p := Render(in); len(o) != 1000 || len(p) > 0 {
			b.Fatal(lines(p))
		}
	}
}

func BenchmarkThousandFilesOneChanged(b *testing.B) {
	files := tree(thousand())
	in := Input{FS: files, Namespace: "shop", Cache: &Cache{}}
	Render(in)
	i := 0
	for b.Loop() {
		i++
		files["apps/500.yaml"] = &fstest.MapFile{Data: []byte(app(fmt.Sprintf("changed-%d", i)))}
		if _, p := Render(in); in.Cache.Parsed() != 1 || len(p) > 0 {
			b.Fatal(in.Cache.Parsed(), lines(p))
		}
	}
}

func fiftyThousand() fstest.MapFS {
	files := fstest.MapFS{}
	for i := range 500 {
		var text strings.Builder
		for j := range 100 {
			text.WriteString("---\n" + app(fmt.Sprintf("app-%d-%d", i, j)))
		}
		files[fmt.Sprintf("apps/%d.yaml", i)] = &fstest.MapFile{Data: []byte(text.String())}
	}
	return files
}

func BenchmarkFiftyThousandObjects(b *testing.B) {
	in := Input{FS: fiftyThousand(), Namespace: "shop"}
	for b.Loop() {
		if o, p := Render(in); len(o) != 50_000 || len(p) > 0 {
			b.Fatal(lines(p))
		}
	}
}

func BenchmarkFiftyThousandObjectsUnchanged(b *testing.B) {
	in := Input{FS: fiftyThousand(), Namespace: "shop", Cache: &Cache{}}
	Render(in)
	for b.Loop() {
		if o, p := Render(in); len(o) != 50_000 || len(p) > 0 || in.Cache.Parsed() > 0 {
			b.Fatal(lines(p))
		}
	}
}

// Whatever is in a file, rendering ends, and what has no problem is an object with a name and a namespace.
func FuzzRender(f *testing.F) {
	f.Add("a.yaml", app("x"), "v")
	f.Add("a.json", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"A","metadata":{"name":"${V}"}}]}`, "v")
	f.Add("a.yaml", testdata(f, "secret.yaml"), "")
	f.Add(".padisignore", "*", "")
	ids := key(f)
	small := Options{Limits: decode.Limits{FileBytes: 1 << 16, Nodes: 5000, Depth: 50}}
	f.Fuzz(func(t *testing.T, name, text, value string) {
		in := Input{FS: fstest.MapFS{name: &fstest.MapFile{Data: []byte(text)}}, Namespace: "shop", Variables: map[string]string{"V": value}, Decrypt: ids, Options: small}
		objects, problems := Render(in)
		for _, o := range objects {
			if o.GetName() == "" || o.GetKind() == "" || o.GetNamespace() != "shop" && !ClusterScoped(o.GroupVersionKind().Group, o.GetKind()) {
				t.Fatalf("%v", o)
			}
		}
		for _, p := range problems {
			if p.Message == "" {
				t.Fatalf("%+v says nothing", p)
			}
		}
	})
}

func BenchmarkThousandResourcesOfKustomize(b *testing.B) {
	files := thousand()
	var k strings.Builder
	k.WriteString("namePrefix: eu-\nresources:\n")
	for i := range 1000 {
		fmt.Fprintf(&k, "- %d.yaml\n", i)
	}
	files["apps/kustomization.yaml"] = k.String()
	m := tree(files)
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			if o, p := Render(Input{FS: m, Namespace: "shop"}); len(o) != 1000 || len(p) > 0 {
				b.Fatal(lines(p))
			}
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		in := Input{FS: m, Namespace: "shop", Cache: &Cache{}}
		Render(in)
		for b.Loop() {
			if _, p := Render(in); len(p) > 0 || in.Cache.Parsed() > 0 {
				b.Fatal(lines(p))
			}
		}
	})
}

// Without a target namespace, objects may be in any, and those that name none are in the default one.
func TestDefaultNamespace(t *testing.T) {
	other := strings.Replace(app("b"), "  name: b", "  name: b\n  namespace: other", 1)
	in := Input{Default: "shop", FS: tree(map[string]string{"a.yaml": app("a"), "b.yaml": other})}
	objects, problems := Render(in)
	if got := names(objects); got != "a.yaml:1 App shop/a\nb.yaml:1 App other/b" || len(problems) > 0 {
		t.Errorf("%s\n%s", got, lines(problems))
	}
	in.Namespace = "shop"
	if _, problems = Render(in); !strings.Contains(lines(problems), "target namespace") {
		t.Error(lines(problems))
	}
}

// What is made of an object is kept in its place, made once, and told apart; what cannot be made is a problem of its line.
func TestMake(t *testing.T) {
	made := 0
	in := Input{FS: tree(map[string]string{"a.yaml": app("a") + "---\n" + app("b")}), Namespace: "shop", Cache: &Cache{},
		Make: func(u *unstructured.Unstructured) (any, error) {
			made++
			if u.GetName() == "bad" {
				return nil, errors.New("is bad: write a good one")
			}
			return "made of " + u.GetName(), nil
		}}
	for range 2 {
		o, p := Render(in)
		if len(p) > 0 || len(o) != 2 || o[1].Made != "made of b" || o[1].Unstructured != nil || made != 2 {
			t.Fatalf("%v after %d: %s", o, made, lines(p))
		}
	}
	in.FS = tree(map[string]string{"a.yaml": app("a") + "---\n" + app("bad"), "b.yaml": app("a")})
	_, p := Render(in)
	if got := lines(p); got != "a.yaml:8: is bad: write a good one\nb.yaml:1: metadata.name: App shop/a is also in a.yaml:1: remove one" {
		t.Error(got)
	}
	in.Make = nil
	if o, _ := Render(in); len(o) != 3 || o[0].Unstructured == nil || o[0].Made != nil {
		t.Errorf("without Make: %v", o)
	}
}
