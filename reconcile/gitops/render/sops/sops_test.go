package sops

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"padis.io/padis/reconcile/gitops/render/decode"
)

// The files of testdata were encrypted by sops 3.13.3 and age 1.3.2 from the files plain-* beside them, to the keys beside them.

func file(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keys(t testing.TB, name string) Identities {
	t.Helper()
	ids, err := Parse(string(file(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func documents(t testing.TB, name string, data []byte) []*yaml.Node {
	t.Helper()
	docs, err := decode.Documents(name, data, decode.Defaults)
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func values(t testing.TB, docs []*yaml.Node) (out []any) {
	t.Helper()
	for _, doc := range docs {
		v, err := decode.Value(doc, decode.Defaults, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func TestDecryptsWhatSopsEncrypted(t *testing.T) {
	for _, c := range []struct{ name, plain, key string }{
		{"secret.yaml", "plain-secret.yaml", "key.txt"},
		{"secret.yaml", "plain-secret.yaml", "other-key.txt"},
		{"mac-only.yaml", "plain-secret.yaml", "key.txt"},
		{"suffix.yaml", "plain-secret.yaml", "key.txt"},
		{"unencrypted-regex.yaml", "plain-secret.yaml", "key.txt"},
		{"hybrid.yaml", "plain-secret.yaml", "hybrid-key.txt"},
		{"many.yaml", "plain-many.yaml", "key.txt"},
		{"json.json", "plain-json.json", "key.txt"},
	} {
		docs := documents(t, c.name, file(t, c.name))
		if !Of(docs[0]) {
			t.Fatalf("%s: not seen to be encrypted", c.name)
		}
		secrets, err := Decrypt(docs, keys(t, c.key))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, want := values(t, docs), values(t, documents(t, c.plain, file(t, c.plain))); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, want %#v", c.name, got, want)
		}
		if len(secrets) == 0 {
			t.Errorf("%s: no secrets told", c.name)
		}
	}
}

func TestTypes(t *testing.T) {
	docs := documents(t, "types.yaml", file(t, "types.yaml"))
	if _, err := Decrypt(docs, keys(t, "key.txt")); err != nil {
		t.Fatal(err)
	}
	got := values(t, docs)[0].(map[string]any)
	want := map[string]any{"a": "one", "b": int64(2), "c": 2.5, "d": true, "e": false, "f": nil, "g": []any{"x", int64(3), int64(1000), map[string]any{"h": "deep"}},
		"when": "2026-01-02T03:04:05Z", "day": "2026-01-02T00:00:00Z", "yes": "yes", "x_unencrypted": int64(7)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%#v", got)
	}
}

func TestBinary(t *testing.T) {
	docs := documents(t, "binary.json", file(t, "binary.bin"))
	if _, err := Decrypt(docs, keys(t, "key.txt")); err != nil {
		t.Fatal(err)
	}
	if got := get(docs[0], "data").Value; got != string(file(t, "plain-binary.bin")) {
		t.Errorf("%q", got)
	}
}

func TestFile(t *testing.T) {
	for _, name := range []string{"file.age", "armored.age"} {
		got, err := File(file(t, name), keys(t, "key.txt"))
		if err != nil || !bytes.Equal(got, file(t, "plain-secret.yaml")) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := File(file(t, name), keys(t, "other-key.txt")); err == nil || !strings.Contains(err.Error(), "none of the given age keys") {
			t.Errorf("%s by another key: %v", name, err)
		}
	}
	if _, err := File([]byte("nothing of age"), keys(t, "key.txt")); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
	if _, err := File(file(t, "file.age")[:400], keys(t, "key.txt")); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("cut off: %v", err)
	}
}

func TestRefused(t *testing.T) {
	secret := string(file(t, "secret.yaml"))
	line := func(text, has string) string {
		for _, l := range strings.Split(text, "\n") {
			if strings.Contains(l, has) {
				return l
			}
		}
		t.Fatalf("no line with %s", has)
		return ""
	}
	value := func(key string) string {
		_, v, _ := strings.Cut(line(secret, key+": ENC"), ": ")
		return v
	}
	for name, c := range map[string]struct{ text, key, want string }{
		"no key":              {secret, "", "no decryption key is given"},
		"another key":         {secret, "hybrid-key.txt", "none of the given age keys"},
		"changed in clear":    {strings.Replace(secret, "name: database", "name: databasf", 1), "key.txt", "changed without sops"},
		"value taken away":    {strings.Replace(secret, line(secret, "port: ENC")+"\n", "", 1), "key.txt", "changed without sops"},
		"value moved":         {strings.Replace(secret, value("port"), value("password"), 1), "key.txt", "stringData.port: it is not what sops encrypted at this place"},
		"value in clear":      {strings.Replace(secret, value("password"), "hunter2", 1), "key.txt", "stringData.password: not encrypted, although"},
		"value added":         {strings.Replace(secret, "  tier: back", "  tier: back\n        more: x", 1), "key.txt", "changed without sops"},
		"value damaged":       {strings.Replace(secret, "ENC[AES256_GCM,data:", "ENC[AES256_GCM,data:AAAA", 1), "key.txt", "it is not what sops encrypted"},
		"not base64":          {strings.Replace(secret, "ENC[AES256_GCM,data:", "ENC[AES256_GCM,data:*", 1), "key.txt", "not base64"},
		"other time":          {strings.Replace(secret, "lastmodified: \"2026", "lastmodified: \"2025", 1), "key.txt", "changed without sops"},
		"no time":             {strings.Replace(secret, "lastmodified: \"2026", "lastmodified: \"x", 1), "key.txt", "lastmodified is not a time"},
		"rule changed":        {strings.Replace(secret, "encrypted_regex: ^(data|stringData)$", "encrypted_regex: ^data$", 1), "key.txt", "changed without sops"},
		"rule broken":         {strings.Replace(secret, "encrypted_regex: ^(data", "encrypted_regex: ^((data", 1), "key.txt", "not a regular expression"},
		"rule by comments":    {strings.Replace(secret, "encrypted_regex:", "encrypted_comment_regex:", 1), "key.txt", "choose what is encrypted by encrypted_regex"},
		"shares":              {secret + "    key_groups: [{}]\n", "key.txt", "key_groups"},
		"mac taken from":      {strings.Replace(secret, line(secret, "mac: ENC"), "    mac: \"\"", 1), "key.txt", "changed without sops"},
		"alias":               {strings.Replace(secret, "tier: back", "tier: &a back\n        b: *a", 1), "key.txt", "an alias, which sops does not write"},
		"a document in clear": {secret + "---\nkind: Secret\n", "key.txt", "only some of its documents"},
		"only pgp":            {"a: b\nsops: {mac: x, lastmodified: \"2026-11-21T12:31:28Z\", pgp: [{enc: x}]}\n", "key.txt", "sops --age"},
	} {
		ids := Identities{}
		if c.key != "" {
			ids = keys(t, c.key)
		}
		_, err := Decrypt(documents(t, "secret.yaml", []byte(c.text)), ids)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "horse")) {
			t.Errorf("%s: the message tells a secret: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	if _, err := Parse("# fine\n\nAGE-SECRET-KEY-1HIDDEN\n"); err == nil || !strings.Contains(err.Error(), "line 3") || strings.Contains(err.Error(), "HIDDEN") {
		t.Errorf("%v", err)
	}
	if keys(t, "key.txt").Digest() == keys(t, "other-key.txt").Digest() {
		t.Error("two keys, one digest")
	}
}

// Whatever metadata and values are, the reader ends, and what it takes is decrypted.
func FuzzDecrypt(f *testing.F) {
	for _, name := range []string{"secret.yaml", "types.yaml", "many.yaml", "mac-only.yaml"} {
		f.Add(file(f, name))
	}
	ids := keys(f, "key.txt")
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := decode.Documents("f.yaml", data, decode.Limits{FileBytes: 1 << 16, DocumentBytes: 1 << 16, Nodes: 1000, Depth: 20})
		if err != nil {
			return
		}
		if _, err := Decrypt(docs, ids); err != nil {
			return
		}
		for _, doc := range docs {
			if Of(doc) {
				t.Fatal("metadata is left")
			}
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add(file(f, "file.age"))
	f.Add(file(f, "armored.age"))
	ids := keys(f, "key.txt")
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := File(data, ids); err != nil && strings.Contains(err.Error(), "horse") {
			t.Fatal("the message tells a secret")
		}
	})
}
