package ignore

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every case is asked of git itself, too, where there is one.
func TestMatchAsGit(t *testing.T) {
	_, err := exec.LookPath("git")
	git := err == nil
	for _, c := range []struct {
		rules, path string
		want        bool
	}{
		{"*.json", "a.json", true}, {"*.json", "x/y/a.json", true}, {"/*.json", "x/a.json", false}, {"/*.json", "a.json", true},
		{"docs/", "docs/a.yaml", true}, {"docs/", "x/docs/a.yaml", true}, {"/docs/", "x/docs/a.yaml", false}, {"docs/", "docs", false},
		{"a/b", "a/b", true}, {"a/b", "x/a/b", false}, {"**/b", "x/a/b", true}, {"a/**", "a/x/y", true}, {"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x/c", false},
		{"*.yaml\n!keep.yaml", "keep.yaml", false}, {"*.yaml\n!keep.yaml", "drop.yaml", true}, {"!keep.yaml\n*.yaml", "keep.yaml", true},
		{"# comment\n\nt?st.yaml", "test.yaml", true}, {"[ab].yaml", "b.yaml", true}, {"[ab].yaml", "c.yaml", false}, {"x", "xy", false},
	} {
		rules, err := Parse(c.rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := through(rules, c.path); got != c.want {
			t.Errorf("%q, %s: %v", c.rules, c.path, got)
		}
		if git {
			if got := asGit(t, c.rules, c.path); got != c.want {
				t.Errorf("%q, %s: git says %v", c.rules, c.path, got)
			}
		}
	}
}

// through asks as a walk does: directories first.
func through(rules Rules, p string) bool {
	parts := strings.Split(p, "/")
	for i := range parts {
		if _, ignored := rules.Match(strings.Join(parts[:i+1], "/"), i+1 < len(parts)); ignored {
			return true
		}
	}
	return false
}

func asGit(t *testing.T, rules, p string) bool {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{".gitignore": rules, p: ""} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("git", "-C", dir, "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	return exec.Command("git", "-C", dir, "check-ignore", "-q", p).Run() == nil
}

func TestErrors(t *testing.T) {
	for _, s := range []string{"!", "[a", "a//b"} {
		if _, err := Parse("ok\n" + s); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("**/a/**/b/**/*.yaml\n!x/", "a/b/c/d.yaml")
	f.Add("/[", "a")
	f.Fuzz(func(t *testing.T, text, p string) {
		rules, err := Parse(text)
		if err != nil {
			return
		}
		if spoken, ignored := rules.Match(p, true); ignored && !spoken {
			t.Fatal("ignored by no pattern")
		}
	})
}
