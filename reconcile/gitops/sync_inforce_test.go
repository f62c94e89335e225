package gitops_test

import (
	"context"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lose deletes a ConfigMap as people do.
func (b *bed) lose(name string) {
	b.Helper()
	m, err := b.config(name)
	if err != nil {
		b.Fatal(err)
	}
	if err := api.Delete(context.Background(), m); err != nil {
		b.Fatal(err)
	}
}

// While a newer commit is not applied, for whatever reason, the one before stays in force; both is said.
func TestTheLastGoodStateIsKeptInForce(t *testing.T) {
	files := map[string]string{"good/a.yaml": configMap("a", "1"), "good/b.yaml": configMap("b", "1"), "good/old.yaml": configMap("old", "1"), "base/x.yaml": configMap("x", "1")}
	for reason, c := range map[string]struct {
		push  map[string]string
		words []string
		mend  map[string]string
	}{
		"ManifestsBroken": {map[string]string{"good/b.yaml": "kind: [", "good/old.yaml": ""}, []string{"b.yaml:1"}, map[string]string{"good/b.yaml": configMap("b", "2")}},
		"Refused": {map[string]string{"good/bad.yaml": configMap("Not_A_Name", "1"), "good/b.yaml": configMap("b", "2"), "good/old.yaml": ""}, []string{"bad.yaml:1"},
			map[string]string{"good/bad.yaml": ""}},
		"WaitingForSyncs": {map[string]string{"base/x.yaml": "kind: [", "good/b.yaml": configMap("b", "2"), "good/old.yaml": ""}, []string{"waits for", "/base"}, map[string]string{"base/x.yaml": configMap("x", "2")}},
	} {
		t.Run(reason, func(t *testing.T) {
			b := newBed(t, files, v1alpha1.SyncSpec{Path: "good", Retry: never, Prune: true, DependsOn: []v1alpha1.SyncReference{{Name: "base"}}})
			b.create(&v1alpha1.Sync{ObjectMeta: meta(b.ns, "base"), Spec: v1alpha1.SyncSpec{SourceRef: v1alpha1.SourceReference{Name: "shop"}, Path: "base"}})
			good := b.git("rev-parse", "HEAD")
			b.applied(good)
			b.push(c.push)
			b.reason(reason, c.words...)

			b.hand("a", "other")
			b.holds("a", "1")
			b.reason(reason, append(c.words, "commit "+good+" stays in force", "1 object was changed by others and put back", "configmap/"+b.ns+"/a data.key by hand")...)
			b.heard(" DriftCorrected ", "configmap/"+b.ns+"/a data.key by hand")
			b.lose("b")
			b.holds("b", "1")
			b.reason(reason, append(c.words, "put back", "configmap/"+b.ns+"/b")...)
			// What only the good commit has is a part of it, too.
			b.hand("old", "other")
			b.holds("old", "1")
			b.lose("old")
			b.holds("old", "1")

			// So it is after a restart.
			if err := restart(); err != nil {
				t.Fatal(err)
			}
			b.hand("a", "other")
			b.lose("b")
			b.holds("a", "1")
			b.holds("b", "1")
			b.reason(reason, c.words...)

			// Suspended, it is only said.
			b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = true })
			b.reason("Suspended")
			b.hand("a", "other")
			b.until("reported", func(y *v1alpha1.Sync) bool {
				return len(y.Status.Drift) == 1 && says(ready(y).Message, "spec.suspend", "1 field was changed by others", "commit "+good+" stays in force")
			})
			if b.value("a") != "other" {
				t.Error("it was put back")
			}
			b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
			b.holds("a", "1")
			b.until("in order", func(y *v1alpha1.Sync) bool { return len(y.Status.Drift) == 0 })

			b.applied(b.push(c.mend))
			b.holds("b", "2")
			b.holds("old", "")
			b.holds("a", "1")
		})
	}
}

// Who only reports drift does so, too, while a newer commit is refused.
func TestDriftOfTheLastGoodStateIsReported(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Drift: v1alpha1.DriftReport, Retry: never})
	b.applied(b.git("rev-parse", "HEAD"))
	b.push(map[string]string{"bad.yaml": configMap("Not_A_Name", "1"), "b.yaml": configMap("b", "2")})
	b.reason("Refused", "bad.yaml:1")
	b.hand("a", "other")
	b.until("reported", func(y *v1alpha1.Sync) bool {
		return ready(y).Reason == "Refused" && len(y.Status.Drift) == 1 && y.Status.Drift[0].By == "hand" && says(ready(y).Message, "bad.yaml:1", "1 field was changed by others (configmap/"+b.ns+"/a data.key by hand)")
	})
	b.hand("a", "1")
	b.until("gone", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "Refused" && len(y.Status.Drift) == 0 })
	if got := b.value("a"); got != "1" {
		t.Errorf("a is %q", got)
	}
}

// A commit that was written in part is not undone: what was written of it is kept as it says, and the rest as the one before.
func TestWhatWasWrittenOfANewerCommitIsKept(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1"), "late.yaml": in("1", configMap("late", "1")), "old.yaml": configMap("old", "1")},
		v1alpha1.SyncSpec{Prune: true, Retry: never, HealthTimeout: &metav1.Duration{Duration: time.Second}})
	b.applied(b.git("rev-parse", "HEAD"))
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2"), "app.yaml": app("ill"), "late.yaml": in("1", configMap("late", "2")), "old.yaml": ""})
	b.fares("ill", false)
	b.reason("Unhealthy", bad, "app/"+b.ns+"/ill")
	kept := func() {
		b.Helper()
		b.lose("a")
		b.holds("a", "2")
		for name, value := range map[string]string{"a": "2", "b": "1", "late": "1", "old": "1"} {
			b.hand(name, "other")
			b.holds(name, value)
		}
		b.reason("Unhealthy", bad, "put back")
	}
	kept()
	// Neither is it while the next one is refused.
	b.push(map[string]string{"a.yaml": configMap("a", "3"), "bad.yaml": configMap("Not_A_Name", "1")})
	b.reason("Refused", "bad.yaml:1")
	for name, value := range map[string]string{"a": "2", "b": "1", "late": "1", "old": "1"} {
		b.hand(name, "other")
		b.holds(name, value)
	}
	b.push(map[string]string{"bad.yaml": "", "app.yaml": ""})
	b.holds("a", "3")
	b.holds("late", "2")
	b.holds("old", "")
}

// What is not signed is no commit for Syncs: the one that is in force is the newest of its source.
func TestWithoutASignatureTheCommitBeforeStaysInForce(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{})
	b.applied(b.git("rev-parse", "HEAD"))
	s := b.vouch()
	b.push(map[string]string{"a.yaml": configMap("a", "2")})
	b.wait("refused", func() string {
		if err := api.Get(context.Background(), client.ObjectKeyFromObject(s), s); err != nil || s.Status.Refused == "" {
			return s.Status.Commit
		}
		return ""
	})
	b.hand("a", "other")
	b.holds("a", "1")
	b.lose("a")
	b.holds("a", "1")
	b.heard(" DriftCorrected ", "configmap/"+b.ns+"/a")
}
