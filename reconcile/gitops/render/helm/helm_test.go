package helm

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	kubectl "sigs.k8s.io/yaml"
)

// shop is the chart in testdata, with values.
func shop(t testing.TB, values ...string) Request {
	t.Helper()
	req := Request{Release: "eu", Namespace: "berlin", APIVersions: []string{"v1", "padis.io/v1alpha1", "padis.io/v1alpha1/LoadBalancer"}}
	for _, v := range values {
		data, err := kubectl.YAMLToJSON([]byte(v))
		if err != nil {
			t.Fatal(err)
		}
		req.Values = append(req.Values, data)
	}
	dir := os.DirFS("testdata/shop")
	err := fs.WalkDir(dir, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(dir, name)
		req.Files = append(req.Files, File{name, data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// small is a chart of one template.
func small(template, values string) Request {
	return Request{Release: "eu", Namespace: "berlin", Files: []File{{"Chart.yaml", []byte("apiVersion: v2\nname: web\nversion: 1.0.0\n")},
		{"templates/a.yaml", []byte(template)}, {"values.yaml", []byte(values)}}}
}

func text(t testing.TB, res Response) string {
	t.Helper()
	var out strings.Builder
	for _, f := range res.Files {
		fmt.Fprintf(&out, "---\n# Source: shop/%s\n%s\n", f.Name, f.Data)
	}
	for _, p := range res.Problems {
		fmt.Fprintf(&out, "%s:%d: %s: %s\n", p.File, p.Line, p.Field, p.Message)
	}
	return out.String()
}

// objects are the documents of a text by the file they are from, kind and name.
func objects(t testing.TB, text string) map[string]any {
	t.Helper()
	out := map[string]any{}
	source := ""
	for part := range strings.SplitSeq("\n"+text, "\n---") {
		for l := range strings.Lines(part) {
			if name, ok := strings.CutPrefix(l, "# Source: "); ok {
				source = strings.TrimSpace(name)
			}
		}
		var m map[string]any
		if err := yaml.Unmarshal([]byte(part), &m); err != nil {
			t.Fatalf("%v\n%s", err, part)
		}
		if m == nil || strings.Contains(source, "/tests/") { // left out where the annotation is read
			continue
		}
		meta, _ := m["metadata"].(map[string]any)
		out[fmt.Sprint(source, " ", m["kind"], " ", meta["name"])] = m
	}
	return out
}

// The golden files are what helm itself printed; testdata/generate says how.
func TestAsHelmTemplate(t *testing.T) {
	eu, err := os.ReadFile("testdata/values-eu.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for golden, values := range map[string][]string{
		"plain.yaml":    nil,
		"eu.yaml":       {string(eu)},
		"uncached.yaml": {string(eu), "cache: {enabled: false}\nimage: {tag: '9'}\n"},
	} {
		want, err := os.ReadFile("testdata/" + golden)
		if err != nil {
			t.Fatal(err)
		}
		res := Render(shop(t, values...))
		if len(res.Problems) > 0 {
			t.Errorf("%s: %s", golden, text(t, res))
			continue
		}
		got, expected := objects(t, text(t, res)), objects(t, string(want))
		if len(expected) < 4 {
			t.Errorf("%s has only %d objects", golden, len(expected))
		}
		for k, o := range expected {
			if !reflect.DeepEqual(got[k], o) {
				t.Errorf("%s: %s: %v, helm has %v", golden, k, got[k], o)
			}
		}
		if len(got) != len(expected) {
			t.Errorf("%s: %d objects, helm has %d", golden, len(got), len(expected))
		}
	}
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(r *Request)
		want string
	}{
		"fail":          {add("templates/b.yaml", "a: 1\n{{ fail \"choose a tier\" }}\n"), "templates/b.yaml:2: : choose a tier"},
		"required":      {add("templates/b.yaml", "a: {{ required \"set host\" .Values.host }}\n"), "templates/b.yaml:1: : set host"},
		"in a helper":   {add("templates/b.yaml", "{{ define \"x\" }}\n{{ .Values.no.such.thing }}{{ end }}\na: {{ include \"x\" . }}\n"), "templates/b.yaml:3: : <.Values.no.such.thing>: nil pointer evaluating interface {}.such (in templates/b.yaml:2)"},
		"syntax":        {add("templates/b.yaml", "a: 1\nb: {{ if }}\n"), "templates/b.yaml:2: : not a template that helm can read: missing value for if"},
		"no function":   {add("templates/b.yaml", "{{ env \"HOME\" }}"), "templates/b.yaml:1: : not a template that helm can read: function \"env\" not defined"},
		"no template":   {add("templates/b.yaml", "{{ include \"nope\" . }}"), "templates/b.yaml:1: : "},
		"of a subchart": {add("charts/cache/templates/b.yaml", "{{ fail \"no\" }}"), "charts/cache/templates/b.yaml:1: : no"},
		"a dependency":  {set("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n- name: cache\n- name: queue\n  repository: https://x\n"), "Chart.yaml:6: dependencies[1]: the chart queue is not in charts/, and nothing is fetched: run `helm dependency build` and commit charts/"},
		"old": {func(r *Request) {
			set("Chart.yaml", "apiVersion: v1\nname: shop\nversion: 1.0.0\n")(r)
			add("requirements.yaml", "dependencies:\n- name: queue\n")(r)
		}, "requirements.yaml:2: dependencies[0]"},
		"definitions":  {add("crds/a.yaml", "kind: CustomResourceDefinition\n"), "crds/a.yaml:0: : Padis serves no custom resource definitions"},
		"too new":      {set("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\nkubeVersion: \">=9\"\n"), "Chart.yaml:4: : kubeVersion: "},
		"a library":    {set("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\ntype: library\n"), "Chart.yaml:4: : type: a library chart"},
		"a version":    {set("Chart.yaml", "apiVersion: v9\nname: shop\nversion: 1.0.0\n"), "apiVersion"},
		"no chart":     {set("Chart.yaml", "hello"), "Chart.yaml:0: : not a chart"},
		"nothing":      {func(r *Request) { r.Files = nil }, "Chart.yaml"},
		"schema":       {func(r *Request) { r.Values = [][]byte{[]byte(`{"tiers":{"front":{"replicas":"hunter2"}}}`)} }, "values.schema.json:0: values.tiers.front.replicas: got string, want integer"},
		"a pattern":    {func(r *Request) { r.Values = [][]byte{[]byte(`{"password":"HUNTER2"}`)} }, "values.password: (not shown) does not match pattern '^[a-z0-9]*$'"},
		"one of":       {func(r *Request) { r.Values = [][]byte{[]byte(`{"mode":"hunter2"}`)} }, "values.mode: value must be one of 'fast', 'safe'"},
		"a far schema": {set("values.schema.json", `{"$ref": "https://127.0.0.1:1/x.json"}`), "nothing is fetched"},
		"a file":       {set("values.schema.json", `{"$ref": "file:///etc/passwd"}`), "nothing is fetched"},
		"no archive":   {add("charts/x-1.tgz", "hunter2"), "charts/x-1.tgz:0: : not a chart that helm can read"},
		"a value":      {func(r *Request) { r.Values = [][]byte{[]byte(`{"cache":"hunter2"}`)} }, "type mismatch on cache: (not shown)"},
	} {
		req := shop(t)
		c.edit(&req)
		res := Render(req)
		if got := text(t, res); len(res.Problems) == 0 || len(res.Files) > 0 || !strings.Contains(got, c.want) || strings.Contains(strings.ToLower(got), "hunter2") || strings.Contains(got, "root:") {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func add(name, text string) func(*Request) {
	return func(r *Request) { r.Files = append(r.Files, File{name, []byte(text)}) }
}

func set(name, text string) func(*Request) {
	return func(r *Request) {
		for i := range r.Files {
			if r.Files[i].Name == name {
				r.Files[i].Data = []byte(text)
			}
		}
	}
}

// What another rendering would give differently is refused, what only looks so is not.
func TestTimeAndChance(t *testing.T) {
	const refused = "changes each time"
	for template, want := range map[string]string{
		"a: {{ randAlphaNum 1 }}": refused, "a: {{ randAlpha 1 }}": refused, "a: {{ randNumeric 1 }}": refused, "a: {{ randAscii 1 }}": refused, "a: {{ randBytes 1 }}": refused,
		"a: {{ randInt 0 2 }}": refused, "a: {{ shuffle \"ab\" }}": refused, "a: {{ uuidv4 }}": refused,
		"a: {{ now | date \"2006\" }}": refused, "a: {{ now | unixEpoch }}": refused, "a: {{ date \"02\" \"no date\" }}": refused, "a: {{ htmlDate now }}": refused, "a: {{ ago (toDate \"2006\" \"2001\") }}": refused,
		"a: {{ dateInZone \"15\" (now) \"Europe/Berlin\" }}": refused, "a: {{ now | durationRound }}": "", "a: {{ durationRound \"2h3m\" }}": "", "a: {{ dateInZone \"15:04\" (toDate \"2006-01-02\" \"2001-02-03\") \"UTC\" }}": "",
		"a: {{ htpasswd \"a\" \"b\" }}": refused, "a: {{ bcrypt \"a\" }}": refused, "a: {{ genPrivateKey \"rsa\" | b64enc }}": refused, "a: {{ encryptAES \"k\" \"v\" }}": refused,
		"{{ $ca := genCA \"x\" 365 }}{{ $c := genSignedCert \"x\" nil nil 1 $ca }}a: {{ $c.Cert | b64enc }}": refused,
		"a: {{ .Values.password | default (randAlphaNum 10) }}":                                              "", // it is set
		"{{ $x := uuidv4 }}a: {{ len (randAlphaNum 5) }}":                                                    "",
		"a: {{ .Values.many | keys }} {{ .Values.many | values }} {{ .Values.many }}":                        "",
		"{{ if gt (int (now | date \"2006\")) 3 }}a: 1{{ end }}":                                             "",
		"a: {{ derivePassword 1 \"long\" \"p\" \"u\" \"s\" }}":                                               "",
	} {
		res := Render(small(template, "password: x\nmany: {a: 1, b: 2, c: 3, d: 4, e: 5}\n"))
		if got := text(t, res); want == "" && len(res.Problems) > 0 || want != "" && (len(res.Problems) == 0 || !strings.Contains(got, want) || !strings.HasPrefix(got, "templates/a.yaml:0")) {
			t.Errorf("%s: %s", template, got)
		}
	}
	res := Render(small("a: 1\nb: 2\nc: {{ uuidv4 }}\n", ""))
	if len(res.Problems) != 1 || !strings.Contains(res.Problems[0].Message, "line 3 of what it renders") || !strings.Contains(res.Problems[0].Message, "spec.helm.values") {
		t.Errorf("%+v", res)
	}
}

// Messages of libraries quote what they were given.
func TestMessagesTellNoValues(t *testing.T) {
	for _, template := range []string{
		"{{ range .Values.secret }}{{ end }}",
		"{{ .Values.secret | mustToDate \"2006\" }}",
		"{{ mustToDate \"2006\" .Values.secret }}",
		"{{ tpl .Values.template . }}",
		"{{ tpl .Values.broken . }}",
		"{{ include .Values.secret . }}",
		"{{ mustRegexMatch .Values.regex \"a\" }}",
		"{{ semver .Values.secret }}",
		"{{ mustFromJson .Values.secret }}",
		"{{ index .Values.list .Values.secret }}",
		"{{ .Values.secret.deeper }}",
		"{{ index .Values .Values.secret .Values.secret }}",
		"{{ add1 .Values.secret | fail }}{{ len 1 }}",
		"{{ mustToDuration .Values.secret }}",
		"{{ addf .Values.secret 1 }}",
		"{{ template \"x\" . }}{{ define \"x\" }}{{ tpl .Values.template . }}{{ end }}",
		"{{ urlParse .Values.url }}",
		"{{ b64dec .Values.secret | fromYaml | index \"x\" }}",
		"{{ slice .Values.secret 100 }}",
		"{{ decryptAES .Values.secret .Values.secret }}",
		"{{ buildCustomCert .Values.secret .Values.secret }}",
	} {
		values := "secret: hunter2\ntemplate: '{{ hunter2 }}'\nbroken: '{{ fail \"x\" }}{{ .hunter2.a.b }}'\nregex: 'hunter2('\nlist: [1]\nurl: 'http://hunter2:%zz@h'\n"
		res := Render(small(template, values))
		if got := text(t, res); strings.Contains(got, "hunter2") && len(res.Problems) > 0 {
			t.Errorf("%s: %s", template, got)
		}
	}
}

func TestIgnore(t *testing.T) {
	i, err := ParseIgnore([]byte("*.bak\n/top.txt\ndocs/\n# text\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a.bak": true, "x/a.bak": true, "top.txt": true, "x/top.txt": false, "templates/.swp": true, "templates/a.yaml": false} {
		if i.Match(name, false) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if !i.Match("docs", true) || i.Match("docs", false) {
		t.Error("docs/ is for directories")
	}
	if _, err := ParseIgnore([]byte("a/**\n")); err == nil {
		t.Error("** passes")
	}
}

// Equal charts give equal results, whatever they are, and no panic.
func FuzzRender(f *testing.F) {
	f.Add("a: {{ .Values.x | quote }}", "x: 1\n", `{"x":2}`)
	f.Add("{{ range $k, $v := .Values }}{{ $k }}: {{ tpl $v $ }}\n{{ end }}", "x: '{{ .Release.Name }}'\n", "{}")
	f.Add("{{ define \"a\" }}{{ end }}{{ include \"a\" . | nindent 2 }}{{ fail \"x\" }}", "global: {}\n", "null")
	f.Fuzz(func(t *testing.T, template, values, more string) {
		for _, costly := range []string{"range", "repeat", "indent", "until", "seq", "template", "include", "derive", "%"} {
			if strings.Contains(template+values+more, costly) && len(template) > 100 {
				t.Skip() // bounds are the child's
			}
		}
		req := small(template, values)
		req.Values = [][]byte{[]byte(more)}
		a := Render(req)
		if len(a.Files) > 0 && len(a.Problems) > 0 {
			t.Fatal("files and problems")
		}
		if b := Render(req); !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\nand then\n%+v", a, b)
		}
	})
}

// A document is read as it was written, or not at all.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"files":[{"name":"Chart.yaml","data":"eA=="}],"values":["e30="],"release":"a","namespace":"b"}`))
	f.Add([]byte(`{"problems":[{"file":"a","line":1,"message":"x"}]}`))
	f.Add([]byte(`{} {}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := Read[Request](bytes.NewReader(data), 64); err == nil && len(data) > 64 {
			t.Fatal("too large, and read")
		}
		_, _ = Read[Response](bytes.NewReader(data), 1<<20)
	})
}

func TestRead(t *testing.T) {
	for _, bad := range []string{"", "{", "[]", `{"x":1}`, `{"files":[]} x`, `{"files":[{"data":"*"}]}`, `{"release":"` + strings.Repeat("x", 100) + `"}`} {
		if _, err := Read[Request](strings.NewReader(bad), 100); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}
