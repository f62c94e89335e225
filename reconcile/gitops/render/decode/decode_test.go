package decode

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
	kubectl "sigs.k8s.io/yaml"
)

func one(t testing.TB, name, text string) any {
	t.Helper()
	docs, err := Documents(name, []byte(text), Defaults)
	if err != nil || len(docs) != 1 {
		t.Fatalf("%q: %d documents, %v", text, len(docs), err)
	}
	v, err := Value(docs[0], Defaults, nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// asKubectl is what kubectl would send for a document.
func asKubectl(text string) (any, error) {
	data, err := kubectl.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, err
	}
	var v any
	err = json.Unmarshal(data, &v)
	return v, err
}

// plainJSON makes numbers comparable.
func plainJSON(t testing.TB, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestScalarsAreWhatKubectlTakesThemFor(t *testing.T) {
	for _, s := range []string{
		"1", "-1", "+1", "0", "0644", "0x1F", "0b11", "1_000", "1.10", "1e3", "-0.5", ".5", "9223372036854775807", "18446744073709551615", "123456789012345678901234567890",
		"true", "True", "TRUE", "false", "yes", "Yes", "no", "on", "off", "OFF", "y", "n", "Y", "N", "~", "null", "Null", "",
		"text", "'yes'", `"1"`, `"a\nb"`, "2001-01-01", "2001-01-01T10:00:00Z", "12:30", "12:30:45", "1.2.3", "10.0.0.1/24", "!!str 5", "!!str yes", "!!int \"5\"", "!!float 5", "!!binary aGVsbG8=",
		"|\n  two\n  lines\n", ">\n  fol\n  ded\n", "[1, a, {b: c}]", "{a: 1, b: [x]}", "[]", "{}", "=", "a: b", "1: x", "true: x", "yes: x", "1.5: x",
		"&a {x: 1}", "- &a {x: 1}\n- *a", "- &a {x: 1, y: 2}\n- {<<: *a, y: 3}", "- &a {x: 1}\n- &b {x: 2, z: 3}\n- {<<: [*a, *b]}",
	} {
		text := "v: " + s
		if strings.Contains(s, "\n-") {
			text = s
		}
		want, err := asKubectl(text)
		if err != nil {
			t.Logf("kubectl refuses %q: %v", text, err)
			continue
		}
		if strings.Contains(text, ": x") || s == "a: b" {
			text, want = s, mustKubectl(t, s)
		}
		if got := plainJSON(t, one(t, "f.yaml", text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %#v, kubectl has %#v", text, got, want)
		}
	}
}

func mustKubectl(t *testing.T, text string) any {
	t.Helper()
	v, err := asKubectl(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNumbersAreInt64OrFloat64(t *testing.T) {
	for _, name := range []string{"f.yaml", "f.json"} {
		got := one(t, name, `{"a": 1, "b": 1.5, "c": 18446744073709551615, "d": -3, "e": 1e2}`)
		want := map[string]any{"a": int64(1), "b": 1.5, "c": 18446744073709551615.0, "d": int64(-3), "e": 100.0}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v", name, got)
		}
	}
}

func TestJSON(t *testing.T) {
	got := one(t, "f.json", "{\t\"smile\": \"\\ud83d\\ude00\", \"path\": \"a\\/b\", \"none\": null, \"on\": \"yes\", \"l\": [true]}")
	want := map[string]any{"smile": "😀", "path": "a/b", "none": nil, "on": "yes", "l": []any{true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%#v", got)
	}
	docs, err := Documents("f.json", []byte("{\"a\":1}\n\n{\"b\":2}\nnull"), Defaults)
	if err != nil || len(docs) != 2 || docs[0].Line != 1 || docs[1].Line != 3 {
		t.Errorf("%v, %v", docs, err)
	}
}

func TestErrorsNameLineAndFieldAndNoValue(t *testing.T) {
	for _, c := range []struct {
		name, text string
		line       int
		want       string
	}{
		{"f.yaml", "a: 1\nb:\n  c: 1\n  c: hidden\n", 4, "b.c: the key is there twice"},
		{"f.yaml", "a: 1\nb: [1, {c: .nan}]\n", 2, "b[1].c: a number that JSON cannot hold"},
		{"f.yaml", "a: !hidden x\n", 1, "a: the tag"},
		{"f.yaml", "a: ENC[AES256_GCM,data:hidden,iv:x,tag:y,type:str]\n", 1, "a: still encrypted by sops"},
		{"f.yaml", "a: {{ hidden }}\n", 1, "a key must be a string"},
		{"f.yaml", "a: [\n", 1, "not valid YAML"},
		{"f.yaml", "ok: 1\n---\na: b: hidden\n", 3, "not valid YAML"},
		{"f.yaml", "b: c\na: *nowhere\n", -1, "unknown anchor"},
		{"f.yaml", "a: &x [*x]\n", 1, "nested deeper"},
		{"f.yaml", "<<: hidden\n", 1, "only mappings can be merged"},
		{"f.yaml", "a: !!binary \"*\"\n", 1, "not base64"},
		{"f.json", "{\"a\": 1,\n\"a\": \"hidden\"}", 2, "a: the key is there twice"},
		{"f.json", "{\n\"a\": \"hidden\" x}", 2, "not valid JSON"},
		{"f.yaml", "a: [x", 1, "not valid YAML: did not find expected ',' or ']'"},
		{"f.yaml", "a: x\nb: \"\xff\xfe\"\n", 2, "save the file as UTF-8"},
		{"f.yaml", "a: x\nb: y\nc: \x01\n", 3, "save the file as UTF-8"},
		{"f.json", "{\n\"a\": 1\n", 2, "ends too early"},
		{"f.json", strings.Repeat("[", 200), 1, "nested deeper"},
		{"f.yaml", strings.Repeat("[", 200) + strings.Repeat("]", 200), 1, "nested deeper"},
		{"f.yaml", "a: " + strings.Repeat("x", 4<<20), 1, "more than 3145728 bytes"},
		{"f.yaml", "a: [" + strings.Repeat("1,", 300_000) + "]", 1, "more than 200000 values"},
		{"f.yaml", strings.Repeat("#", 11<<20), 0, "the file has 11534336 bytes"},
	} {
		short := c.text[:min(len(c.text), 40)]
		docs, err := Documents(c.name, []byte(c.text), Defaults)
		for i := 0; err == nil && i < len(docs); i++ {
			_, err = Value(docs[i], Defaults, nil)
		}
		if err == nil {
			t.Errorf("%q passes", short)
			continue
		}
		if err.Line != max(c.line, 0) && c.line != 0 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: line %d: %v, want line %d: %s", short, err.Line, err, c.line, c.want)
		}
		if strings.Contains(err.Error(), "hidden") && !strings.Contains(c.text, "!hidden") {
			t.Errorf("%q: the message tells a value: %v", short, err)
		}
	}
}

func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

func TestAliasBomb(t *testing.T) {
	docs, err := Documents("bomb.yaml", []byte(bomb()), Defaults)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Value(docs[0], Defaults, nil); err == nil || !strings.Contains(err.Error(), "with its aliases expanded") {
		t.Errorf("Value: %v", err)
	}
	if err := Bounded(docs[0], Defaults); err == nil {
		t.Error("Bounded lets it pass")
	}
	big := "a: &a " + strings.Repeat("x", 1<<20) + "\nb: [*a, *a, *a]\n"
	docs, err = Documents("big.yaml", []byte(big), Defaults)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Value(docs[0], Defaults, nil); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("four MiB: %v", err)
	}
}

func TestSubstitutionKeepsTheTree(t *testing.T) {
	values := map[string]string{"${N}": "3", "${YES}": "yes", "${EVIL}": "x\nkind: Other", "${K}": "key", "${EMPTY}": ""}
	sub := func(s string) (string, error) {
		for k, v := range values {
			s = strings.ReplaceAll(s, k, v)
		}
		return s, nil
	}
	docs, err := Documents("f.yaml", []byte("num: ${N}\nquoted: \"${N}\"\nyes: ${YES}\nevil: ${EVIL}\n${K}: 1\nempty: ${EMPTY}\nfolded: >-\n  ${N}\n"), Defaults)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Value(docs[0], Defaults, sub)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"num": int64(3), "quoted": "3", "true": true, "evil": "x\nkind: Other", "key": int64(1), "empty": nil, "folded": "3"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%#v", got)
	}
}

// What the writer of YAML writes is read again as it was.
func TestRoundTrip(t *testing.T) {
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.Bool(), box[bool]), rapid.Map(rapid.Int64(), box[int64]), rapid.Map(rapid.StringMatching(`([!-~][ -~\n]{0,12})?`), box[string]))
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.Map(rapid.SliceOfN(leaf, 0, 4), box[[]any])
		tree := rapid.MapOfN(rapid.StringMatching(`[a-z0-9./-]{1,8}`), rapid.OneOf(leaf, list), 1, 6).Draw(t, "tree")
		for name, marshal := range map[string]func(any) ([]byte, error){"f.yaml": yaml.Marshal, "f.json": json.Marshal} {
			data, err := marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			docs, e := Documents(name, data, Defaults)
			if e != nil {
				t.Fatalf("%s: %v", data, e)
			}
			got, e := Value(docs[0], Defaults, nil)
			if e != nil || !reflect.DeepEqual(got, any(tree)) {
				t.Fatalf("%s: %#v, %v", data, got, e)
			}
		}
	})
}

func box[T any](v T) any { return v }

// Whatever it is given, the decoder ends, keeps to its limits, and agrees with kubectl where both take a document.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"a: 1\nb: [x, {y: ~}]\n---\nc: |\n  d\n", "{\"a\": [1, 2.5, null]}", "- &a {x: 1}\n- {<<: *a}", "a: !!binary aGk=", "? [a]\n: b", "a: &a [*a]", "\t{\"a\":\n1}", "a: 0o17"} {
		f.Add("f.yaml", []byte(s))
		f.Add("f.json", []byte(s))
	}
	f.Add("f.yaml", []byte(bomb()))
	lim := Limits{FileBytes: 1 << 16, DocumentBytes: 1 << 16, Nodes: 5000, Depth: 50}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		docs, err := Documents(name, data, lim)
		if err != nil && err.Message == "" {
			t.Fatal("an error without a message")
		}
		for _, doc := range docs {
			v, err := Value(doc, lim, nil)
			if err != nil {
				continue
			}
			if e := Bounded(doc, lim); e != nil {
				t.Fatalf("Value takes what Bounded refuses: %v", e)
			}
			if _, err := json.Marshal(v); err != nil {
				t.Fatalf("not JSON: %v", err)
			}
		}
	})
}
