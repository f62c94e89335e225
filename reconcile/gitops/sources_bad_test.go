package gitops_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/source/sourcetest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// thousand files with a ConfigMap each, as names and contents.
func thousand() []string {
	var out []string
	for i := range 1000 {
		name := fmt.Sprintf("c%03d", i)
		out = append(out, "many/"+name+".yaml", configMap(name, "1"))
	}
	return out
}

// What cannot be taken is named with file and line, nothing of its commit is applied, and what was applied is kept in force.
func TestBadInput(t *testing.T) {
	w := sourcetest.NewWork(t)
	good := w.Commit("a.yaml", configMap("a", "1"))
	other := "t" + w.Git("rev-parse", "--short=20", "HEAD")
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL}, nil)
	o.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: other}})
	o.create(&corev1.ServiceAccount{ObjectMeta: meta(o.ns, "bot")})
	o.create(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": map[string]any{"namespace": o.ns, "name": "bot"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": o.ns, "name": "bot"}}}})
	o.synced(v1alpha1.SyncSpec{ServiceAccount: "bot"})
	o.applied(good)
	secret := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(secret, []byte(configMap("hunter2", "hunter2")), 0o600); err != nil {
		t.Fatal(err)
	}
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	for _, c := range []struct {
		name, reason string
		files        []string
		links        map[string]string
		says         []string
	}{
		{name: "broken YAML in one of a thousand files", reason: "ManifestsBroken", files: append(thousand(), "many/c500.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c500}\ndata: [\n"), says: []string{"many/c500.yaml:4"}},
		{name: "one object in two files", reason: "ManifestsBroken", files: []string{"one/x.yaml", configMap("x", "1"), "two/z.yaml", configMap("z", "1") + "---\n" + configMap("x", "2")}, says: []string{"one/x.yaml:1", "two/z.yaml:6", "ConfigMap"}},
		{name: "an object of another tenant", reason: "Refused", files: []string{"theirs.yaml", strings.Replace(configMap("theirs", "1"), "{name: theirs}", "{name: theirs, namespace: "+other+"}", 1)}, says: []string{"theirs.yaml:1", "forbidden", other}},
		{name: "a link out of the tree", reason: "ManifestsBroken", links: map[string]string{"dir/link.yaml": "../../../../../../../.." + secret}, says: []string{"dir/link.yaml", "symbolic link"}},
		{name: "a link to a file of the host", reason: "ManifestsBroken", links: map[string]string{"dir/link.yaml": secret}, says: []string{"dir/link.yaml", "symbolic link"}},
		{name: "a link to itself", reason: "ManifestsBroken", links: map[string]string{"dir/link.yaml": "link.yaml"}, says: []string{"dir/link.yaml", "circle"}},
		{name: "a bomb of aliases", reason: "ManifestsBroken", files: []string{"bomb.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  key: |\n    x\n" + bomb}, says: []string{"bomb.yaml:", "aliases expanded"}},
		{name: "a huge file", reason: "ManifestsBroken", files: []string{"huge.yaml", configMap("huge", strings.Repeat("x", 11<<20))}, says: []string{"huge.yaml", "bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := *o
			at.bed = &bed{t, o.ns, o.dir}
			for name, to := range c.links {
				w.Link(name, to)
			}
			bad := at.commit(append(c.files, "a.yaml", configMap("a", "2"), "new.yaml", configMap("new", "1"))...)
			y := at.until(c.reason+" because of "+bad, func(y *v1alpha1.Sync) bool {
				return ready(y).Reason == c.reason && strings.Contains(ready(y).Message, bad)
			})
			m := ready(y).Message
			for _, word := range c.says {
				if !strings.Contains(m, word) {
					t.Errorf("%q does not say %q", m, word)
				}
			}
			if strings.Contains(m, "hunter2") {
				t.Errorf("%q tells what the host has", m)
			}
			if y.Status.LastAppliedCommit != good {
				t.Errorf("%s is applied and not %s", y.Status.LastAppliedCommit, good)
			}
			for _, name := range []string{"new", "c000", "x", "z", "theirs", "hunter2", "huge", "bomb"} {
				if m, err := at.config(name); err == nil {
					t.Errorf("%s was made: %v", name, m)
				}
			}
			if a, err := at.config("a"); err != nil || a.Data["key"] != "1" {
				t.Errorf("a is %v, %v", a.Data, err)
			}
			w.Git("revert", "--no-edit", "HEAD")
			good = w.Head()
			at.poke()
			at.applied(good)
			at.stays(good, "a", "1")
		})
	}
}
