package gitops_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"padis.io/padis/api/why"
)

var update = flag.Bool("update", false, "write the table of reasons into docs/gitops.md")

// elsewhere are reasons that are of no condition of a GitSource or Sync, but of an object's health or a step of a fetch.
var elsewhere = []string{"Absent", "Deleting", "NotSeen", "Present", "NoStatus"}

// Each reason that these packages have is explained, and docs/gitops.md says of each what why.GitReasons says.
func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	var known []string
	for _, r := range why.GitReasons() {
		known = append(known, r.Reason)
	}
	found := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		return constants(path, found)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 30 {
		t.Fatalf("only %d reasons found", len(found))
	}
	for r := range found {
		if !slices.Contains(known, r) && !slices.Contains(elsewhere, r) {
			t.Errorf("reason %s is not explained: add it to GitReasons of api/why, and run this test with -update", r)
		}
	}
	for _, r := range known {
		if !found[r] {
			t.Errorf("reason %s is explained, and nobody gives it: take it out of GitReasons of api/why", r)
		}
	}

	const file, begin, end = "../../docs/gitops.md", "### Reasons\n\n", "\n## Limits"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(b, []byte(begin))
	table, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatalf("%s has no section %q before %q", file, begin, end)
	}
	want := reasons()
	if *update {
		if err := os.WriteFile(file, slices.Concat(head, []byte(begin+want+end), tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(table) != want {
		t.Errorf("the table of reasons in %s is not that of GitReasons of api/why: run this test with -update", file)
	}
}

// reasons is the table.
func reasons() string {
	var b strings.Builder
	b.WriteString("| reason | of | what it means | what to do |\n|---|---|---|---|\n")
	for _, r := range why.GitReasons() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.Reason, r.Of, r.Means, r.Do)
	}
	return b.String()
}

// constants finds the values of constants of a file that are called Reason.
func constants(path string, found map[string]bool) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if !strings.HasPrefix(name.Name, "Reason") || i >= len(spec.Values) {
				continue
			}
			if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					found[text] = true
				}
			}
		}
		return true
	})
	return nil
}
