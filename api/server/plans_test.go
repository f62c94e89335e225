package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"padis.io/padis/api/plan"
)

// fakePlanner has each object made or changed, and something happen in two namespaces.
type fakePlanner struct{}

func (fakePlanner) Plan(_ context.Context, changes []PlannedChange) (*plan.Plan, error) {
	p := &plan.Plan{Version: plan.Version, World: "w", Apps: []plan.App{{Namespace: "plan-a", Name: "web"}, {Namespace: "plan-b", Name: "web"}},
		Addresses: []plan.Address{{To: "plan-a/web-0", Address: "192.0.2.1"}, {To: "plan-a/web-1", From: "plan-b/web-0", Address: "192.0.2.2"},
			{From: "loadbalancer plan-b/front", Address: "192.0.2.3"}}}
	for _, c := range changes {
		o, action := c.After, plan.Update
		switch {
		case c.After == nil:
			o, action = c.Before, plan.Delete
			p.Objects = append(p.Objects, plan.Object{Kind: "Secret", Namespace: "plan-a", Name: "implied", Action: action, Because: "goes with it"})
		case c.Before == nil:
			action = plan.Create
		}
		p.Objects = append(p.Objects, plan.Object{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), Action: action, Refusals: c.Refusals})
	}
	return p, nil
}

func question(t *testing.T, objects ...string) []byte {
	t.Helper()
	var proposals []plan.Proposal
	for _, o := range objects {
		proposals = append(proposals, plan.Proposal{Object: json.RawMessage(o)})
	}
	b, err := plan.EncodeQuestion(proposals)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// deletions asks what would happen if objects were deleted.
func deletions(t *testing.T, objects ...string) []byte {
	t.Helper()
	var proposals []plan.Proposal
	for _, o := range objects {
		proposals = append(proposals, plan.Proposal{Object: json.RawMessage(o), Delete: true})
	}
	b, err := plan.EncodeQuestion(proposals)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	planApp    = `{"apiVersion":"padis.io/v1alpha1","kind":"App","metadata":{"name":"web","namespace":"plan-a"},"spec":{"replicas":1,"template":{"command":["x"]}}}`
	planConfig = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"web","namespace":"plan-a"}}`
	planPool   = `{"apiVersion":"padis.io/v1alpha1","kind":"IPPool","metadata":{"name":"web"},"spec":{"network":"n","cidr":"192.0.2.0/24"}}`
)

// Who may plan is who may apply; and nobody sees more in a plan than he may see.
func TestWhoMayPlanWhat(t *testing.T) {
	kc(t, "", "create", "namespace", "plan-a")
	kc(t, "", "create", "namespace", "plan-b")
	kc(t, "", "create", "configmap", "web", "-n", "plan-a")
	kc(t, "", "create", "rolebinding", "editor", "-n", "plan-a", "--clusterrole=edit", "--user=plan-editor")
	kc(t, "", "create", "rolebinding", "viewer", "-n", "plan-a", "--clusterrole=view", "--user=plan-viewer")
	kc(t, "", "create", "role", "creator", "-n", "plan-a", "--verb=get,create", "--resource=configmaps")
	kc(t, "", "create", "rolebinding", "creator", "-n", "plan-a", "--role=creator", "--user=plan-creator")
	elsewhere := strings.Replace(planApp, "plan-a", "plan-b", 1)
	fresh := strings.Replace(planConfig, `"web"`, `"fresh"`, 1)
	all := func(ask ...string) []string { return ask }
	for _, c := range []struct {
		user string
		ask  []string
		code int
		want string
	}{
		{"", all(planApp, planConfig, planPool, elsewhere), http.StatusOK, `"action":"update"`},
		{"plan-editor", all(planApp, planConfig), http.StatusOK, `"action":"create"`},
		{"plan-editor", all(planApp, planPool), http.StatusForbidden, "ippools"},
		{"plan-editor", all(elsewhere), http.StatusForbidden, "plan-b"},
		{"plan-viewer", all(planApp), http.StatusForbidden, "to plan it, create must be allowed"},
		{"plan-viewer", all(planConfig), http.StatusForbidden, "to plan it, patch must be allowed"},
		{"plan-creator", all(fresh), http.StatusOK, `"action":"create"`},
		{"plan-creator", all(planConfig), http.StatusForbidden, "patch"},
		{"plan-nobody", all(planApp), http.StatusForbidden, "to plan it, get must be allowed"},
	} {
		var header []string
		if c.user != "" {
			header = []string{"Impersonate-User", c.user}
		}
		eventually(t, c.user+" plans", func() (bool, error) { // Grants take a moment.
			code, _ := do(t, adminClient(t), http.MethodPost, planPath, "application/json", question(t, c.ask...), header...)
			return code == c.code, nil
		})
		code, out := do(t, adminClient(t), http.MethodPost, planPath, "application/json", question(t, c.ask...), header...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d %s", c.user, code, out)
		}
		if c.user == "plan-editor" && code == http.StatusOK && (strings.Contains(out, "plan-b") || !strings.Contains(out, "192.0.2.1")) {
			t.Errorf("an editor of plan-a sees %s", out)
		}
		if c.user == "" && strings.Count(out, `"namespace":"plan-b"`) != 2 {
			t.Errorf("the administrator sees %s", out)
		}
	}
	if out := kc(t, "", "get", "apps", "-n", "plan-a", "-o", "name"); out != "" {
		t.Errorf("planning wrote %s", out)
	}
	if code, out := do(t, strangerClient(), http.MethodPost, planPath, "application/json", question(t, planApp)); code != http.StatusUnauthorized {
		t.Errorf("a stranger plans: %d %s", code, out)
	}
}

// Who may plan a deletion is who may delete; what goes with it is seen by who may see it.
func TestWhoMayPlanDeletions(t *testing.T) {
	kc(t, "", "create", "namespace", "plan-d")
	kc(t, "", "create", "configmap", "web", "-n", "plan-d")
	kc(t, "", "create", "rolebinding", "viewer", "-n", "plan-d", "--clusterrole=view", "--user=plan-d-viewer")
	kc(t, "", "create", "role", "deleter", "-n", "plan-d", "--verb=get,delete", "--resource=configmaps")
	kc(t, "", "create", "rolebinding", "deleter", "-n", "plan-d", "--role=deleter", "--user=plan-d-deleter")
	there := strings.Replace(planConfig, "plan-a", "plan-d", 1)
	for _, c := range []struct {
		user, object string
		code         int
		want, not    string
	}{
		{"", there, http.StatusOK, "implied", "403"},
		{"plan-d-deleter", there, http.StatusOK, `"action":"delete"`, "implied"},
		{"plan-d-viewer", there, http.StatusForbidden, "to plan it, delete must be allowed", "implied"},
		{"plan-d-nobody", there, http.StatusForbidden, "to plan it, get must be allowed", "implied"},
		{"", strings.Replace(there, `"web"`, `"gone"`, 1), http.StatusNotFound, "gone", "implied"},
		{"", strings.Replace(there, `"name":"web"`, `"name":"web","uid":"another"`, 1), http.StatusConflict, "another object by now", "implied"},
	} {
		var header []string
		if c.user != "" {
			header = []string{"Impersonate-User", c.user}
		}
		eventually(t, c.user+" plans a deletion", func() (bool, error) { // Grants take a moment.
			code, _ := do(t, adminClient(t), http.MethodPost, planPath, "application/json", deletions(t, c.object), header...)
			return code == c.code, nil
		})
		if _, out := do(t, adminClient(t), http.MethodPost, planPath, "application/json", deletions(t, c.object), header...); !strings.Contains(out, c.want) || strings.Contains(out, c.not) {
			t.Errorf("%s: %s", c.user, out)
		}
	}
	if out := kc(t, "", "get", "configmap", "web", "-n", "plan-d", "-o", "name"); out == "" {
		t.Error("planning has deleted it")
	}
}

func TestWhatCannotBePlanned(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want string
	}{
		"no question":      {"kind: App", "ask with padis plan"},
		"another version":  {`{"version":99}`, "version is 99"},
		"unknown field":    {`{"version":1,"dryRun":false}`, "dryRun"},
		"nothing proposed": {`{"version":1,"proposals":[{}]}`, "proposals[0].object is empty"},
		"two questions":    {`{"version":1}{"version":1}`, "something follows"},
		"no object":        {`{"version":1,"proposals":[{"object":3}]}`, "proposals[0].object"},
		"unknown kind":     {string(question(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","namespace":"default"}}`)), "Pod"},
		"no name":          {string(question(t, strings.Replace(planApp, `"name":"web",`, "", 1))), "metadata.name"},
		"no namespace":     {string(question(t, strings.Replace(planApp, `,"namespace":"plan-a"`, "", 1))), "metadata.namespace"},
		"a namespace":      {string(question(t, strings.Replace(planPool, `"name":"web"`, `"name":"web","namespace":"a"`, 1))), "in none"},
		"a projection":     {string(question(t, `{"apiVersion":"runtime.padis.io/v1alpha1","kind":"Instance","metadata":{"name":"x","namespace":"default"}}`)), "only shows what is"},
		"twice":            {string(question(t, planConfig, planConfig)), "twice"},
		"a path":           {string(question(t, strings.Replace(planConfig, `"name":"web"`, `"name":"../../secrets"`, 1))), "name"},
	} {
		if code, out := do(t, adminClient(t), http.MethodPost, planPath, "application/json", []byte(c.body)); code != http.StatusBadRequest || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d %s", name, code, out)
		}
	}
	if code, _ := do(t, adminClient(t), http.MethodPut, planPath, "application/json", question(t, planApp)); code != http.StatusMethodNotAllowed {
		t.Errorf("PUT is answered with %d", code)
	}
}
