package server

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"

	"padis.io/padis/api/server/roles"
)

var updateGolden = flag.Bool("update-roles", false, "write testdata/roles.txt anew")

// rolesNamespace is where the users called in:ROLE have their role; those called all:ROLE have it everywhere.
const rolesNamespace = "roles-a"

// bindDefaults binds each of the default roles to a user in a namespace, and to another one cluster-wide.
func bindDefaults(t *testing.T) []string {
	t.Helper()
	c := kubernetes.NewForConfigOrDie(shared.LoopbackConfig())
	if code, out := do(t, adminClient(t), "POST", "/api/v1/namespaces", "application/json", []byte(`{"metadata":{"name":"`+rolesNamespace+`"}}`)); code != 201 && code != 409 {
		t.Fatalf("namespace: %d %s", code, out)
	}
	var names []string
	for _, r := range roles.Defaults() {
		names = append(names, r.Name)
		ref := rbacv1.RoleRef{Kind: "ClusterRole", Name: r.Name}
		_, err := c.RbacV1().RoleBindings(rolesNamespace).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "in:" + r.Name}, RoleRef: ref,
			Subjects: []rbacv1.Subject{{Kind: "User", Name: "in:" + r.Name}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all, err := c.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "all:" + r.Name}, RoleRef: ref,
			Subjects: []rbacv1.Subject{{Kind: "User", Name: "all:" + r.Name}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			// The test's own context has ended.
			if err := c.RbacV1().ClusterRoleBindings().Delete(context.Background(), all.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "the bindings are known", func() (bool, error) {
		p, err := shared.who.granted.policy()
		return err == nil && slices.IndexFunc(names, func(n string) bool {
			one := roles.Request{Verb: "get", Group: "padis.io", Resource: "apps", Namespace: rolesNamespace}
			return !p.Allows(roles.Subject{User: "in:" + n}, one) || !p.Allows(roles.Subject{User: "all:" + n}, one)
		}) < 0, err
	})
	return names
}

// servedResource is a resource or subresource.
type servedResource struct {
	group, version, name string
	namespaced           bool
}

func (r servedResource) String() string {
	if r.group == "" {
		return r.name
	}
	return r.name + " " + r.group
}

// ownResources lists what this server always serves; tests add kinds of their own to it.
func ownResources(t *testing.T) []servedResource {
	t.Helper()
	own := []string{"", "padis.io", "runtime.padis.io", "coordination.k8s.io", "rbac.authorization.k8s.io", "authorization.k8s.io", "authentication.k8s.io", "apiextensions.k8s.io"}
	_, lists, err := discovery.NewDiscoveryClientForConfigOrDie(shared.LoopbackConfig()).ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	var out []servedResource
	for _, l := range lists {
		group, version, found := strings.Cut(l.GroupVersion, "/")
		if !found {
			group, version = "", l.GroupVersion
		}
		if slices.Contains(own, group) {
			for _, r := range l.APIResources {
				out = append(out, servedResource{group, version, r.Name, r.Namespaced})
			}
		}
	}
	slices.SortFunc(out, func(a, b servedResource) int { return strings.Compare(a.group+" "+a.name, b.group+" "+b.name) })
	return out
}

var allVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "bind", "escalate"}

// TestEveryVerbKindAndRole asks for each combination and compares with the table that people have read.
func TestEveryVerbKindAndRole(t *testing.T) {
	names := bindDefaults(t)
	policy, err := shared.who.granted.policy()
	if err != nil {
		t.Fatal(err)
	}
	may := func(who, verb string, r servedResource, namespace string) bool {
		return policy.Allows(roles.Subject{User: who, Groups: []string{roles.Authenticated}}, roles.Request{Verb: verb, Group: r.group, Resource: r.name, Namespace: namespace})
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "# v view, e edit, a admin, c cluster-admin, * everybody who is known. Kinds in no namespace (-) only for who has the role cluster-wide.\n%-60s  %s\n", "#", strings.Join(allVerbs, " "))
	for _, r := range append(ownResources(t), servedResource{name: "users"}, servedResource{name: "groups"}, servedResource{group: "authentication.k8s.io", name: "uids"},
		servedResource{group: "authentication.k8s.io", name: "userextras/x"}) {
		scope := "-"
		if r.namespaced {
			scope = "n"
		}
		fmt.Fprintf(&table, "%-60s %s", r, scope)
		for _, verb := range allVerbs {
			in, all := "", ""
			for _, n := range names {
				if r.namespaced && may("in:"+n, verb, r, rolesNamespace) {
					in += n[:1]
				}
				if may("all:"+n, verb, r, "") {
					all += n[:1]
				}
				if n == "cluster-admin" {
					continue
				}
				for _, elsewhere := range []string{"", "default"} {
					if may("in:"+n, verb, r, elsewhere) && !may("nobody", verb, r, elsewhere) {
						t.Errorf("%s, bound in %s, may %s %s in namespace %q", n, rolesNamespace, verb, r, elsewhere)
					}
				}
			}
			cell := all
			if may("nobody", verb, r, "") {
				cell = "*"
			}
			if r.namespaced && in != all {
				t.Errorf("%s %s: in a namespace %q, cluster-wide %q", verb, r, in, all)
			}
			fmt.Fprintf(&table, " %-*s", len(verb), cell)
		}
		table.WriteString("\n")
	}
	path := filepath.Join("testdata", "roles.txt")
	got := trimLines(table.String())
	if *updateGolden {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("who may do what has changed; read the difference, and if it is meant run this test with -update-roles\n%s", diffLines(string(want), got))
	}
	t.Run("over HTTP", func(t *testing.T) { checkOverHTTP(t, names, policy) })
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func diffLines(want, got string) string {
	var out strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintln(&out, "-", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintln(&out, "+", l)
		}
	}
	return out.String()
}

// checkOverHTTP makes sure that requests are answered as the table says. What they name is not there.
func checkOverHTTP(t *testing.T, names []string, policy *roles.Policy) {
	admin := adminClient(t)
	asked := 0
	for _, r := range ownResources(t) {
		if strings.Contains(r.name, "/") {
			continue
		}
		base := "/apis/" + r.group + "/" + r.version
		if r.group == "" {
			base = "/api/" + r.version
		}
		namespace := ""
		if r.namespaced {
			namespace = rolesNamespace
			base += "/namespaces/" + namespace
		}
		for _, n := range append([]string{"nobody"}, names...) {
			for _, who := range []string{"in:" + n, "all:" + n} {
				for verb, method := range map[string]string{"list": "GET", "get": "GET", "create": "POST", "delete": "DELETE"} {
					q, path := roles.Request{Verb: verb, Group: r.group, Resource: r.name, Namespace: namespace}, base+"/"+r.name
					if verb == "get" || verb == "delete" {
						q.Name = "not-there"
						path += "/not-there"
						if r.name == "namespaces" {
							q.Namespace = q.Name
						}
					}
					code, out := do(t, admin, method, path, "application/json", nil, "Impersonate-User", who)
					allowed := policy.Allows(roles.Subject{User: who, Groups: []string{roles.Authenticated}}, q)
					if (code == http.StatusForbidden) == allowed || code == http.StatusUnauthorized {
						t.Errorf("%s %s by %s: %d, but the table says %v: %s", method, path, who, code, allowed, out)
					}
					asked++
				}
			}
		}
	}
	t.Logf("%d requests", asked)
}

// What default roles name must be served: else it is a slip of the pen.
func TestDefaultRolesNameWhatIsServed(t *testing.T) {
	served := ownResources(t)
	for _, d := range roles.Defaults() {
		for _, r := range d.Rules {
			for _, name := range r.Resources {
				if name != "*" && !slices.ContainsFunc(served, func(s servedResource) bool { return s.name == name && slices.Contains(r.APIGroups, s.group) }) {
					t.Errorf("ClusterRole %s: %s of %v is not served", d.Name, name, r.APIGroups)
				}
			}
		}
	}
}

func TestDefaultRolesAreKeptUpToDate(t *testing.T) {
	c := kubernetes.NewForConfigOrDie(shared.LoopbackConfig())
	change := func(name string, f func(*rbacv1.ClusterRole)) {
		t.Helper()
		r, err := c.RbacV1().ClusterRoles().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f(r)
		if _, err := c.RbacV1().ClusterRoles().Update(t.Context(), r, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	more := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"example.org"}, Resources: []string{"widgets"}}
	change("view", func(r *rbacv1.ClusterRole) { r.Rules = []rbacv1.PolicyRule{more} })
	change("cluster-admin", func(r *rbacv1.ClusterRole) {
		r.Rules, r.Annotations[rbacv1.AutoUpdateAnnotationKey] = []rbacv1.PolicyRule{more}, "false"
	})
	if err := installRoles(t.Context(), c.RbacV1()); err != nil {
		t.Fatal(err)
	}
	for _, d := range roles.Defaults() {
		r, err := c.RbacV1().ClusterRoles().Get(t.Context(), d.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lacks := len(roles.Missing(r.Rules, d.Rules)) > 0
		if d.Name == "cluster-admin" != lacks {
			t.Errorf("%s lacks rules: %v", d.Name, lacks)
		}
		if d.Name == "view" && len(roles.Missing(r.Rules, []rbacv1.PolicyRule{more})) > 0 {
			t.Error("a rule that was added to view is gone")
		}
	}
	for _, d := range roles.Defaults() {
		change(d.Name, func(r *rbacv1.ClusterRole) { r.Rules, r.Annotations = d.Rules, d.Annotations })
	}
}

// asUser sends a request as the user whom the administrator plays.
func asUser(t *testing.T, who, method, path, body string) (int, string) {
	t.Helper()
	kind := "application/json"
	if method == "PATCH" {
		kind = "application/merge-patch+json"
	}
	return do(t, adminClient(t), method, path, kind, []byte(body), "Impersonate-User", who)
}

func TestNobodyGrantsWhatHeDoesNotHave(t *testing.T) {
	const rbac = "/apis/rbac.authorization.k8s.io/v1"
	in := rbac + "/namespaces/escalate"
	kc(t, "", "create", "namespace", "escalate")
	kc(t, "", "create", "rolebinding", "boss", "-n", "escalate", "--clusterrole=admin", "--user=boss")
	kc(t, "", "create", "clusterrole", "binder", "--verb=bind", "--resource=clusterroles.rbac.authorization.k8s.io", "--resource-name=cluster-admin")
	kc(t, "", "create", "clusterrole", "escalator", "--verb=escalate", "--resource=roles.rbac.authorization.k8s.io")
	eventually(t, "boss is known", func() (bool, error) {
		return shared.who.may(t.Context(), &user.DefaultInfo{Name: "boss"}, "create", "rbac.authorization.k8s.io", "roles", "escalate", ""), nil
	})
	roleOf := func(name, group, resource, verb string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"rules":[{"apiGroups":[%q],"resources":[%q],"verbs":[%q]}]}`, name, group, resource, verb)
	}
	bindingOf := func(name, kind, role string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q},"roleRef":{"kind":%q,"name":%q},"subjects":[{"kind":"User","name":"pal"}]}`, name, kind, role)
	}
	for _, c := range []struct {
		method, path, body string
		want               int
		says               string
	}{
		{"POST", in + "/roles", roleOf("apps", "padis.io", "apps", "get"), 201, ""},
		{"POST", in + "/roles", roleOf("agents", "runtime.padis.io", "agents", "delete"), 403, `delete agents.runtime.padis.io`},
		{"POST", in + "/roles", roleOf("all", "*", "*", "*"), 403, "cannot grant what he does not have"},
		{"PATCH", in + "/roles/apps", `{"rules":[{"apiGroups":["padis.io"],"resources":["networks"],"verbs":["create"]}]}`, 403, "create networks.padis.io"},
		{"PATCH", in + "/roles/apps", `{"metadata":{"labels":{"a":"b"}}}`, 200, ""},
		{"POST", in + "/rolebindings", bindingOf("pal", "Role", "apps"), 201, ""},
		{"POST", in + "/rolebindings", bindingOf("edit", "ClusterRole", "edit"), 201, ""},
		{"POST", in + "/rolebindings", bindingOf("admin", "ClusterRole", "admin"), 201, ""},
		{"POST", in + "/rolebindings", bindingOf("master", "ClusterRole", "cluster-admin"), 403, "cannot grant what he does not have"},
		{"POST", in + "/rolebindings", bindingOf("gone", "ClusterRole", "gone"), 403, `ClusterRole \"gone\" does not exist`},
		{"PATCH", in + "/rolebindings/edit", `{"roleRef":{"name":"view"}}`, 422, "delete the binding and create it anew"},
		{"POST", rbac + "/clusterroles", roleOf("mine", "padis.io", "apps", "get"), 403, "a ClusterRoleBinding"},
		{"POST", rbac + "/clusterrolebindings", bindingOf("mine", "ClusterRole", "view"), 403, "a ClusterRoleBinding"},
		{"POST", rbac + "/namespaces/default/rolebindings", bindingOf("mine", "ClusterRole", "view"), 403, "a RoleBinding in namespace default"},
	} {
		if code, out := asUser(t, "boss", c.method, c.path, c.body); code != c.want || !strings.Contains(out, c.says) {
			t.Errorf("%s %s %s: %d %s, want %d %q", c.method, c.path, c.body, code, out, c.want, c.says)
		}
	}
	// Who may bind or escalate need not have.
	kc(t, "", "create", "rolebinding", "binder", "-n", "escalate", "--clusterrole=binder", "--user=boss")
	kc(t, "", "create", "rolebinding", "escalator", "-n", "escalate", "--clusterrole=escalator", "--user=boss")
	eventually(t, "boss may bind", func() (bool, error) {
		code, out := asUser(t, "boss", "POST", in+"/rolebindings", bindingOf("master", "ClusterRole", "cluster-admin"))
		return code == 201, fmt.Errorf("%d %s", code, out)
	})
	eventually(t, "boss may escalate", func() (bool, error) {
		code, out := asUser(t, "boss", "POST", in+"/roles", roleOf("all", "*", "*", "*"))
		return code == 201, fmt.Errorf("%d %s", code, out)
	})
	kc(t, "", "delete", "clusterrole", "binder", "escalator")
	refused(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"sum"},"rules":[],"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}`,
		[]string{"write all rules into this one"}, "create", "-f", "-")
}

func TestSyncsWriteByRightsThatTheirAuthorHas(t *testing.T) {
	kc(t, "", "create", "namespace", "sync-rights")
	kc(t, "", "create", "serviceaccount", "-n", "sync-rights", "bot")
	kc(t, "", "create", "role", "syncer", "-n", "sync-rights", "--verb=create,patch", "--resource=syncs.padis.io")
	kc(t, "", "create", "rolebinding", "syncer", "-n", "sync-rights", "--role=syncer", "--user=sue")
	sync := func(account string) string {
		return `{"apiVersion":"padis.io/v1alpha1","kind":"Sync","metadata":{"name":"shop"},"spec":{"sourceRef":{"name":"shop"}` + account + `}}`
	}
	path := "/apis/padis.io/v1alpha1/namespaces/sync-rights/syncs"
	eventually(t, "sue is known", func() (bool, error) {
		code, out := asUser(t, "sue", "POST", path, sync(""))
		return code == 201, fmt.Errorf("%d %s", code, out)
	})
	code, out := asUser(t, "sue", "PATCH", path+"/shop", `{"spec":{"serviceAccount":"bot"}}`)
	if code != 403 || !strings.Contains(out, "spec.serviceAccount") {
		t.Errorf("a Sync by rights that its author does not have: %d %s", code, out)
	}
	kc(t, "", "create", "role", "player", "-n", "sync-rights", "--verb=impersonate", "--resource=serviceaccounts", "--resource-name=bot")
	kc(t, "", "create", "rolebinding", "player", "-n", "sync-rights", "--role=player", "--user=sue")
	eventually(t, "sue may play bot", func() (bool, error) {
		code, out := asUser(t, "sue", "PATCH", path+"/shop", `{"spec":{"serviceAccount":"bot"}}`)
		return code == 200, fmt.Errorf("%d %s", code, out)
	})
}

func TestReviews(t *testing.T) {
	kc(t, "", "create", "namespace", "reviews")
	kc(t, "", "create", "rolebinding", "viv", "-n", "reviews", "--clusterrole=view", "--user=viv", "--group=viewers")
	as := func(ns string, args ...string) result {
		return kubectlAs(t, shared.Kubeconfig(), "", append([]string{"auth", "can-i", "--as=viv", "-n", ns}, args...)...)
	}
	eventually(t, "viv is known", func() (bool, error) { return as("reviews", "get", "apps").code == 0, nil })
	for _, c := range []struct {
		ns   string
		args []string
		want string
	}{
		{"reviews", []string{"get", "instances.runtime.padis.io", "--subresource=log"}, "yes"}, {"reviews", []string{"create", "instances.runtime.padis.io", "--subresource=exec"}, "no"},
		{"reviews", []string{"get", "secrets"}, "no"}, {"default", []string{"get", "apps"}, "no"}, {"reviews", []string{"create", "apps"}, "no"},
	} {
		if r := as(c.ns, c.args...); strings.TrimSpace(strings.SplitN(r.stdout, " ", 2)[0]) != c.want && strings.TrimSpace(r.stdout) != c.want {
			t.Errorf("can-i %v in %s: %q, want %s", c.args, c.ns, r.stdout, c.want)
		}
	}
	list := as("reviews", "--list").stdout
	contains(t, list, "apps.padis.io", "instances.runtime.padis.io/log", "selfsubjectreviews.authentication.k8s.io")
	if strings.Contains(list, "secrets") {
		t.Errorf("viv sees Secrets:\n%s", list)
	}
	contains(t, kubectlAs(t, shared.Kubeconfig(), "", "auth", "whoami", "--as=viv", "--as-group=viewers").stdout, "viv", "viewers")

	var review struct {
		Status struct{ Allowed bool }
	}
	for _, c := range []struct {
		spec string
		want bool
	}{
		{`"user":"viv","resourceAttributes":{"verb":"list","group":"padis.io","resource":"apps","namespace":"reviews"}`, true},
		{`"user":"x","groups":["viewers"],"resourceAttributes":{"verb":"list","group":"padis.io","resource":"apps","namespace":"reviews"}`, true},
		{`"user":"viv","resourceAttributes":{"verb":"list","group":"padis.io","resource":"apps"}`, false},
		{`"groups":["system:masters"],"nonResourceAttributes":{"verb":"get","path":"/metrics"}`, true},
		{`"user":"viv","nonResourceAttributes":{"verb":"get","path":"/metrics"}`, false},
	} {
		code, out := do(t, adminClient(t), "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "application/json", []byte(`{"spec":{`+c.spec+`}}`))
		if code != 201 || json.Unmarshal([]byte(out), &review) != nil || review.Status.Allowed != c.want {
			t.Errorf("%s: %d %s, want %v", c.spec, code, out, c.want)
		}
	}
	for _, spec := range []string{`"user":"viv"`, `"resourceAttributes":{"verb":"list"}`} {
		if code, out := do(t, adminClient(t), "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "application/json", []byte(`{"spec":{`+spec+`}}`)); code != 400 {
			t.Errorf("%s: %d %s, want 400", spec, code, out)
		}
	}
	if code, _ := asUser(t, "viv", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", `{}`); code != 403 {
		t.Errorf("a review of others by viv: %d, want 403", code)
	}
}
