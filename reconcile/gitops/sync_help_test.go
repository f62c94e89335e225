package gitops_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// heard waits for an event of the Sync that says all of these.
func (b *bed) heard(words ...string) {
	b.Helper()
	b.wait("heard of "+strings.Join(words, ", "), func() string {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		var mine []string
		for _, e := range seen.lines {
			if strings.HasPrefix(e, b.ns+"/shop ") {
				mine = append(mine, e)
				if says(e, words...) {
					return ""
				}
			}
		}
		return strings.Join(mine, "\n")
	})
}

func says(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// declare creates what YAML says.
func (b *bed) declare(text string) {
	b.Helper()
	for _, doc := range strings.Split(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			b.Fatal(err)
		}
		b.create(u)
	}
}

// account makes a service account of the bed's namespace, unless it is there.
func (b *bed) account(name string) {
	b.Helper()
	if err := api.Create(context.Background(), &corev1.ServiceAccount{ObjectMeta: meta(b.ns, name)}); client.IgnoreAlreadyExists(err) != nil {
		b.Fatal(err)
	}
}

// allow gives a service account of the bed's namespace rights on some resources of a namespace.
func (b *bed) allow(account, namespace, group, resources, verbs string) {
	b.Helper()
	b.account(account)
	name := account + "-" + strings.Split(resources, ",")[0]
	b.declare(fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: %[1]s, name: %[2]s}
rules: [{apiGroups: [%[3]q], resources: [%[4]s], verbs: [%[5]s]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: %[1]s, name: %[2]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[2]s}
subjects: [{kind: ServiceAccount, namespace: %[6]s, name: %[7]s}]`, namespace, name, group, resources, verbs, b.ns, account))
}

// want changes the Sync.
func (b *bed) want(f func(y *v1alpha1.Sync)) {
	b.Helper()
	b.wantOf("shop", f)
}

func (b *bed) syncOf(name string) *v1alpha1.Sync {
	b.Helper()
	y := &v1alpha1.Sync{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: name}, y); err != nil {
		b.Fatal(err)
	}
	return y
}

func (b *bed) wantOf(name string, f func(y *v1alpha1.Sync)) {
	b.Helper()
	b.wait("changed", func() string {
		y := b.syncOf(name)
		was := y.DeepCopy()
		f(y)
		if err := api.Patch(context.Background(), y, client.MergeFrom(was)); err != nil {
			return err.Error()
		}
		return ""
	})
}

// reason waits until the Sync is not ready for a reason, and says all of these.
func (b *bed) reason(reason string, words ...string) *v1alpha1.Sync {
	b.Helper()
	return b.until(reason+" "+strings.Join(words, ", "), func(y *v1alpha1.Sync) bool {
		c := ready(y)
		return c.Status == metav1.ConditionFalse && c.Reason == reason && says(c.Message, words...)
	})
}

// holds waits until a ConfigMap has a value; the empty one if it shall not be there.
func (b *bed) holds(name, value string) {
	b.Helper()
	b.wait(name+" holds "+value, func() string {
		if got := b.value(name); got != value {
			return fmt.Sprintf("it has %q; %+v", got, b.sync().Status)
		}
		return ""
	})
}

func (b *bed) value(name string) string {
	b.Helper()
	m, err := b.config(name)
	if client.IgnoreNotFound(err) != nil {
		b.Fatal(err)
	}
	return m.Data["key"]
}

// hand changes a ConfigMap as people do.
func (b *bed) hand(name, value string) {
	b.Helper()
	m, err := b.config(name)
	if err != nil {
		b.Fatal(err)
	}
	m.Data["key"] = value
	if err := api.Update(context.Background(), m, client.FieldOwner("hand")); err != nil {
		b.Fatal(err)
	}
}

// audit waits for a line of the audit log that says all of these.
func (b *bed) audit(words ...string) {
	b.Helper()
	b.wait("in the audit log: "+strings.Join(words, ", "), func() string {
		text, err := os.ReadFile(auditLog)
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(text)) {
			if says(line, words...) {
				return ""
			}
		}
		return "there is no such line"
	})
}

func in(wave, yaml string) string {
	return strings.Replace(yaml, "metadata: {", "metadata: {annotations: {padis.io/wave: \""+wave+"\"}, ", 1)
}

func app(name string) string {
	return fmt.Sprintf("apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec:\n  replicas: 1\n  template:\n    command: [sleep, \"1000\"]\n", name)
}

// fares has an App be available or not, as its reconciler would say.
func (b *bed) fares(name string, available bool) *v1alpha1.App {
	b.Helper()
	a := &v1alpha1.App{}
	b.wait(name+" says how it fares", func() string {
		if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: name}, a); err != nil {
			return err.Error()
		}
		was := a.DeepCopy()
		c := metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionFalse, Reason: "Test", Message: "not yet", LastTransitionTime: metav1.Now()}
		if available {
			c.Status, c.Message = metav1.ConditionTrue, ""
		}
		a.Status.ObservedGeneration, a.Status.Conditions = a.Generation, []metav1.Condition{c}
		if err := api.Status().Patch(context.Background(), a, client.MergeFrom(was)); err != nil {
			return err.Error()
		}
		return ""
	})
	return a
}

// vouch has commits count only that somebody has signed, and nobody may.
func (b *bed) vouch() *v1alpha1.GitSource {
	b.Helper()
	b.create(&corev1.ConfigMap{ObjectMeta: meta(b.ns, "signers"), Data: map[string]string{"keys": ""}})
	s := &v1alpha1.GitSource{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "shop"}, s); err != nil {
		b.Fatal(err)
	}
	was := s.DeepCopy()
	s.Spec.Verify = &v1alpha1.GitVerify{Mode: v1alpha1.VerifyCommit, Signers: []v1alpha1.GitSigner{{Type: v1alpha1.SignerSSH, ConfigMapKeyRef: &v1alpha1.KeyReference{Name: "signers", Key: "keys"}}}}
	if err := api.Patch(context.Background(), s, client.MergeFrom(was)); err != nil {
		b.Fatal(err)
	}
	return s
}
