package gitops_test

import (
	"context"
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A chart is applied with the values of the Sync; what is wrong with it is told with file and line, and what was applied stays.
func TestChart(t *testing.T) {
	b := newBed(t, map[string]string{
		"web/Chart.yaml":             "apiVersion: v2\nname: web\nversion: 1.0.0\n",
		"web/values.yaml":            "greeting: hello\npassword: \"\"\n",
		"web/templates/_helpers.tpl": "{{- define \"name\" }}{{ .Release.Name }}-web{{ end }}\n",
		"web/templates/config.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"name\" . }}\n  namespace: {{ .Release.Namespace }}\ndata:\n  key: {{ .Values.greeting | quote }}\n",
		"web/templates/secret.yaml":  "apiVersion: v1\nkind: Secret\nmetadata: {name: {{ include \"name\" . }}}\nstringData:\n  password: {{ required \"set password\" .Values.password | quote }}\n",
		"eu.yaml":                    "greeting: moin\n",
	}, v1alpha1.SyncSpec{Path: "web", Prune: true, Helm: &v1alpha1.SyncHelm{ValuesFiles: []string{"eu.yaml"}}})
	broken := func(want string) {
		t.Helper()
		b.until("refused with "+want, func(y *v1alpha1.Sync) bool { return strings.Contains(ready(y).Message, want) })
	}
	broken("web/templates/secret.yaml:5: set password")
	if _, err := b.config("shop-web"); err == nil {
		t.Error("half a chart was applied")
	}
	b.create(&corev1.Secret{ObjectMeta: meta(b.ns, "passwords"), StringData: map[string]string{"PASSWORD": "hunter2"}})
	y := b.sync()
	y.Spec.Variables = []v1alpha1.SyncVariable{{SecretRef: &v1alpha1.SecretReference{Name: "passwords"}}}
	y.Spec.Helm.Values = &apiruntime.RawExtension{Raw: []byte(`{"password":"${PASSWORD}"}`)}
	b.wait("changed", func() string {
		latest := b.sync()
		latest.Spec = y.Spec
		if err := api.Update(context.Background(), latest); err != nil {
			return err.Error()
		}
		return ""
	})
	b.applied(b.git("rev-parse", "HEAD"))
	m, err := b.config("shop-web")
	if err != nil || m.Data["key"] != "moin" {
		t.Errorf("%v, %v", m.Data, err)
	}
	var s corev1.Secret
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "shop-web"}, &s); err != nil || string(s.Data["password"]) != "hunter2" {
		t.Errorf("%s, %v", s.Data, err)
	}

	b.push(map[string]string{"web/templates/deployment.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"})
	broken("kind Deployment of apps/v1 is not served")
	broken("web/templates/deployment.yaml: ")
	b.push(map[string]string{"web/templates/deployment.yaml": "{{ range until 100000 }}{{ range until 100000 }}{{ $x := sha256sum \"a\" }}{{ end }}{{ end }}"})
	broken("web/Chart.yaml: rendering takes more than 2s of processor time")
	b.push(map[string]string{"web/templates/deployment.yaml": "{{ fail (printf \"no %s\" .Values.password) }}"})
	broken("web/templates/deployment.yaml:1: no (secret)")
	if got := ready(b.sync()); got.Status != metav1.ConditionFalse || strings.Contains(got.Message, "hunter2") {
		t.Errorf("%+v", got)
	}
	if m, err := b.config("shop-web"); err != nil || m.Data["key"] != "moin" {
		t.Errorf("what was applied is gone: %v, %v", m.Data, err)
	}
	b.applied(b.push(map[string]string{"web/templates/deployment.yaml": "", "eu.yaml": "greeting: ahoi\n"}))
	if m, err := b.config("shop-web"); err != nil || m.Data["key"] != "ahoi" {
		t.Errorf("%v, %v", m.Data, err)
	}
}
