package gitops_test

import (
	"context"
	"os"
	"testing"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestReportedDriftStays(t *testing.T) {
	two := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: \"1\", more: \"1\"}\n"
	b := newBed(t, map[string]string{"a.yaml": two, "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Drift: v1alpha1.DriftReport})
	b.applied(b.git("rev-parse", "HEAD"))
	b.hand("a", "other")
	changed, err := b.config("a")
	if err != nil {
		t.Fatal(err)
	}
	reported := func(what string) {
		b.Helper()
		b.until("reported "+what, func(y *v1alpha1.Sync) bool {
			if len(y.Status.Drift) != 1 || !says(ready(y).Message, "1 field was changed by others") {
				return false
			}
			if ready(y).Reason != "Drifted" || !says(ready(y).Message, "configmap/"+b.ns+"/a data.key by hand") {
				return false
			}
			d := y.Status.Drift[0]
			return d.Object == "configmap/"+b.ns+"/a" && d.Path == "data.key" && d.Want == "1" && d.Is == "other" && d.By == "hand" && !d.At.IsZero()
		})
	}
	reported("at first")
	if a, err := b.config("a"); err != nil || a.ResourceVersion != changed.ResourceVersion {
		t.Errorf("a was written: %v %v", a, err)
	}
	// A commit changes another field of the object, and later ones others: it is still told.
	more := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: \"1\", more: \"2\"}\n"
	b.applied(b.push(map[string]string{"a.yaml": more}))
	b.applied(b.push(map[string]string{"b.yaml": configMap("b", "2")}))
	b.hand("b", "2")
	reported("after commits")
	if a, err := b.config("a"); err != nil || a.Data["key"] != "other" || a.Data["more"] != "2" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
	b.want(func(y *v1alpha1.Sync) { y.Spec.Drift = v1alpha1.DriftCorrect })
	b.holds("a", "1")
	b.until("in order", func(y *v1alpha1.Sync) bool { return len(y.Status.Drift) == 0 })
}

// An attempt that fails for another reason does not make forget what others have changed.
func TestDriftIsNotForgottenInAFailedAttempt(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Retry: never})
	b.applied(b.git("rev-parse", "HEAD"))
	b.push(map[string]string{"bad.yaml": configMap("Not_A_Name", "1")})
	b.reason("Refused", "bad.yaml:1")
	b.hand("a", "other")
	b.want(func(y *v1alpha1.Sync) { y.Spec.Variables = []v1alpha1.SyncVariable{{Name: "X", Value: "y"}} })
	b.until("tried again", func(y *v1alpha1.Sync) bool {
		return y.Status.ObservedGeneration == y.Generation && ready(y).Reason == "Refused"
	})
	b.applied(b.push(map[string]string{"bad.yaml": ""}))
	b.holds("a", "1")
}

func TestSettingsOfASync(t *testing.T) {
	key, err := os.ReadFile("render/sops/testdata/key.txt")
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := os.ReadFile("render/sops/testdata/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b := newBed(t, map[string]string{
		"k/kustomization.yaml": "namePrefix: my-\nresources: [a.yaml]\n", "k/a.yaml": configMap("a", "${WHO} ${WORD:-none}"),
		"secret.yaml": string(encrypted),
	}, v1alpha1.SyncSpec{Path: "k", Variables: []v1alpha1.SyncVariable{
		{ConfigMapRef: &v1alpha1.ConfigMapReference{Name: "names"}}, {SecretRef: &v1alpha1.SecretReference{Name: "words"}, Optional: true},
	}})
	b.reason("SettingsUnreadable", "spec.variables[0]", "configmap "+b.ns+"/names")
	names := &corev1.ConfigMap{ObjectMeta: meta(b.ns, "names"), Data: map[string]string{"WHO": "I"}}
	b.create(names)
	b.holds("my-a", "I none")
	words := &corev1.Secret{ObjectMeta: meta(b.ns, "words"), Data: map[string][]byte{"WORD": []byte("x")}}
	b.create(words)
	b.holds("my-a", "I x")
	names.Data["WHO"], words.Data["WORD"] = "You", []byte("y")
	for _, o := range []client.Object{names, words} {
		if err := api.Update(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	b.holds("my-a", "You y")

	// What sops has encrypted is for the namespace shop.
	b.create(&corev1.Secret{ObjectMeta: meta(b.ns, "keys"), Data: map[string][]byte{"a.agekey": key}})
	shop := "shop"
	if err := api.Create(context.Background(), &corev1.Namespace{ObjectMeta: meta("", shop)}); client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	b.allow("deployer", shop, "", "secrets", "get,create,patch")
	b.want(func(y *v1alpha1.Sync) {
		y.Spec = v1alpha1.SyncSpec{SourceRef: y.Spec.SourceRef, Path: "secret.yaml", ServiceAccount: "deployer", TargetNamespace: "elsewhere", DecryptionSecretRef: &v1alpha1.SecretReference{Name: "keys"}}
	})
	b.reason("ManifestsBroken", "secret.yaml:", "elsewhere")
	b.want(func(y *v1alpha1.Sync) { y.Spec.TargetNamespace = shop })
	b.until("applied", func(y *v1alpha1.Sync) bool { return ready(y).Status == "True" })
	s := &corev1.Secret{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: shop, Name: "database"}, s); err != nil || string(s.Data["password"]) != "correct horse" {
		t.Errorf("the secret has %d keys, %v", len(s.Data), err)
	}
}

// Who changes a field again as soon as it is put back is waited for, and named; others are not.
func TestWhoGoesOnIsWaitedFor(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{})
	b.applied(b.git("rev-parse", "HEAD"))
	b.until("contested", func(y *v1alpha1.Sync) bool {
		if b.value("a") == "1" {
			b.hand("a", "other")
		}
		return ready(y).Reason == "DriftContested" && len(y.Status.Drift) == 1 &&
			says(y.Status.Drift[0].Contest, "hand has changed data.key of configmap/"+b.ns+"/a ", " times since ", "; it is put back again at ")
	})
	b.heard(" DriftContested ", "hand has changed data.key of configmap/"+b.ns+"/a ", " times since ", "; it is put back again at ")
	b.hand("b", "other")
	b.holds("b", "1")
	b.holds("a", "1")
	b.until("said", func(y *v1alpha1.Sync) bool {
		return len(y.Status.Drift) == 0 && says(ready(y).Message, "hand has changed data.key", "; it was put back at ")
	})
	// A commit does not wait.
	b.hand("a", "other")
	b.applied(b.push(map[string]string{"b.yaml": configMap("b", "2")}))
	b.holds("a", "1")
}
