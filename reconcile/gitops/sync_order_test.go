package gitops_test

import (
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// never is longer than any test waits.
var never = v1alpha1.SyncRetry{Interval: &metav1.Duration{Duration: time.Hour}, Max: &metav1.Duration{Duration: time.Hour}}

func TestDependenciesAreWaitedForAndCyclesNamed(t *testing.T) {
	b := newBed(t, map[string]string{"base/a.yaml": "kind: [", "shop/b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Path: "shop", DependsOn: []v1alpha1.SyncReference{{Name: "base"}}})
	b.reason("WaitingForSyncs", b.ns+"/base", "does not exist")
	base := v1alpha1.SyncSpec{SourceRef: v1alpha1.SourceReference{Name: "shop"}, Path: "base"}
	b.create(&v1alpha1.Sync{ObjectMeta: meta(b.ns, "base"), Spec: base})
	b.reason("WaitingForSyncs", "waits for "+b.ns+"/base")
	if b.value("b") != "" {
		t.Error("b was applied before what it depends on")
	}
	b.applied(b.push(map[string]string{"base/a.yaml": configMap("a", "1")}))
	if b.value("a") != "1" || b.value("b") != "1" {
		t.Errorf("a is %q, b %q", b.value("a"), b.value("b"))
	}
	b.wantOf("base", func(y *v1alpha1.Sync) { y.Spec.DependsOn = []v1alpha1.SyncReference{{Name: "shop"}} })
	b.push(map[string]string{"shop/b.yaml": configMap("b", "2"), "base/a.yaml": configMap("a", "2")})
	way := b.ns + "/shop -> " + b.ns + "/base -> " + b.ns + "/shop"
	b.reason("WaitingForSyncs", "waits for itself", way)
	b.wait("named in both", func() string {
		if m := ready(b.syncOf("base")).Message; !says(m, "waits for itself", b.ns+"/base -> "+b.ns+"/shop -> "+b.ns+"/base") {
			return m
		}
		return ""
	})
	b.want(func(y *v1alpha1.Sync) { y.Spec.DependsOn = nil })
	b.holds("a", "2")
	b.holds("b", "2")
}

func TestWavesWaitForHealthAndGoOnByThemselves(t *testing.T) {
	b := newBed(t, map[string]string{"app.yaml": app("first"), "late.yaml": in("1", configMap("late", "1"))}, v1alpha1.SyncSpec{HealthTimeout: &metav1.Duration{Duration: 2 * time.Second}, Retry: never})
	b.fares("first", false)
	b.reason("Unhealthy", "1 of 1 object of wave 0 is not healthy", "app/"+b.ns+"/first")
	b.heard(" Unhealthy ", "app/"+b.ns+"/first")
	if b.value("late") != "" {
		t.Error("the next wave was applied")
	}
	b.fares("first", true)
	b.applied(b.git("rev-parse", "HEAD"))
	b.holds("late", "1")
}

func TestSuspendHoldsUpWhatIsUnderWay(t *testing.T) {
	b := newBed(t, map[string]string{"app.yaml": app("first"), "early.yaml": configMap("early", "1"), "late.yaml": in("1", configMap("late", "1"))}, v1alpha1.SyncSpec{})
	b.fares("first", false)
	b.reason("WaitingForHealth", "app/"+b.ns+"/first")
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = true })
	b.reason("Suspended", "not all of commit", "spec.suspend")
	b.fares("first", true)
	b.hand("early", "other")
	head := b.push(map[string]string{"README.md": "hello"})
	b.until("seen", func(y *v1alpha1.Sync) bool { return y.Status.SeenCommit == head })
	if b.value("late") != "" || b.value("early") != "other" {
		t.Errorf("it went on: late is %q, early %q", b.value("late"), b.value("early"))
	}
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	b.applied(head)
	b.holds("late", "1")
	b.holds("early", "1")

	// What is applied stays as it is, too; both is said.
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = true })
	b.hand("early", "other")
	b.until("reported", func(y *v1alpha1.Sync) bool {
		return len(y.Status.Drift) == 1 && says(ready(y).Message, "spec.suspend", "1 field was changed")
	})
	if b.value("early") != "other" {
		t.Error("it was put back")
	}
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	b.holds("early", "1")
	b.heard(" DriftCorrected ", "configmap/"+b.ns+"/early data.key by hand")
}

func TestNewerCommitBeatsRetriesOfAnOlderOne(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("Not_A_Name", "1")}, v1alpha1.SyncSpec{Retry: v1alpha1.SyncRetry{Interval: &metav1.Duration{Duration: time.Second}, Max: &metav1.Duration{Duration: time.Second}}})
	b.until("tried again", func(y *v1alpha1.Sync) bool { return y.Status.Failures > 1 })
	b.want(func(y *v1alpha1.Sync) { y.Spec.Retry = never })
	b.until("waiting for long", func(y *v1alpha1.Sync) bool {
		n := y.Status.NextAttemptTime
		return n != nil && time.Until(n.Time) > time.Minute
	})
	y := b.applied(b.push(map[string]string{"a.yaml": configMap("a", "1")}))
	if y.Status.Failures != 0 || y.Status.NextAttemptTime != nil {
		t.Errorf("status is %+v", y.Status)
	}
}

func TestReasonOfAFailureIsKeptWhileSuspended(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": "kind: ["}, v1alpha1.SyncSpec{})
	b.reason("ManifestsBroken", "a.yaml:1")
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = true })
	b.reason("Suspended")
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	b.reason("ManifestsBroken", "a.yaml:1")
}

func TestRollbackStaysUntilTheBadObjectsChange(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Prune: true})
	good := b.git("rev-parse", "HEAD")
	b.applied(good)
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2"), "bad.yaml": configMap("bad", "1")})
	b.applied(bad)
	b.want(func(y *v1alpha1.Sync) { y.Spec.Rollback = &v1alpha1.SyncRollback{To: good, From: bad} })
	y := b.until("rolled back", func(y *v1alpha1.Sync) bool {
		return y.Status.LastAppliedCommit == good && ready(y).Reason == "RolledBack" && says(ready(y).Message, good, bad)
	})
	b.holds("a", "1")
	b.holds("bad", "")
	if y.Status.Author != "Test <test@example.com>" {
		t.Errorf("author is %q", y.Status.Author)
	}
	other := b.push(map[string]string{"b.yaml": configMap("b", "2")})
	b.until("seen", func(y *v1alpha1.Sync) bool { return y.Status.SeenCommit == other })
	if b.value("a") != "1" || b.value("b") != "1" {
		t.Errorf("a commit that changes other things has ended the rollback: a is %q, b %q", b.value("a"), b.value("b"))
	}
	next := b.push(map[string]string{"a.yaml": configMap("a", "3"), "bad.yaml": ""})
	b.applied(next)
	b.holds("a", "3")
	b.holds("b", "2")
	b.want(func(y *v1alpha1.Sync) { y.Spec.Rollback = &v1alpha1.SyncRollback{To: good, From: next, Pinned: true} })
	b.holds("a", "1")
	last := b.push(map[string]string{"a.yaml": configMap("a", "4")})
	b.until("seen", func(y *v1alpha1.Sync) bool {
		return y.Status.SeenCommit == last && y.Status.LastAppliedCommit == good && says(ready(y).Message, "until that is removed")
	})
	b.want(func(y *v1alpha1.Sync) { y.Spec.Rollback = nil })
	b.applied(last)
	b.holds("a", "4")
}

func TestRollbackFromACommitThatFails(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Retry: never})
	good := b.git("rev-parse", "HEAD")
	b.applied(good)
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2"), "app.yaml": in("1", app("bad"))})
	b.fares("bad", false)
	b.reason("WaitingForHealth", "app/"+b.ns+"/bad")
	b.want(func(y *v1alpha1.Sync) { y.Spec.Rollback = &v1alpha1.SyncRollback{To: good, From: bad} })
	b.until("rolled back", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "RolledBack" })
	b.holds("a", "1")
}

// A source that is just being fetched for the first time is nothing to warn of; one that cannot be is.
func TestANewSourceIsNoWarning(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{})
	b.applied(b.git("rev-parse", "HEAD"))
	if events := seen.of(b.ns, "Warning"); len(events) > 0 {
		t.Errorf("there were warnings: %q", events)
	}
	b.create(&v1alpha1.GitSource{ObjectMeta: meta(b.ns, "none"), Spec: v1alpha1.GitSourceSpec{URL: "file://" + b.dir + "-none"}})
	b.want(func(y *v1alpha1.Sync) { y.Spec.SourceRef.Name = "none" })
	b.heard("Warning SourceNotReady", "gitsource "+b.ns+"/none has no commit: ")
}
