package render

import (
	"strings"
	"testing"

	"padis.io/padis/api/conceal"
)

// The fields that hold what comes from a Secret are named, whichever way it went there, however short it is, and no others.
func TestFieldsWithSecretsAreNamed(t *testing.T) {
	n := 0
	in := Input{Default: "shop", Release: "r", Chart: charts(&n), Variables: map[string]string{"WORD": "hunter2", "PIN": "47", "NONE": "", "WHO": "me"},
		Secret: map[string]bool{"WORD": true, "PIN": true, "NONE": true}, Decrypt: key(t)}
	config := func(data string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n" + data
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"none", map[string]string{"a.yaml": config("  a: ${WHO}\n  b: ${NONE:-default}\n")}, ""},
		{"a value", map[string]string{"a.yaml": config("  dsn: x:${WORD}@y\n  b: ${WHO}\n")}, `["data.dsn"]`},
		{"a short one, a number and a default", map[string]string{"a.yaml": config("  a: pin ${PIN}\n  b: ${X:-${PIN}}\n  c: \"47\"\n")}, `["data.a","data.b"]`},
		{"items of lists, a key", map[string]string{"a.yaml": app("a") + "  template:\n    command: [run, \"${WORD}\"]\n    env: [{name: A, value: \"${WORD}\"}, {name: B, value: b}]\n    labels: {\"${WORD}\": x}\n"},
			`["spec.template.command","spec.template.env[name=\"A\"].value","spec.template.labels"]`},
		{"a merge", map[string]string{"a.yaml": config("  <<: {a: \"${WORD}\", b: x}\n")}, `["data.a"]`},
		{"a list of objects", map[string]string{"a.yaml": "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a}\n  data: {a: \"${PIN}\", b: x}\n"}, `["data.a"]`},
		{"switched off", map[string]string{"a.yaml": strings.Replace(config("  a: ${WORD}\n"), "{name: a}", "{name: a, annotations: {padis.io/substitute: disabled}}", 1)}, ""},
		{"named by hand", map[string]string{"a.yaml": strings.Replace(config("  a: ${WORD}\n  b: x\n"), "{name: a}", `{name: a, annotations: {padis.io/secret-fields: '["data.b"]'}}`, 1)}, `["data.a","data.b"]`},
		{"a Secret", map[string]string{"a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: \"${WORD}\"}\n"}, ""},
		{"a kustomization", map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": config("  a: ${WORD}\n  b: x\n")}, `["data.a"]`},
		{"a chart", web(map[string]string{"deploy/web/values.yaml": "key: ${WORD}\nreplicas: 1\n", "deploy/web/templates/app.yaml": config("  a: {{ .Values.word | quote }}\n  b: me\n"), "deploy/other.yaml": "# none\n"}), `["data.a"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := in
			in.FS = tree(c.files)
			if c.name == "a chart" {
				in.Path, in.Helm = "deploy/web", &Helm{Values: []byte(`{"word": "${WORD}"}`)}
			}
			objects, problems := Render(in)
			if len(problems) > 0 || len(objects) != 1 {
				t.Fatalf("%d objects, %s", len(objects), lines(problems))
			}
			if got := objects[0].GetAnnotations()[conceal.Annotation]; got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// What sops or age has encrypted in an object that is no Secret is named, too.
func TestDecryptedFieldsAreNamed(t *testing.T) {
	// Its code is of what is encrypted only, so that the kind can be another one.
	thing := strings.Replace(testdata(t, "mac-only.yaml"), "kind: Secret", "kind: Thing", 1)
	const encrypted = `["stringData.password","stringData.port","stringData.text"]`
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"sops", map[string]string{"a.yaml": thing}, encrypted},
		{"sops, a Secret", map[string]string{"a.yaml": testdata(t, "mac-only.yaml")}, ""},
		{"sops, in a kustomization", map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": thing}, encrypted},
		{"age, in a kustomization", map[string]string{"kustomization.yaml": "configMapGenerator: [{name: a, files: [armored.age]}]\n", "armored.age": testdata(t, "armored.age")}, `["data[\"armored.age\"]"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects, problems := Render(Input{FS: tree(c.files), Default: "shop", Decrypt: key(t)})
			if len(problems) > 0 || len(objects) != 1 {
				t.Fatalf("%d objects, %s", len(objects), lines(problems))
			}
			if got := objects[0].GetAnnotations()[conceal.Annotation]; got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
