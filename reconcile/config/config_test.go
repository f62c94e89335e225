package config

import (
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

const full = `
metadata: {name: web, namespace: shop}
spec:
  template:
    image: shop:1
    imagePullSecrets: [{name: pull}]
    envFrom:
    - configMapRef: {name: settings}
    - {prefix: DB_, secretRef: {name: db}}
    - configMapRef: {name: nowhere, optional: true}
    env:
    - {name: A, value: "1"}
    - {name: colour, value: own}
    - {name: B, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: C, valueFrom: {secretKeyRef: {name: db, key: password}}}
    - {name: D, valueFrom: {secretKeyRef: {name: db, key: other, optional: true}}}
    volumes:
    - {name: a, mountPath: /a, configMap: {name: settings, items: [{key: colour, path: c}]}}
    - {name: b, mountPath: /b, secret: {name: db}}
    - {name: c, mountPath: /c, configMap: {name: settings, items: [{key: size, path: s}]}}
    - {name: d, mountPath: /d, emptyDir: {}}
`

func read(t *testing.T, text string) *v1alpha1.App {
	t.Helper()
	var a v1alpha1.App
	if err := yaml.UnmarshalStrict([]byte(text), &a); err != nil {
		t.Fatal(err)
	}
	return &a
}

func there() Objects {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "shop", Name: name} }
	return Objects{
		{ConfigMap, "shop", "settings"}: OfConfigMap(&corev1.ConfigMap{ObjectMeta: meta("settings"),
			Data: map[string]string{"colour": "red", "size": "5"}, BinaryData: map[string][]byte{"spare": []byte("x")}}),
		{Secret, "shop", "db"}: OfSecret(&corev1.Secret{ObjectMeta: meta("db"), Data: map[string][]byte{"password": []byte("p")}}),
		{Secret, "shop", "pull"}: OfSecret(&corev1.Secret{ObjectMeta: meta("pull"), Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{".dockerconfigjson": []byte(`{"auths":{"b":{"username":"u","password":"p"},"a":{"identitytoken":"t"}}}`)}}),
	}
}

func TestRefs(t *testing.T) {
	want := "[configmap/nowhere configmap/settings secret/db secret/pull]"
	if got := fmt.Sprint(Refs(read(t, full))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWhatTravels(t *testing.T) {
	a, objects := read(t, full), there()
	env, p := Env(a, objects)
	if p != nil {
		t.Fatal(p)
	}
	var got []string
	for _, e := range env {
		got = append(got, e.Name+"="+e.Value)
	}
	if want := "colour=own size=5 spare=x DB_password=p A=1 B=red C=p"; strings.Join(got, " ") != want {
		t.Errorf("env %s, want %s", got, want)
	}
	data, p := Data(a, objects)
	if p != nil || len(data) != 2 || data[0].Name != "configmap/settings" || data[1].Name != "secret/db" {
		t.Fatalf("%v, %v", data, p)
	}
	if got := fmt.Sprint(data[0].Data); got != "map[colour:[114 101 100] size:[53]]" {
		t.Errorf("only what is shown travels, not %s", got)
	}
	if want := "4b7976f50baac12fa7156ca9b2ded1dcf74d2a93e404c694d622621cb12d7312"; Hash(map[string][]byte{"colour": []byte("red")}) != want {
		t.Errorf("hash %s, want %s: instances that restart on changes would all restart at an upgrade. Do not change how it is made.", Hash(map[string][]byte{"colour": []byte("red")}), want)
	}
	auths, p := Auths("x", "shop", a.Spec.Template.ImagePullSecrets, objects)
	if p != nil || len(auths) != 2 || auths[0].Registry != "a" || auths[0].IdentityToken != "t" || auths[1].Username != "u" {
		t.Errorf("%v, %v", auths, p)
	}
}

func TestWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name, reason, want string
		spoil              func(*v1alpha1.App, Objects)
	}{
		{"config map", padisv1.ReasonConfigNotFound, `spec.template.envFrom[0].configMapRef: there is no ConfigMap "settings" in namespace shop: create it`,
			func(_ *v1alpha1.App, o Objects) { delete(o, Ref{ConfigMap, "shop", "settings"}) }},
		{"secret of a variable", padisv1.ReasonConfigNotFound, `spec.template.env[3].valueFrom.secretKeyRef.name: there is no Secret "db" in namespace shop`,
			func(a *v1alpha1.App, o Objects) { a.Spec.Template.EnvFrom = nil; delete(o, Ref{Secret, "shop", "db"}) }},
		{"key of a variable", padisv1.ReasonConfigNotFound, `spec.template.env[2].valueFrom.configMapKeyRef.key: ConfigMap "settings" in namespace shop has no key "none": add it, or name one that is there (colour, size, spare)`,
			func(a *v1alpha1.App, _ Objects) { a.Spec.Template.Env[2].ValueFrom.ConfigMapKeyRef.Key = "none" }},
		{"config map of another namespace", padisv1.ReasonConfigNotFound, `in namespace bank`,
			func(a *v1alpha1.App, _ Objects) { a.Namespace = "bank" }},
		{"secret of a volume", padisv1.ReasonConfigNotFound, `spec.template.volumes[1].secret.name: there is no Secret "none"`,
			func(a *v1alpha1.App, _ Objects) { a.Spec.Template.Volumes[1].Secret.Name = "none" }},
		{"key of a volume", padisv1.ReasonConfigNotFound, `spec.template.volumes[0].configMap.items[0].key: ConfigMap "settings" in namespace shop has no key "none"`,
			func(a *v1alpha1.App, _ Objects) { a.Spec.Template.Volumes[0].ConfigMap.Items[0].Key = "none" }},
		{"credentials", padisv1.ReasonConfigNotFound, `spec.template.imagePullSecrets[0].name: there is no Secret "pull"`,
			func(_ *v1alpha1.App, o Objects) { delete(o, Ref{Secret, "shop", "pull"}) }},
		{"credentials of another type", padisv1.ReasonInvalid, `spec.template.imagePullSecrets[0].name: Secret "db" in namespace shop is of type ""`,
			func(a *v1alpha1.App, _ Objects) { a.Spec.Template.ImagePullSecrets[0].Name = "db" }},
		{"a key that is no name", padisv1.ReasonInvalid, `spec.template.envFrom[0].configMapRef: key "a.b" of ConfigMap "settings" makes "a.b", which is no name of a variable`,
			func(_ *v1alpha1.App, o Objects) { o[Ref{ConfigMap, "shop", "settings"}].Data["a.b"] = nil }},
		{"a value that is no text", padisv1.ReasonInvalid, `key "password" of Secret "db" has bytes that are no text: show it as a file`,
			func(_ *v1alpha1.App, o Objects) { o[Ref{Secret, "shop", "db"}].Data["password"] = []byte{0xff} }},
		{"no source", padisv1.ReasonInvalid, `spec.template.env[2].valueFrom: set exactly one of`,
			func(a *v1alpha1.App, _ Objects) { a.Spec.Template.Env[2].ValueFrom = &v1alpha1.EnvSource{} }},
	} {
		a, objects := read(t, full), there()
		c.spoil(a, objects)
		_, p := Env(a, objects)
		if p == nil {
			_, p = Data(a, objects)
		}
		if p == nil {
			_, p = Auths("spec.template.imagePullSecrets", a.Namespace, a.Spec.Template.ImagePullSecrets, objects)
		}
		if p == nil || p.Reason != c.reason || !strings.Contains(p.Message, c.want) {
			t.Errorf("%s: %+v, want %s %s", c.name, p, c.reason, c.want)
		}
	}
}

// Two contents have the same hash only if they are the same.
func TestHashesTellContentsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.MapOf(rapid.StringN(0, 3, -1), rapid.SliceOfN(rapid.Byte(), 0, 3))
		a, b := content.Draw(t, "a"), content.Draw(t, "b")
		same := len(a) == len(b)
		for k, v := range a {
			w, ok := b[k]
			same = same && ok && string(v) == string(w)
		}
		if (Hash(a) == Hash(b)) != same {
			t.Fatalf("%v has %s, %v has %s", a, Hash(a), b, Hash(b))
		}
	})
}
