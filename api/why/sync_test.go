package why

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/api/v1alpha1"
)

var (
	good = strings.Repeat("a1", 20)
	bad  = strings.Repeat("b2", 20)
)

func gitSync(name string, conditions ...metav1.Condition) *v1alpha1.Sync {
	y := &v1alpha1.Sync{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 2}}
	y.Spec.SourceRef.Name = "repo"
	y.Status = v1alpha1.SyncStatus{ObservedGeneration: 2, SeenCommit: good, LastAppliedCommit: good, Objects: 12, Conditions: conditions}
	return y
}

func gitSource(conditions ...metav1.Condition) *v1alpha1.GitSource {
	g := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "repo", Generation: 1}}
	g.Spec.URL = "https://git.example.com/shop.git"
	g.Status = v1alpha1.GitSourceStatus{ObservedGeneration: 1, Commit: good, Ref: "refs/heads/main", Author: "Ann <ann@example.com>", Subject: "More instances",
		Signer: &v1alpha1.Signer{Type: "SSH", Identity: "ann@example.com", Key: "SHA256:abc"}, LastFetchTime: before(time.Minute), Conditions: conditions}
	return g
}

func gitFine() GitSnapshot {
	return GitSnapshot{Now: now,
		Syncs:   map[string]*v1alpha1.Sync{"shop/web": gitSync("web", condition("Ready", "True", "UpToDate", "commit "+good+" is applied: 12 objects"), condition("Healthy", "True", "Healthy", "all objects are healthy"))},
		Sources: map[string]*v1alpha1.GitSource{"shop/repo": gitSource(condition("Ready", "True", "Fetched", "commit "+good))},
	}
}

// gitTrouble has a chain: web waits for base, which waits for one that is not there, and for web itself; another namespace is closed.
func gitTrouble() GitSnapshot {
	web := gitSync("web", condition("Ready", "False", "WaitingForSyncs", "waits for shop/base"))
	web.Spec.DependsOn = []v1alpha1.SyncReference{{Name: "base"}, {Namespace: "closed", Name: "net"}}
	web.Status.SeenCommit = bad
	base := gitSync("base", condition("Ready", "False", "ManifestsBroken", "commit "+bad+": base/app.yaml:7: did not find expected key"), condition("Stalled", "True", "ManifestsBroken", ""))
	base.Spec.DependsOn = []v1alpha1.SyncReference{{Name: "gone"}, {Name: "web"}}
	base.Generation, base.Status.Failures, base.Status.Incomplete, base.Status.LastAttemptedCommit = 3, 1, true, bad
	source := gitSource(condition("Ready", "False", "NotSigned", "commit "+bad+" is not signed; commit "+good+" stays in force"))
	source.Status.Refused = bad
	return GitSnapshot{Now: now, Syncs: map[string]*v1alpha1.Sync{"shop/web": web, "shop/base": base}, Sources: map[string]*v1alpha1.GitSource{"shop/repo": source},
		Unseen: map[string]string{"sync/closed/net": "syncs.padis.io \"net\" is forbidden"},
		Events: []Event{{Object: "Sync/web", Type: "Warning", Reason: "WaitingForSyncs", Message: "waits for shop/base", Count: 1, Last: now.Add(-time.Minute)}}}
}

func gitFields() GitSnapshot {
	s := gitFine()
	y := s.Syncs["shop/web"]
	y.Status.Conditions = []metav1.Condition{condition("Ready", "False", "PruneAll", "the commit would delete all 3 objects"), condition("Healthy", "False", "Unhealthy", "1 object is not healthy")}
	y.Status.PendingPrune, y.Status.Failures, y.Status.NextAttemptTime = 3, 2, &metav1.Time{Time: now.Add(12 * time.Second)}
	y.Spec.Rollback = &v1alpha1.SyncRollback{To: good, From: bad}
	y.Status.Undone = []string{"app/shop/api"}
	y.Status.Conflicts = []v1alpha1.FieldReport{{Object: "configmap/shop/a", Path: "data.key", Want: "1", Is: "2", By: "hand"}}
	y.Status.Drift = []v1alpha1.FieldReport{{Object: "app/shop/web", Path: "spec.replicas", Want: "3", By: "ann", At: before(time.Hour)}, {Object: "configmap/shop/gone"}}
	y.Status.Unhealthy = []v1alpha1.ObjectReport{{Object: "app/shop/web", Health: "Progressing", Reason: "NoOffers", Message: "no agent fits"}, {Object: "network/lan", Health: "Failed"}}
	other := gitSync("other", condition("Ready", "True", "UpToDate", ""))
	other.Spec.Rollback, other.Status.ReleasedRollback = y.Spec.Rollback, &v1alpha1.ReleasedRollback{To: good, From: bad, By: strings.Repeat("c", 40)}
	s.Syncs["shop/other"] = other
	stranger := gitSync("stranger")
	stranger.Spec.SourceRef.Name = "another"
	s.Syncs["shop/stranger"] = stranger
	return s
}

func TestRolledBack(t *testing.T) {
	t.Parallel()
	s := gitFields()
	if text := RolledBack(s.Syncs["shop/other"]); !strings.Contains(text, "was ended by commit cccccccccccc") {
		t.Error(text)
	}
	pinned := gitSync("pinned")
	pinned.Spec.Rollback = &v1alpha1.SyncRollback{To: good, Pinned: true}
	if text := RolledBack(pinned); !strings.HasSuffix(text, "until spec.rollback is removed") {
		t.Error(text)
	}
	if text := RolledBack(gitSync("plain")); text != "" {
		t.Error(text)
	}
}

// What is nobody's is said to be, and each reason is listed once.
func TestGitReasons(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range GitReasons() {
		if seen[r.Reason] || r.Means == "" || r.Of == "" {
			t.Errorf("%+v is listed twice, or says nothing", r)
		}
		seen[r.Reason] = true
	}
	if GitRemedy("Nonsense") != "" {
		t.Error("an unknown reason has a remedy")
	}
	empty := GitSnapshot{Now: now}
	for text, n := range map[string]Node{"sync shop/a does not exist": Sync(empty, "shop/a"), "gitsource shop/b does not exist": GitSource(empty, "shop/b")} {
		if !strings.Contains(n.String(), text) {
			t.Errorf("%q is missing in %s", text, n)
		}
	}
}
