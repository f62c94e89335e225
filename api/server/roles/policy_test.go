package roles

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

func clusterRole(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func binding(namespace, kind, role string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "b"}, RoleRef: rbacv1.RoleRef{Kind: kind, Name: role}, Subjects: subjects}
}

func TestBindings(t *testing.T) {
	user := func(name string) rbacv1.Subject { return rbacv1.Subject{Kind: "User", Name: name} }
	reader := rule(padis, []string{"get"}, "apps")
	p := New(Objects{
		ClusterRoles: []*rbacv1.ClusterRole{clusterRole("reader", reader), clusterRole("one", rbacv1.PolicyRule{
			APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}, ResourceNames: []string{"mine"}}),
			clusterRole("scaler", rule(padis, []string{"patch"}, "*/scale")), clusterRole("metrics", rbacv1.PolicyRule{NonResourceURLs: []string{"/metrics/*"}, Verbs: []string{"get"}})},
		Roles: []*rbacv1.Role{{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "reader"}, Rules: []rbacv1.PolicyRule{rule(padis, []string{"list"}, "apps")}}},
		RoleBindings: []*rbacv1.RoleBinding{
			binding("a", "ClusterRole", "reader", user("ann"), rbacv1.Subject{Kind: "Group", Name: "ops"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "bot"}),
			binding("b", "ClusterRole", "reader", rbacv1.Subject{Kind: "ServiceAccount", Name: "bot", Namespace: "a"}),
			binding("a", "Role", "reader", user("ron")),
			binding("b", "Role", "reader", user("ron")),
			binding("a", "ClusterRole", "one", user("one")), binding("a", "ClusterRole", "gone", user("one")), binding("a", "Nonsense", "reader", user("one")),
			binding("a", "ClusterRole", "scaler", user("sam")),
		},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{
			{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"}, Subjects: []rbacv1.Subject{user("eve"), {Kind: "ServiceAccount", Name: "nowhere"}, {Kind: "Robot", Name: "eva"}}},
			{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "metrics"}, Subjects: []rbacv1.Subject{user("prom")}},
			{RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "reader"}, Subjects: []rbacv1.Subject{user("max")}},
		},
	})
	get := func(namespace string) Request {
		return Request{Verb: "get", Group: padis, Resource: "apps", Name: "web", Namespace: namespace}
	}
	for _, c := range []struct {
		why  string
		who  Subject
		what Request
		want bool
	}{
		{"bound in the namespace", Subject{User: "ann"}, get("a"), true},
		{"and in no other", Subject{User: "ann"}, get("b"), false},
		{"nor in all", Subject{User: "ann"}, get(""), false},
		{"a user is no group", Subject{User: "ops"}, get("a"), false},
		{"a group is no user", Subject{User: "x", Groups: []string{"ann"}}, get("a"), false},
		{"by a group", Subject{User: "x", Groups: []string{"dev", "ops"}}, get("a"), true},
		{"a service account of the binding's namespace", Subject{User: "system:serviceaccount:a:bot"}, get("a"), true},
		{"of another namespace", Subject{User: "system:serviceaccount:a:bot"}, get("b"), true},
		{"a namesake", Subject{User: "system:serviceaccount:b:bot"}, get("a"), false},
		{"everywhere", Subject{User: "eve"}, get("c"), true},
		{"in all namespaces", Subject{User: "eve"}, get(""), true},
		{"another verb", Subject{User: "eve"}, Request{Verb: "list", Group: padis, Resource: "apps"}, false},
		{"another group of kinds", Subject{User: "eve"}, Request{Verb: "get", Group: live, Resource: "apps"}, false},
		{"a subresource", Subject{User: "eve"}, Request{Verb: "get", Group: padis, Resource: "apps/scale"}, false},
		{"a kind of subject that there is not", Subject{User: "eva"}, get(""), false},
		{"a Role is none for the cluster", Subject{User: "max"}, get(""), false},
		{"a Role", Subject{User: "ron"}, Request{Verb: "list", Group: padis, Resource: "apps", Namespace: "a"}, true},
		{"a Role of another namespace", Subject{User: "ron"}, Request{Verb: "list", Group: padis, Resource: "apps", Namespace: "b"}, false},
		{"by name", Subject{User: "one"}, Request{Verb: "get", Resource: "secrets", Name: "mine", Namespace: "a"}, true},
		{"by another name", Subject{User: "one"}, Request{Verb: "get", Resource: "secrets", Name: "yours", Namespace: "a"}, false},
		{"by no name", Subject{User: "one"}, Request{Verb: "get", Resource: "secrets", Namespace: "a"}, false},
		{"a subresource of all", Subject{User: "sam"}, Request{Verb: "patch", Group: padis, Resource: "apps/scale", Namespace: "a"}, true},
		{"a path", Subject{User: "prom"}, Request{Verb: "get", Path: "/metrics/slis"}, true},
		{"no path", Subject{User: "ann"}, Request{Verb: "get", Path: "/metrics/slis"}, false},
		{"masters", Subject{Groups: []string{Masters}}, get(""), true},
		{"masters' paths", Subject{Groups: []string{Masters}}, Request{Verb: "post", Path: "/x"}, true},
		{"a user that is called so", Subject{User: Masters}, get(""), false},
		{"anybody's health", Subject{User: "system:anonymous"}, Request{Verb: "get", Path: "/healthz"}, true},
		{"a stranger's discovery", Subject{User: "system:anonymous"}, Request{Verb: "get", Path: "/apis"}, false},
		{"discovery", Subject{Groups: []string{Authenticated}}, Request{Verb: "get", Path: "/apis/padis.io/v1alpha1"}, true},
		{"the metrics", Subject{Groups: []string{Authenticated}}, Request{Verb: "get", Path: "/metrics"}, false},
	} {
		if got := p.Allows(c.who, c.what); got != c.want {
			t.Errorf("%s: %+v may %+v: %v, want %v", c.why, c.who, c.what, got, c.want)
		}
	}
}

func TestEachDefaultHasAllOfTheOneBefore(t *testing.T) {
	all := Defaults()
	for i := 1; i < len(all); i++ {
		if missing := Missing(all[i].Rules, all[i-1].Rules); len(missing) > 0 {
			t.Errorf("%s lacks of %s: %+v", all[i].Name, all[i-1].Name, missing)
		}
		if missing := Missing(all[i-1].Rules, all[i].Rules); len(missing) == 0 {
			t.Errorf("%s is no more than %s", all[i].Name, all[i-1].Name)
		}
	}
	for _, r := range all {
		if errs := append(CheckName(r.Name), CheckRules(r.Rules, false)...); len(errs) > 0 {
			t.Errorf("%s: %v", r.Name, errs)
		}
	}
}

func TestChecks(t *testing.T) {
	if errs := CheckRules([]rbacv1.PolicyRule{{}, {Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}, Resources: []string{"apps"}}}, true); len(errs) != 5 {
		t.Errorf("bad rules: %v", errs)
	}
	good := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:x"}
	for _, c := range []struct {
		ref        rbacv1.RoleRef
		subject    rbacv1.Subject
		namespaced bool
		old        *rbacv1.RoleRef
		want       string
	}{
		{good, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "ann"}, true, &good, ""},
		{good, rbacv1.Subject{Kind: "ServiceAccount", Name: "bot", Namespace: "a"}, false, nil, ""},
		{rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "x"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "bot", Namespace: "a"}, false, nil, "roleRef.kind"},
		{rbacv1.RoleRef{Kind: "Role", Name: "x"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "bot", Namespace: "a"}, true, nil, "roleRef.apiGroup"},
		{rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "../x"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "bot", Namespace: "a"}, true, nil, "roleRef.name"},
		{good, rbacv1.Subject{Kind: "ServiceAccount", Name: "bot"}, true, nil, "subjects[0].namespace"},
		{good, rbacv1.Subject{Kind: "ServiceAccount", Name: "BOT", Namespace: "a"}, true, nil, "subjects[0].name"},
		{good, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName}, true, nil, "subjects[0].name"},
		{good, rbacv1.Subject{Kind: "Group", Name: "x"}, true, nil, "subjects[0].apiGroup"},
		{good, rbacv1.Subject{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "x", Namespace: "a"}, true, nil, "subjects[0].namespace"},
		{good, rbacv1.Subject{Kind: "Robot", Name: "x"}, true, nil, "subjects[0].kind"},
		{good, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "ann"}, true, &rbacv1.RoleRef{Kind: "Role"}, "roleRef"},
	} {
		errs := CheckBinding(c.ref, []rbacv1.Subject{c.subject}, c.namespaced, c.old)
		switch {
		case c.want == "" && len(errs) > 0:
			t.Errorf("%+v %+v: %v", c.ref, c.subject, errs)
		case c.want != "" && (len(errs) != 1 || errs[0].Field != c.want):
			t.Errorf("%+v %+v: %v, want one about %s", c.ref, c.subject, errs, c.want)
		}
	}
	ref, subjects := rbacv1.RoleRef{Kind: "ClusterRole", Name: "x"}, []rbacv1.Subject{{Kind: "User", Name: "u"}, {Kind: "ServiceAccount", Name: "s", Namespace: "n"}}
	Default(&ref, subjects)
	if errs := CheckBinding(ref, subjects, true, nil); len(errs) > 0 {
		t.Errorf("what was filled in is refused: %v", errs)
	}
}

func someRules() *rapid.Generator[[]rbacv1.PolicyRule] {
	pick := func(of ...string) *rapid.Generator[[]string] {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, 3, rapid.ID[string])
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: pick("get", "list", "create", "*").Draw(t, "verbs"), APIGroups: pick("", padis, live, "*").Draw(t, "groups"),
			Resources: pick("apps", "apps/scale", "secrets", "*", "*/scale").Draw(t, "resources"), ResourceNames: rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y"}), 0, 1).Draw(t, "names")}
	}), 0, 4)
}

func someRequest() *rapid.Generator[Request] {
	return rapid.Custom(func(t *rapid.T) Request {
		return Request{Verb: rapid.SampledFrom([]string{"get", "list", "create"}).Draw(t, "verb"), Group: rapid.SampledFrom([]string{"", padis, live}).Draw(t, "group"),
			Resource: rapid.SampledFrom([]string{"apps", "apps/scale", "secrets"}).Draw(t, "resource"), Name: rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "name"),
			Namespace: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "namespace")}
	})
}

// Who lacks nothing to grant rules can do whatever who has these rules can.
func TestNobodyGainsByAGrantThatIsAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want, r := someRules().Draw(t, "have"), someRules().Draw(t, "want"), someRequest().Draw(t, "request")
		who := func(rules []rbacv1.PolicyRule) *Policy {
			return New(Objects{ClusterRoles: []*rbacv1.ClusterRole{clusterRole("r", rules...)}, RoleBindings: []*rbacv1.RoleBinding{binding("a", "ClusterRole", "r", rbacv1.Subject{Kind: "User", Name: "u"})}})
		}
		u := Subject{User: "u"}
		if len(Missing(have, want)) == 0 && who(want).Allows(u, r) && !who(have).Allows(u, r) {
			t.Fatalf("%+v lets do %+v, which %+v does not", want, r, have)
		}
		if r.Namespace != "a" && who(have).Allows(u, r) {
			t.Fatalf("a RoleBinding in a lets do %+v", r)
		}
	})
}

// What is allowed depends on what there is, and not on its order.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two, r := someRules().Draw(t, "one"), someRules().Draw(t, "two"), someRequest().Draw(t, "request")
		o := Objects{ClusterRoles: []*rbacv1.ClusterRole{clusterRole("one", one...), clusterRole("two", two...)}, RoleBindings: []*rbacv1.RoleBinding{
			binding("a", "ClusterRole", "one", rbacv1.Subject{Kind: "User", Name: "u"}), binding("a", "ClusterRole", "two", rbacv1.Subject{Kind: "Group", Name: "g"})}}
		u := Subject{User: "u", Groups: []string{"g"}}
		before := New(o).Allows(u, r)
		slices.Reverse(o.ClusterRoles)
		slices.Reverse(o.RoleBindings)
		if New(o).Allows(u, r) != before {
			t.Fatalf("%+v: %v in one order only", r, before)
		}
	})
}

func BenchmarkAllows(b *testing.B) {
	o := Objects{}
	for _, r := range Defaults() {
		o.ClusterRoles = append(o.ClusterRoles, &r)
	}
	for range 1000 {
		o.RoleBindings = append(o.RoleBindings, binding("a", "ClusterRole", "edit", rbacv1.Subject{Kind: "Group", Name: "others"}))
	}
	o.RoleBindings = append(o.RoleBindings, binding("a", "ClusterRole", "admin", rbacv1.Subject{Kind: "User", Name: "u"}))
	p, u := New(o), Subject{User: "u", Groups: []string{Authenticated}}
	for b.Loop() {
		if !p.Allows(u, Request{Verb: "update", Group: rbacv1.GroupName, Resource: "roles", Namespace: "a", Name: "x"}) {
			b.Fatal("refused")
		}
	}
}
