package app

import (
	"errors"
	"testing"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/config"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// What was read behind the cache's back is not taken back by the cache, and not kept once the cache has caught up.
func TestContentsDoNotGoBack(t *testing.T) {
	scheme := apiruntime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	holding := func(objects ...client.Object) client.Reader {
		return clientfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	}
	settings := func(version, value string) client.Object {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "settings", ResourceVersion: version}, Data: map[string]string{"a": value}}
	}
	a := &v1alpha1.App{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: v1alpha1.AppSpec{Template: v1alpha1.Template{
		EnvFrom: []v1alpha1.EnvFromSource{{ConfigMapRef: &v1alpha1.ObjectSelector{Name: "settings"}}}}}}
	var c contents
	for _, step := range []struct {
		name        string
		cache, live client.Reader
		fresh       bool
		want        string
	}{
		{"nowhere", holding(), holding(), true, ""},
		{"not in the cache yet", holding(), holding(settings("5", "one")), false, "one"},
		{"in both", holding(settings("5", "one")), holding(settings("5", "one")), false, "one"},
		{"the cache is behind", holding(settings("5", "one")), holding(settings("9", "two")), true, "two"},
		{"still behind", holding(settings("5", "one")), holding(settings("9", "two")), false, "two"},
		{"caught up", holding(settings("9", "two")), holding(settings("9", "two")), false, "two"},
		{"ahead of what was read", holding(settings("12", "three")), holding(settings("12", "three")), false, "three"},
		{"the cache has what is gone", holding(settings("12", "three")), holding(), true, ""},
		{"gone from both", holding(), holding(), false, ""},
	} {
		c.cache, c.live = step.cache, step.live
		objects, err := c.of(t.Context(), a, step.fresh)
		if err != nil {
			t.Fatal(err)
		}
		o, there := objects[config.Ref{Kind: config.ConfigMap, Namespace: "shop", Name: "settings"}]
		if got := string(o.Data["a"]); got != step.want || there != (step.want != "") {
			t.Errorf("%s: %q, there %v, want %q", step.name, got, there, step.want)
		}
	}
	if len(c.newer) != 0 {
		t.Errorf("%v is remembered for nothing", c.newer)
	}
}
