package signature

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAllowed(t *testing.T) {
	p := Policy{
		{Paths: []string{"**"}, Signers: []string{"*@example.com"}},
		{Paths: []string{"prod/", "*.yaml"}, Signers: []string{"ann@example.com", "SHA256:robot"}},
		{Paths: []string{"prod/**/secret-?.yaml"}, Signers: []string{"root@example.com"}},
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	ann := Signer{Format: SSH, Identities: []string{"ann@example.com"}, Key: "SHA256:ann"}
	bob := Signer{Format: SSH, Identities: []string{"bob@example.com"}, Key: "SHA256:bob"}
	robot := Signer{Format: SSH, Key: "SHA256:robot"}
	for _, c := range []struct {
		who     Signer
		changed string
		path    string
	}{
		{ann, "dev/a.yaml prod/a.yaml app.yaml", ""},
		{bob, "dev/a.yaml", ""},
		{bob, "dev/a.yaml prod/x/a.yaml", "prod/x/a.yaml"},
		{bob, "app.yaml", "app.yaml"},
		{robot, "prod/a.yaml", ""},
		{robot, "dev/a.yaml", "dev/a.yaml"},
		{ann, "prod/secret-1.yaml", "prod/secret-1.yaml"},
		{ann, "prod/a/b/secret-1.yaml", "prod/a/b/secret-1.yaml"},
	} {
		err := Allowed(p, "1234", strings.Fields(c.changed), c.who)
		if (err == nil) != (c.path == "") {
			t.Errorf("%s, %s: got %v", c.who, c.changed, err)
			continue
		}
		if err == nil {
			continue
		}
		for _, part := range []string{"commit 1234", c.who.Key, c.path} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not name %s", err, part)
			}
		}
	}
	if err := Allowed(p[2:], "1234", []string{"dev/a.yaml"}, ann); err == nil {
		t.Error("what no rule fits may be changed by nobody")
	}
	if err := Allowed(nil, "1234", []string{"dev/a.yaml"}, ann); err != nil {
		t.Error(err)
	}
}

func TestPolicyThatCannotBeRead(t *testing.T) {
	for _, p := range []Policy{{{Paths: []string{"a"}}}, {{Signers: []string{"a"}}}, {{Paths: []string{"/a"}, Signers: []string{"a"}}}, {{Paths: []string{"[a"}, Signers: []string{"a"}}}, {{Paths: []string{"a"}, Signers: []string{"[a"}}}} {
		if p.Check() == nil {
			t.Errorf("%v is taken", p)
		}
	}
}

// Glob says what a regular expression of the same meaning says.
func TestGlobIsWhatARegularExpressionSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*", "**", "a*", "?", "*b"}), 1, 6).Draw(t, "pattern"), "/")
		file := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "ba"}), 1, 6).Draw(t, "file"), "/")
		var re strings.Builder
		re.WriteString("^")
		for _, part := range strings.Split(pattern, "/") {
			if part == "**" {
				re.WriteString("(/[^/]+)*")
				continue
			}
			re.WriteString("/" + strings.NewReplacer("*", "[^/]*", "?", "[^/]").Replace(part))
		}
		want := regexp.MustCompile(re.String() + "$").MatchString("/" + file)
		if got := Glob(pattern, file); got != want {
			t.Fatalf("Glob(%q, %q) = %v, want %v", pattern, file, got, want)
		}
	})
}
