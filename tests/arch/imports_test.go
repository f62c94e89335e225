// Package arch proves the rules of docs/architecture.md: who may import whom, and what a pure package may do.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "padis.io/padis"

// pkg is what `go list -json` tells of one package.
type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func (p pkg) rel() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Doc,GoFiles,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list: %v\n%s", err, ee.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var pkgs []pkg
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list output: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// within tells whether path is one of the folders or below one.
func within(path string, folders ...string) bool {
	for _, f := range folders {
		if path == f || strings.HasPrefix(path, f+"/") {
			return true
		}
	}
	return false
}

// only lists who may import what, with the reason. Everything else must not.
var only = []struct {
	imported string
	by       []string
	reason   string
}{
	{"github.com/mesos/mesos-go", []string{"mesos"}, "wire types of Mesos stay behind the nouns of package mesos"},
	{"github.com/gogo/protobuf", []string{"mesos"}, "gogo messages are Mesos wire types"},
	{"github.com/go-zookeeper/zk", []string{"mesos/master"}, "leader detection is the scheduler client's affair"},
	{"github.com/vishvananda/netlink", []string{"executor/network/kernel", "mesos/local/hosts"}, "one edge touches rtnetlink, so that plans can be tested without a kernel"},
	{"github.com/google/nftables", []string{"executor/network/guard", "executor/lb/ipvs", "executor/lb/nft"}, "one edge touches nf_tables of hosts, and its rules are one text; those of directors have namespaces of their own"},
	{"github.com/mdlayher/netlink", []string{"executor/network/guard", "executor/lb/ipvs", "executor/lb/nft"}, "what speaks to nf_tables or IPVS, and nobody to rtnetlink"},
	{"github.com/osrg/gobgp", []string{"executor/lb/bgp"}, "one edge speaks BGP"},
	{"github.com/cilium/ebpf", []string{"executor/lb/tcx", "tests/bench/lb"}, "one edge loads programs into the kernel"},
	{"github.com/containerd/containerd", []string{"executor/runtime/containerd", "tests"}, "one edge touches containerd, behind the interface of executor/runtime"},
	{"go.etcd.io/etcd/client", []string{"scheduler/ledger", "api/server"}, "durable state has two doors: the ledger and the API server"},
	{"go.etcd.io/etcd/server", []string{"api/server"}, "the embedded etcd belongs to the API server"},
	{"k8s.io/apiserver", []string{"api/server"}, "the API machinery is one room"},
	{"k8s.io/apiextensions-apiserver", []string{"api/server"}, "the API machinery is one room"},
	{"k8s.io/component-helpers", []string{"api/server"}, "who may do what is decided in one room"},
	{"github.com/golang-jwt/jwt", []string{"api/server"}, "tokens are made and believed in one room"},
	{"k8s.io/cri-streaming", []string{"api/server/live"}, "what users speak ends at the API server; executors speak frames of proto/padis/stream"},
	{"k8s.io/kubectl", []string{"cmd/padis", "tests"}, "kubectl's commands are the command line's"},
	{"sigs.k8s.io/controller-runtime", []string{"reconcile"}, "reconcilers are one stage"},
	{"sigs.k8s.io/kustomize", []string{"reconcile/gitops/render/kustomize"}, "one room sees to it that kustomize fetches and executes nothing"},
	{"helm.sh/helm", []string{"reconcile/gitops/render/helm"}, "one room knows what a template may do, and runs it in a process of its own"},
	{"github.com/Masterminds/sprig", []string{"reconcile/gitops/render/helm"}, "functions of templates"},
	{"filippo.io/age", []string{"reconcile/gitops/render/sops"}, "one room decrypts what is in repositories"},
	{"github.com/go-git/go-git", []string{"reconcile/gitops/source"}, "one edge speaks git"},
	{"github.com/ProtonMail/go-crypto", []string{"reconcile/gitops/source/signature"}, "one room says who vouches for a commit"},
	{"github.com/smallstep/pkcs7", []string{"reconcile/gitops/source/signature"}, "one room says who vouches for a commit"},
}

// never lists what must not meet, with the reason. Tests of a package may cross where the third field is true.
var never = []struct {
	importer, imported string
	testsMay           bool
	reason             string
}{
	{"api", module + "/reconcile", false, "imports flow left: api <- reconcile <- scheduler"},
	{"api", module + "/scheduler", false, "imports flow left: api <- reconcile <- scheduler"},
	{"api", module + "/executor", false, "stages share only proto"},
	{"api", module + "/mesos", false, "the API knows nothing of Mesos"},
	{"reconcile", module + "/scheduler", false, "imports flow left: api <- reconcile <- scheduler"},
	{"reconcile", module + "/executor", false, "stages share only proto"},
	{"reconcile", module + "/mesos", false, "reconcilers know nothing of Mesos"},
	{"reconcile", module + "/api/server", true, "stages meet in the API, not in its server"},
	{"scheduler", module + "/executor", false, "stages share only proto, and what is in shared"},
	{"scheduler", module + "/api/server", true, "the scheduler publishes through an interface of its own"},
	{"scheduler", module + "/mesos/master", true, "the loop sees the master through an interface of its own"},
	{"executor", module + "/scheduler", false, "stages share only proto"},
	{"executor", module + "/reconcile", false, "stages share only proto"},
	{"executor", module + "/api", false, "the executor links no API machinery"},
	{"executor", "k8s.io", false, "the executor links no API machinery"},
	{"mesos", module + "/scheduler", false, "mesos is the engine, below the stages"},
	{"mesos", module + "/reconcile", false, "mesos is the engine, below the stages"},
	{"mesos", module + "/executor", false, "mesos is the engine, below the stages"},
	{"mesos", module + "/api", false, "mesos is the engine, below the stages"},
	{"mesos", "k8s.io", false, "mesos is the engine, below the stages"},
	{"proto", module + "/", false, "the records are the ground that all stand on"},
}

// shared lists the pure packages of one stage that another may import all the same, with the reason.
var shared = []struct{ importer, imported, reason string }{
	{"scheduler", module + "/executor/lb", "scheduler and executors must compute the same tables, and a copy would be two"},
}

func TestImports(t *testing.T) {
	for _, p := range list(t, "./...") {
		rel := p.rel()
		tests := append(append([]string{}, p.TestImports...), p.XTestImports...)
		for _, imp := range p.Imports {
			checkOnly(t, rel, imp)
			checkNever(t, rel, imp, false)
			if within(imp, module+"/cmd", module+"/tests") && !within(rel, "cmd", "tests") {
				t.Errorf("%s imports %s: nobody imports cmd or tests", rel, imp)
			}
		}
		for _, imp := range tests {
			checkNever(t, rel, imp, true)
		}
	}
}

func checkOnly(t *testing.T, rel, imp string) {
	t.Helper()
	for _, r := range only {
		if within(imp, r.imported) && !within(rel, r.by...) {
			t.Errorf("%s imports %s, which only %s may: %s", rel, imp, strings.Join(r.by, ", "), r.reason)
		}
	}
}

func checkNever(t *testing.T, rel, imp string, test bool) {
	t.Helper()
	for _, r := range shared {
		if within(rel, r.importer) && imp == r.imported {
			return
		}
	}
	for _, r := range never {
		if test && r.testsMay {
			continue
		}
		if within(rel, r.importer) && within(imp, strings.TrimSuffix(r.imported, "/")) && !within(imp, module+"/"+r.importer) {
			t.Errorf("%s imports %s: %s", rel, imp, r.reason)
		}
	}
}

// What a binary links is more than what our files import.
func TestBinariesLink(t *testing.T) {
	for _, b := range []struct {
		binary string
		never  []string
		reason string
	}{
		{"./cmd/padis-executor", []string{"k8s.io", "sigs.k8s.io/controller-runtime", "go.etcd.io", "helm.sh/helm", module + "/scheduler", module + "/reconcile", module + "/api"}, "the executor is small: it runs on every host"},
		{"./cmd/padis-mesos", []string{"k8s.io", "go.etcd.io", module + "/scheduler", module + "/reconcile", module + "/api", module + "/executor"}, "the embedded Mesos stands for another product: it knows nothing of ours"},
	} {
		for _, p := range list(t, "-deps", b.binary) {
			for _, n := range b.never {
				if within(p.ImportPath, n) {
					t.Errorf("%s links %s: %s", b.binary, p.ImportPath, b.reason)
				}
			}
		}
	}
}
