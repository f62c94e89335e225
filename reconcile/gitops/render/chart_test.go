package render

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"padis.io/padis/api/crds"
	"padis.io/padis/reconcile/gitops/render/helm"
)

func web(more map[string]string) map[string]string {
	files := map[string]string{
		"deploy/web/Chart.yaml":  "apiVersion: v2\nname: web\nversion: 1.0.0\n",
		"deploy/web/values.yaml": "replicas: 1\nkey: chart\n",
		"deploy/web/templates/app.yaml": "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata:\n  name: {{ .Release.Name }}-web\nspec:\n  replicas: {{ .Values.replicas }}\n" +
			"---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n  namespace: {{ .Release.Namespace }}\ndata:\n  key: {{ .Values.key | quote }}\n  script: echo ${HOME}\n",
		"deploy/other.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
	}
	for name, text := range more {
		files[name] = text
	}
	return files
}

// charts renders in this process, and counts.
func charts(n *int) func(helm.Request) (helm.Response, error) {
	return func(req helm.Request) (helm.Response, error) {
		*n++
		return helm.Render(req), nil
	}
}

func TestCharts(t *testing.T) {
	n := 0
	in := Input{FS: tree(web(nil)), Path: "deploy", Namespace: "shop", Release: "eu", Chart: charts(&n), Variables: map[string]string{}}
	objects, problems := Render(in)
	want := "deploy/other.yaml:1 ConfigMap shop/other\ndeploy/web/templates/app.yaml:0 App shop/eu-web\ndeploy/web/templates/app.yaml:0 ConfigMap shop/eu"
	if len(problems) > 0 || names(objects) != want {
		t.Fatalf("%s\n%s", lines(problems), names(objects))
	}
	if got := objects[2].Object["data"]; !reflect.DeepEqual(got, map[string]any{"key": "chart", "script": "echo ${HOME}"}) {
		t.Errorf("%v", got)
	}
	if got := objects[1].Object["spec"]; !reflect.DeepEqual(got, map[string]any{"replicas": int64(1)}) {
		t.Errorf("%v", got)
	}
}

// Values of the Sync win over files, later files over earlier ones, and all over the chart; secrets come from variables and sops.
func TestValues(t *testing.T) {
	n := 0
	files := web(map[string]string{"envs/a.yaml": "replicas: 2\nkey: a\n", "envs/b.yaml": "key: b-${WHO}\n", "envs/sealed.yaml": testdata(t, "secret.yaml"),
		"deploy/web/templates/sealed.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: sealed}\nstringData: {{ .Values.stringData | toJson }}\n"})
	in := Input{FS: tree(files), Path: "deploy/web", Namespace: "shop", Release: "eu", Chart: charts(&n), Variables: map[string]string{"WHO": "me", "N": "7"}, Decrypt: key(t)}
	for _, c := range []struct {
		helm     Helm
		replicas int64
		key      any
	}{
		{Helm{ValuesFiles: []string{"envs/a.yaml"}}, 2, "a"},
		{Helm{ValuesFiles: []string{"envs/a.yaml", "envs/b.yaml"}}, 2, "b-me"},
		{Helm{ValuesFiles: []string{"envs/b.yaml", "envs/a.yaml", "envs/sealed.yaml"}, Values: []byte(`{"replicas": "${N}", "key": null}`)}, 7, nil},
	} {
		in.Helm = &c.helm
		objects, problems := Render(in)
		if len(problems) > 0 || len(objects) != 3 {
			t.Errorf("%v: %s", c.helm, lines(problems))
			continue
		}
		if s := objects[0].Object["spec"].(map[string]any)["replicas"]; s != c.replicas {
			t.Errorf("%v: %v replicas", c.helm, s)
		}
		if s := objects[1].Object["data"].(map[string]any)["key"]; s != c.key {
			t.Errorf("%v: %v", c.helm, s)
		}
	}
	in.Helm.ValuesFiles = []string{"envs/sealed.yaml"}
	if objects, _ := Render(in); len(objects) != 3 || !strings.Contains(fmt.Sprint(objects[2].Object["stringData"]), "correct horse") {
		t.Errorf("%v", objects)
	}
}

func TestChartProblems(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		edit  func(*Input)
		want  string
	}{
		"nobody renders":    {nil, func(in *Input) { in.Chart = nil }, "deploy/web/Chart.yaml: Helm charts are not rendered here: commit what `helm template` prints"},
		"no chart":          {nil, func(in *Input) { in.Path, in.Helm = "deploy", &Helm{} }, "deploy: spec.helm is set, and there is no Chart.yaml"},
		"a file":            {nil, func(in *Input) { in.Path, in.Helm = "deploy/other.yaml", &Helm{} }, "spec.helm is set, and there is no Chart.yaml"},
		"no values":         {nil, func(in *Input) { in.Path, in.Helm = "deploy/web", &Helm{ValuesFiles: []string{"x.yaml"}} }, "x.yaml: not in the source: mend spec.helm.valuesFiles"},
		"broken values":     {map[string]string{"x.yaml": "a: 1\nb: [\n"}, func(in *Input) { in.Path, in.Helm = "deploy/web", &Helm{ValuesFiles: []string{"x.yaml"}} }, "x.yaml:2: not valid YAML"},
		"a list":            {map[string]string{"x.yaml": "- a\n"}, func(in *Input) { in.Path, in.Helm = "deploy/web", &Helm{ValuesFiles: []string{"x.yaml"}} }, "x.yaml:1: not a mapping"},
		"no variable":       {nil, func(in *Input) { in.Path, in.Helm = "deploy/web", &Helm{Values: []byte(`{"a":{"b":"${NO}"}}`)} }, "spec.helm.values: a.b: "},
		"no key":            {map[string]string{"x.yaml": testdata(t, "secret.yaml")}, func(in *Input) { in.Path, in.Helm = "deploy/web", &Helm{ValuesFiles: []string{"x.yaml"}} }, "x.yaml: "},
		"encrypted values":  {map[string]string{"deploy/web/values.yaml": testdata(t, "secret.yaml")}, nil, "deploy/web/values.yaml: encrypted by sops: only what spec.helm.valuesFiles names"},
		"broken defaults":   {map[string]string{"deploy/web/values.yaml": "a: 1\nb: [\n"}, nil, "deploy/web/values.yaml:2: not valid YAML"},
		"broken Chart.yaml": {map[string]string{"deploy/web/Chart.yaml": "a: 1\nb: [\n"}, nil, "deploy/web/Chart.yaml:2: not valid YAML"},
		"a broken template": {map[string]string{"deploy/web/templates/b.yaml": "a: 1\n\n{{ if }}\n"}, nil, "deploy/web/templates/b.yaml:3: not a template that helm can read"},
		"broken YAML":       {map[string]string{"deploy/web/templates/b.yaml": "a: 1\n{{ \"b: [\" }}\n"}, nil, "deploy/web/templates/b.yaml: not valid YAML"},
		"no object":         {map[string]string{"deploy/web/templates/b.yaml": "a: 1\n---\nb: 1\n"}, nil, "deploy/web/templates/b.yaml: apiVersion: missing, or not a string: a manifest says what it is; what is none belongs into .padisignore (line 1 of what it renders)"},
		"a key twice":       {map[string]string{"deploy/web/templates/b.yaml": "apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: 1\nx: 2\n"}, nil, "x: the key is there twice"},
		"a namespace":       {map[string]string{"deploy/web/templates/b.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: other}\n"}, nil, "metadata.namespace: \"other\" is not the Sync's target namespace"},
		"an object twice":   {map[string]string{"deploy/web/templates/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n"}, nil, "ConfigMap shop/other is also in deploy/other.yaml:1: remove one"},
		"a hook":            {map[string]string{"deploy/web/templates/b.yaml": "apiVersion: v1\nkind: Job\nmetadata: {name: a, annotations: {helm.sh/hook: 'pre-install,test'}}\n"}, nil, "deploy/web/templates/b.yaml: metadata.annotations[helm.sh/hook]: hooks are not run"},
		"a long name":       {nil, func(in *Input) { in.Release = strings.Repeat("x", 54) }, "set spec.helm.releaseName"},
		"bad ignore":        {map[string]string{"deploy/web/.helmignore": "a/**\n"}, nil, "deploy/web/.helmignore: a line that helm does not understand"},
		"many files":        {nil, func(in *Input) { in.Options.Files = 2 }, "more than 2 files: split it into several Syncs, or ignore some in .helmignore"},
		"a large file":      {map[string]string{"deploy/web/x.bin": strings.Repeat("x", 5000)}, func(in *Input) { in.Options.FileBytes = 4000 }, "deploy/web/x.bin: the file has more than 4000 bytes: split it, or add it to .helmignore"},
		"death":             {nil, func(in *Input) { in.Chart = dies(&helm.Death{Message: "too much memory"}) }, "deploy/web/Chart.yaml: too much memory"},
	} {
		n := 0
		in := Input{FS: tree(web(c.files)), Path: "deploy", Namespace: "shop", Release: "eu", Chart: charts(&n), Variables: map[string]string{"A": "b"}}
		if c.edit != nil {
			c.edit(&in)
		}
		_, problems := Render(in)
		if len(problems) == 0 || !strings.Contains(lines(problems), c.want) || problems[0].Passing {
			t.Errorf("%s:\n%s\nwant %s", name, lines(problems), c.want)
		}
	}
}

func dies(err error) func(helm.Request) (helm.Response, error) {
	return func(helm.Request) (helm.Response, error) { return helm.Response{}, err }
}

// What helm's people expect: tests are left out, and what is to be kept is kept.
func TestAnnotationsOfHelm(t *testing.T) {
	n := 0
	files := web(map[string]string{
		"deploy/web/templates/tests/a.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {helm.sh/hook: test-success}}\n",
		"deploy/web/templates/keep.yaml":    "apiVersion: v1\nkind: Secret\nmetadata: {name: a, annotations: {helm.sh/resource-policy: keep}}\n",
		"deploy/web/templates/.swp":         "x", "deploy/web/docs/a.yaml": "{{", "deploy/web/.helmignore": "docs/\n", "deploy/web/templates/NOTES.txt": "Hello",
	})
	objects, problems := Render(Input{FS: tree(files), Path: "deploy/web", Namespace: "shop", Release: "eu", Chart: charts(&n)})
	if len(problems) > 0 || len(objects) != 3 {
		t.Fatalf("%s\n%s", lines(problems), names(objects))
	}
	if a := objects[2].GetAnnotations(); a["padis.io/prune"] != "disabled" {
		t.Errorf("%v", a)
	}
}

// A chart says in its own words what it does not like, and must not tell secrets by them.
func TestChartsTellNoSecrets(t *testing.T) {
	n := 0
	files := web(map[string]string{"deploy/web/templates/b.yaml": "{{ fail (printf \"bad password %s, and %s\" .Values.password (.Values.stringData | toJson)) }}", "sealed.yaml": testdata(t, "secret.yaml")})
	in := Input{FS: tree(files), Path: "deploy/web", Namespace: "shop", Release: "eu", Chart: charts(&n), Variables: map[string]string{"P": "hunter2"}, Decrypt: key(t),
		Helm: &Helm{Values: []byte(`{"password":"x${P}"}`), ValuesFiles: []string{"sealed.yaml"}}}
	_, problems := Render(in)
	if len(problems) != 1 || !strings.Contains(lines(problems), "bad password x(secret), and") || strings.Contains(lines(problems), "horse") {
		t.Errorf("%s", lines(problems))
	}
}

// A chart is rendered again when something of it has changed, and only then.
func TestChartCache(t *testing.T) {
	n := 0
	files := tree(web(map[string]string{"v.yaml": "key: v\n"}))
	in := Input{FS: files, Path: "deploy/web", Namespace: "shop", Release: "eu", Chart: charts(&n), Helm: &Helm{ValuesFiles: []string{"v.yaml"}}, Cache: &Cache{}}
	first, problems := Render(in)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	files["deploy/other.yaml"].Data, files["deploy/web/.helmignore"] = []byte("x"), tree(map[string]string{"x": "*.bak\n"})["x"]
	files["deploy/web/x.bak"] = files["v.yaml"]
	in.Helm = &Helm{ValuesFiles: []string{"v.yaml"}}
	for range 2 { // the ignore file is a file of the chart
		Render(in)
	}
	files["deploy/web/x.bak"] = files["deploy/other.yaml"]
	again, _ := Render(in)
	if n != 2 || names(first) != names(again) || in.Cache.Parsed() != 0 {
		t.Errorf("rendered %d times, %d parsed", n, in.Cache.Parsed())
	}
	for i, change := range []func(){
		func() { files["v.yaml"].Data = []byte("key: w\n") },
		func() { files["deploy/web/templates/app.yaml"].Data = []byte("# nothing\n") },
		func() { in.Release = "us" },
		func() { in.Helm = &Helm{Values: []byte("{}")} },
		func() { in.Helm = nil },
		func() { in.Variables = map[string]string{} },
	} {
		before := n
		change()
		Render(in)
		Render(in)
		if n != before+1 {
			t.Errorf("after change %d, rendered %d times", i, n-before)
		}
	}
	// What may be gone another time is tried again.
	in.Chart = func(helm.Request) (helm.Response, error) {
		n++
		return helm.Response{}, errors.New("no process")
	}
	in.Cache, n = &Cache{}, 0
	for range 2 {
		if _, problems := Render(in); len(problems) != 1 || !problems[0].Passing {
			t.Fatal(lines(problems))
		}
	}
	in.Chart = func(helm.Request) (helm.Response, error) {
		n++
		return helm.Response{}, &helm.Death{Message: "too much"}
	}
	for range 2 {
		if _, problems := Render(in); len(problems) != 1 || problems[0].Passing {
			t.Fatal(lines(problems))
		}
	}
	if n != 3 {
		t.Errorf("tried %d times", n)
	}
}

// What templates are told to be served is what the definitions say.
func TestAPIVersions(t *testing.T) {
	served := APIVersions()
	entries, err := crds.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		data, err := crds.Files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Group    string                  `json:"group"`
				Names    struct{ Kind string }   `json:"names"`
				Versions []struct{ Name string } `json:"versions"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatal(err)
		}
		if crd.Spec.Group != "padis.io" {
			continue
		}
		n++
		if v := crd.Spec.Group + "/" + crd.Spec.Versions[0].Name + "/" + crd.Spec.Names.Kind; !slices.Contains(served, v) {
			t.Errorf("%s is served, and templates are not told", v)
		}
	}
	in := slices.DeleteFunc(served, func(v string) bool { return !strings.HasPrefix(v, "padis.io/v1alpha1/") })
	if len(in) != n {
		t.Errorf("%d kinds are told, %d are there", len(in), n)
	}
}
