package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/fake"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const boxNamespace = `apiVersion: v1
kind: Namespace
metadata: {name: boxes}
`

const boxApp = `apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: box, namespace: boxes}
spec:
  template:
    image: shop:1
    env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]
    volumes:
    - {name: conf, mountPath: /etc/shop, configMap: {name: settings, onChange: Signal, signal: SIGHUP}}
`

func merge(t *testing.T, o client.Object, patch string) {
	t.Helper()
	if err := api.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

func named(o client.Object, namespace, name string) client.Object {
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// wants waits until what is wanted of an App is as f demands, which gives "" when it is.
func wants(t *testing.T, sched *fake.Scheduler, a *v1alpha1.App, f func(*padisv1.WantedApp) string) {
	t.Helper()
	until(t, func() string {
		w := sched.Wanted(string(a.UID))
		if w == nil {
			return "nothing is wanted of " + a.Name
		}
		return f(w)
	})
}

// An App waits for its ConfigMap and Secret, and goes on by itself: with the real API server.
func TestAnAppFollowsItsConfiguration(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, boxNamespace+"---\n"+boxApp)
	a := shows(t, "boxes", "box", v1alpha1.ConditionAvailable, metav1.ConditionFalse, padisv1.ReasonConfigNotFound)
	if c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionProgressing); c.Reason != padisv1.ReasonConfigNotFound || sched.Wanted(string(a.UID)) != nil {
		t.Fatalf("%+v", c)
	}
	apply(t, `apiVersion: v1
kind: Secret
metadata: {name: db, namespace: boxes}
stringData: {password: one}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: boxes}
data: {shop.conf: "a=1"}
`)
	lives(t, sched, "boxes", "box")
	first := sched.Wanted(string(a.UID)).Revisions[0].Hash

	// A file changes under the revision.
	merge(t, named(&corev1.ConfigMap{}, "boxes", "settings"), `{"data":{"shop.conf":"a=2"}}`)
	wants(t, sched, a, func(w *padisv1.WantedApp) string {
		if got := string(w.Configs[0].Data["shop.conf"]); got != "a=2" || w.Revisions[0].Hash != first {
			return fmt.Sprintf("shop.conf is %s at revision %s, want a=2 at %s", got, w.Revisions[0].Hash, first)
		}
		return ""
	})
	// A variable is an update.
	merge(t, named(&corev1.Secret{}, "boxes", "db"), `{"stringData":{"password":"two"}}`)
	wants(t, sched, a, func(w *padisv1.WantedApp) string {
		if got := w.Revisions[0].Template.Env[0].Value; got != "two" || w.Revisions[0].Hash == first {
			return "the password is " + got
		}
		return ""
	})
	lives(t, sched, "boxes", "box")

	// What is taken away leaves the instances alone, and is named.
	if err := api.Delete(t.Context(), named(&corev1.ConfigMap{}, "boxes", "settings")); err != nil {
		t.Fatal(err)
	}
	a = shows(t, "boxes", "box", v1alpha1.ConditionAccepted, metav1.ConditionFalse, padisv1.ReasonConfigNotFound)
	if c := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionAccepted); !strings.Contains(c.Message, `"settings"`) || a.Status.ReadyReplicas != 1 {
		t.Errorf("%d ready, %s", a.Status.ReadyReplicas, c.Message)
	}
}

// A Tenant that takes back what it granted: what runs goes on, and nothing is started again.
func TestATenantTakesBackAHostPath(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, strings.ReplaceAll(boxNamespace, "boxes", "paths")+`---
apiVersion: padis.io/v1alpha1
kind: Tenant
metadata: {name: paths}
spec: {namespaces: [paths], hostPaths: [/srv], defaultResources: {memory: 64Mi}}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: box, namespace: paths}
spec:
  replicas: 2
  template:
    image: shop:1
    volumes: [{name: data, mountPath: /data, hostPath: {path: /srv/data}}]
`)
	a := lives(t, sched, "paths", "box")
	if got := sched.Wanted(string(a.UID)).Revisions[0].Template.Resources; got.MemoryMib != 64 || got.CpuMilli != 100 {
		t.Errorf("takes %v, not what the Tenant says", got)
	}
	merge(t, named(&v1alpha1.Tenant{}, "", "paths"), `{"spec":{"hostPaths":null}}`)
	a = shows(t, "paths", "box", v1alpha1.ConditionAccepted, metav1.ConditionFalse, padisv1.ReasonVolumeForbidden)
	if a.Status.ReadyReplicas != 2 {
		t.Errorf("%d instances are ready, want both", a.Status.ReadyReplicas)
	}
	sched.Change(string(a.UID), 1, func(s *runtime.InstanceStatus) {
		s.Phase, s.Ready, s.Reason, s.Message = "BackOff", false, padisv1.ReasonExited, "exit code 1"
	})
	wants(t, sched, a, func(w *padisv1.WantedApp) string {
		if len(w.Slots) != 1 || w.Slots[0].Index != 0 {
			return fmt.Sprintf("wanted are %v", w.Slots)
		}
		return ""
	})
	merge(t, named(&v1alpha1.Tenant{}, "", "paths"), `{"spec":{"hostPaths":["/srv"]}}`)
	lives(t, sched, "paths", "box")
}

// Registries, pulls and the upgrade reach the scheduler, and what becomes of them shows.
func TestImagesAndExecutorsAreShown(t *testing.T) {
	sched := &fake.Scheduler{}
	sched.Pulled("pulls", "next", runtime.AgentImage{Agent: "a1", Host: "host-1", Image: "shop:2", Present: true})
	sched.Upgraded(runtime.Upgrade{Target: "abc", Total: 2, Updated: 1, Upgrading: []string{"host-1"}})
	start(t, sched)
	apply(t, strings.ReplaceAll(boxNamespace, "boxes", "pulls")+`---
apiVersion: padis.io/v1alpha1
kind: Registry
metadata: {name: here}
spec: {host: registry.example.com, mirrors: ["https://mirror.example.com"]}
---
apiVersion: padis.io/v1alpha1
kind: ImagePrepull
metadata: {name: next, namespace: pulls}
spec: {images: ["shop:2"], imagePullSecrets: [{name: pull}]}
---
apiVersion: padis.io/v1alpha1
kind: ExecutorUpgrade
metadata: {name: default}
spec: {}
`)
	until(t, func() string {
		var r v1alpha1.Registry
		var u v1alpha1.ExecutorUpgrade
		var p v1alpha1.ImagePrepull
		for name, o := range map[string]client.Object{"here": &r, "default": &u, "next": &p} {
			key := client.ObjectKey{Name: name}
			if name == "next" {
				key.Namespace = "pulls"
			}
			if err := api.Get(t.Context(), key, o); err != nil {
				return err.Error()
			}
		}
		c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted)
		if !meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionAccepted) || u.Status.Total != 2 || u.Status.Upgrading != 1 || c == nil || c.Reason != padisv1.ReasonConfigNotFound {
			return fmt.Sprintf("%+v, %+v, %+v", r.Status, u.Status, p.Status)
		}
		return ""
	})
	apply(t, `apiVersion: v1
kind: Secret
metadata: {name: pull, namespace: pulls}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{"auths":{"registry.example.com":{"username":"u","password":"p"}}}'}
`)
	until(t, func() string {
		var p v1alpha1.ImagePrepull
		if err := api.Get(t.Context(), client.ObjectKey{Namespace: "pulls", Name: "next"}, &p); err != nil {
			return err.Error()
		}
		if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionPresent) || p.Status.Present != 1 {
			return fmt.Sprintf("%+v", p.Status)
		}
		return ""
	})
}
