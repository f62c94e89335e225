package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// pureStd is the part of the standard library that cannot touch the world.
var pureStd = map[string]bool{
	"bufio": true, "bytes": true, "cmp": true, "embed": true, "crypto/hmac": true, "crypto/sha1": true, "crypto/cipher": true, "crypto/aes": true, "crypto/sha256": true, "crypto/sha512": true, "crypto/subtle": true, "crypto/x509": true, "encoding/base32": true, "encoding/base64": true, "encoding/binary": true,
	"encoding/hex": true, "encoding/json": true, "encoding/pem": true, "errors": true, "fmt": true, "hash": true, "hash/fnv": true, "io": true, "iter": true,
	"maps": true, "math": true, "math/bits": true, "net/netip": true, "net/url": true, "path": true, "regexp": true, "regexp/syntax": true, "slices": true, "sort": true,
	"strconv": true, "strings": true, "text/tabwriter": true, "time": true, "unicode": true, "unicode/utf8": true, "container/heap": true, "container/list": true,
}

// pureModules are libraries of nouns.
var pureModules = []string{
	"k8s.io/apimachinery/pkg/apis/meta/v1", "k8s.io/apimachinery/pkg/api", "k8s.io/apimachinery/pkg/types", "k8s.io/apimachinery/pkg/runtime", "k8s.io/apimachinery/pkg/util/json", "k8s.io/apimachinery/pkg/util/validation",
	"k8s.io/api/core/v1", "k8s.io/api/rbac/v1", "k8s.io/component-helpers/auth/rbac/validation", "google.golang.org/protobuf", "github.com/golang/protobuf/proto", "sigs.k8s.io/yaml",
	// Readers of bytes; age decrypts with keys that it is given.
	"go.yaml.in/yaml/v3", "filippo.io/age",
	// Wire types are nouns, too; who may see them is said in imports_test.go.
	"github.com/mesos/mesos-go/api/v1/lib", "github.com/gogo/protobuf/proto",
	// Keys, certificates and what they have signed; that nothing of them dials is seen in the review.
	"golang.org/x/crypto/ssh", "github.com/ProtonMail/go-crypto/openpgp", "github.com/smallstep/pkcs7",
}

// pure tells whether the first paragraph of the package comment ends with "Pure.".
func pure(t *testing.T, p pkg) bool {
	t.Helper()
	for _, f := range parse(t, p, parser.PackageClauseOnly|parser.ParseComments) {
		if f.Doc == nil {
			continue
		}
		first, _, _ := strings.Cut(f.Doc.Text(), "\n\n")
		if strings.HasSuffix(strings.TrimSpace(first), "Pure.") {
			return true
		}
	}
	return false
}

func parse(t *testing.T, p pkg, mode parser.Mode) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, mode)
		if err != nil {
			t.Fatalf("%s/%s: %v", p.rel(), name, err)
		}
		files[name] = f
	}
	return files
}

func generated(name string) bool {
	return strings.HasSuffix(name, ".pb.go") || strings.HasPrefix(name, "zz_generated")
}

// mustBePure are the cores that the house is built on; losing the word in their comment would switch the test off.
var mustBePure = []string{
	"proto/padis/v1", "proto/padis/stream", "mesos", "api/v1alpha1", "api/runtime", "api/server/roles", "reconcile/rollout", "reconcile/wanted", "reconcile/declared", "reconcile/balanced", "scheduler/core", "scheduler/place", "scheduler/instance", "scheduler/ipam",
	"api/plan", "api/conceal", "reconcile/proposed", "scheduler/forecast",
	"scheduler/record", "scheduler/project", "scheduler/balance", "executor/network", "executor/health", "executor/lb", "executor/lb/bfd",
	"executor/director/wire", "executor/director/plan", "api/server/audit/change",
	"reconcile/gitops/source/signature", "api/webhook", "reconcile/gitops/decide", "reconcile/gitops/notify",
	"reconcile/gitops/render/decode", "reconcile/gitops/render/substitute", "reconcile/gitops/render/ignore", "reconcile/gitops/render/sops",
}

func TestPurePackages(t *testing.T) {
	pkgs := list(t, "./...")
	isPure := map[string]bool{}
	for _, p := range pkgs {
		isPure[p.ImportPath] = pure(t, p)
	}
	for _, rel := range mustBePure {
		if !isPure[module+"/"+rel] {
			t.Errorf("%s must exist and its package comment's first paragraph must end with \"Pure.\"", rel)
		}
	}
	for _, p := range pkgs {
		if !isPure[p.ImportPath] {
			continue
		}
		for name, f := range parse(t, p, parser.SkipObjectResolution) {
			if generated(name) {
				continue
			}
			where := p.rel() + "/" + name
			for _, imp := range f.Imports {
				path, err := strconv.Unquote(imp.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case within(path, module):
					if !isPure[path] {
						t.Errorf("%s imports %s, which is not pure", where, path)
					}
				case !strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
					if !pureStd[path] {
						t.Errorf("%s imports %s: a pure package cannot touch the world", where, path)
					}
				case !within(path, pureModules...):
					t.Errorf("%s imports %s: not among the libraries of nouns", where, path)
				}
			}
			checkBody(t, where, f)
		}
	}
}

// impure are calls of otherwise pure packages that read the clock, or files.
var impure = map[string]bool{"time.Now": true, "time.Since": true, "time.Until": true, "time.Sleep": true, "time.After": true, "time.NewTimer": true, "time.NewTicker": true, "time.AfterFunc": true, "time.Tick": true,
	// It reads files; and what is installed differs from host to host.
	"time.LoadLocation": true}

func checkBody(t *testing.T, where string, f *ast.File) {
	t.Helper()
	globals := map[string]bool{}
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					globals[n.Name] = true
				}
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			t.Errorf("%s: a go statement", where)
		case *ast.ChanType:
			t.Errorf("%s: a channel", where)
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && impure[x.Name+"."+n.Sel.Name] {
				t.Errorf("%s: %s.%s; time is an input", where, x.Name, n.Sel.Name)
			}
		case *ast.AssignStmt:
			for _, l := range n.Lhs {
				if id, ok := l.(*ast.Ident); ok && n.Tok == token.ASSIGN && globals[id.Name] {
					t.Errorf("%s: assigns %s, a package variable of that name exists", where, id.Name)
				}
			}
		}
		return true
	})
}
