package gitops_test

import (
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/source/sourcetest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// by has the keys of a signer believed, which are in the Secret signers.
func by(kind string, s *sourcetest.Signer, paths ...string) v1alpha1.GitSigner {
	return v1alpha1.GitSigner{Type: kind, SecretKeyRef: &v1alpha1.KeyReference{Name: "signers", Key: s.Format}, Paths: paths}
}

func TestSignedCommits(t *testing.T) {
	for _, c := range []struct {
		kind string
		make func(testing.TB, string) *sourcetest.Signer
	}{{v1alpha1.SignerSSH, sourcetest.SSHSigner}, {v1alpha1.SignerGPG, sourcetest.GPGSigner}, {v1alpha1.SignerX509, sourcetest.X509Signer}} {
		t.Run(c.kind, func(t *testing.T) {
			ann, eve := c.make(t, "ann@example.com"), c.make(t, "eve@example.com")
			w := sourcetest.NewWork(t)
			w.SignBy(ann)
			good := w.Commit("a.yaml", configMap("a", "1"))
			o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL, Verify: &v1alpha1.GitVerify{Signers: []v1alpha1.GitSigner{by(c.kind, ann)}}},
				map[string]map[string]string{"signers": {ann.Format: string(ann.Public)}}).synced(v1alpha1.SyncSpec{})
			o.applied(good)
			if s := o.source().Status.Signer; s == nil || s.Type != c.kind || s.Identity != ann.Identity || s.Key != ann.Key {
				t.Errorf("the signer is %+v and not %s with %s", s, ann.Identity, ann.Key)
			}
			w.SignBy(nil)
			unsigned := o.commit("a.yaml", configMap("a", "2"))
			if s := o.says("NotSigned", unsigned, good+" stays in force"); s.Status.Refused != unsigned {
				t.Errorf("refused is %s and not %s", s.Status.Refused, unsigned)
			}
			o.stays(good, "a", "1")
			w.SignBy(eve)
			unknown := o.commit("a.yaml", configMap("a", "3"))
			if s := o.says("SignerUnknown", unknown, eve.Key, good+" stays in force"); s.Status.Refused != unknown {
				t.Errorf("refused is %s and not %s", s.Status.Refused, unknown)
			}
			o.stays(good, "a", "1")
			// Once her key is believed, so is her commit.
			keys := string(ann.Public) + "\n" + string(eve.Public)
			o.secret("signers", map[string]string{ann.Format: keys})
			o.applied(unknown)
			if s := o.source().Status; s.Signer == nil || s.Signer.Identity != eve.Identity || s.Refused != "" {
				t.Errorf("status is %+v", s)
			}
			// And what she has signed counts no more when it is not.
			o.secret("signers", map[string]string{ann.Format: string(ann.Public)})
			o.says("SignerUnknown", unknown, eve.Key, unknown+" stays in force")
			o.stays(unknown, "a", "3")
		})
	}
}

func TestSignedTags(t *testing.T) {
	ann := sourcetest.SSHSigner(t, "ann@example.com")
	w := sourcetest.NewWork(t)
	good := w.Commit("a.yaml", configMap("a", "1"))
	w.SignBy(ann)
	w.Git("tag", "-s", "-m", "x", "v1.0.0")
	w.SignBy(nil)
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL, Ref: v1alpha1.GitRef{Semver: "^1"},
		Verify: &v1alpha1.GitVerify{Mode: v1alpha1.VerifyTag, Signers: []v1alpha1.GitSigner{by(v1alpha1.SignerSSH, ann)}}},
		map[string]map[string]string{"signers": {"ssh": string(ann.Public)}})
	if s := o.fetched(good).Status; s.Signer == nil || s.Signer.Key != ann.Key || s.Ref != "refs/tags/v1.0.0" {
		t.Errorf("status is %+v", s)
	}
	w.Commit("a.yaml", configMap("a", "2"))
	w.Git("tag", "v1.1.0")
	o.poke()
	o.says("NotSigned", "annotated tag", good+" stays in force")
	w.Git("tag", "-a", "-m", "x", "v1.2.0")
	o.poke()
	o.says("NotSigned", "tag "+w.Git("rev-parse", "v1.2.0"), good+" stays in force")
}

func TestSignersMayChangeTheirPathsOnly(t *testing.T) {
	ann, bob := sourcetest.SSHSigner(t, "ann@example.com"), sourcetest.GPGSigner(t, "bob@example.com")
	w := sourcetest.NewWork(t)
	w.SignBy(ann)
	good := w.Commit("apps/a.yaml", configMap("a", "1"), "infra/b.yaml", configMap("b", "1"))
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL,
		Verify: &v1alpha1.GitVerify{Signers: []v1alpha1.GitSigner{by(v1alpha1.SignerSSH, ann), by(v1alpha1.SignerGPG, bob, "apps/**")}}},
		map[string]map[string]string{"signers": {"ssh": string(ann.Public), "openpgp": string(bob.Public)}}).synced(v1alpha1.SyncSpec{})
	o.applied(good)
	w.SignBy(bob)
	good = o.commit("apps/a.yaml", configMap("a", "2"))
	o.applied(good)
	bad := o.commit("apps/a.yaml", configMap("a", "3"), "infra/b.yaml", configMap("b", "3"))
	if s := o.says("SignerNotAllowed", bad, "infra/b.yaml", bob.Identity, bob.Key, good+" stays in force"); s.Status.Refused != bad {
		t.Errorf("refused is %s and not %s", s.Status.Refused, bad)
	}
	o.stays(good, "a", "2")
	// A commit of his on top does not carry it in; one of hers vouches for all.
	worse := o.commit("apps/a.yaml", configMap("a", "4"))
	o.says("SignerNotAllowed", worse, "infra/b.yaml")
	w.SignBy(ann)
	o.applied(o.commit("apps/a.yaml", configMap("a", "5")))
	if b, err := o.config("b"); err != nil || b.Data["key"] != "3" {
		t.Errorf("b is %v, %v", b.Data, err)
	}
	// Nor does going back to it.
	was := o.sync()
	y := was.DeepCopy()
	y.Spec.Rollback = &v1alpha1.SyncRollback{To: bad}
	if err := api.Patch(t.Context(), y, client.MergeFrom(was)); err != nil {
		t.Fatal(err)
	}
	o.until("refused", func(y *v1alpha1.Sync) bool {
		return ready(y).Status == metav1.ConditionFalse && strings.Contains(ready(y).Message, bad+": it was not in force before")
	})
	if a, err := o.config("a"); err != nil || a.Data["key"] != "5" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
	was = o.sync()
	y = was.DeepCopy()
	y.Spec.Rollback.To = good
	if err := api.Patch(t.Context(), y, client.MergeFrom(was)); err != nil {
		t.Fatal(err)
	}
	o.until("gone back", func(y *v1alpha1.Sync) bool {
		return ready(y).Reason == "RolledBack" && y.Status.LastAppliedCommit == good
	})
	// A file that was outside of the paths is looked at when they are widened: nobody has asked who changed it.
	o.change(func(s *v1alpha1.GitSourceSpec) { s.Paths = []string{"apps"} })
	o.until("read no more", func(y *v1alpha1.Sync) bool { return len(o.source().Status.Paths) == 1 })
	w.SignBy(bob)
	good = o.commit("infra/b.yaml", configMap("b", "6"))
	o.fetched(good)
	o.change(func(s *v1alpha1.GitSourceSpec) { s.Paths = nil })
	o.says("SignerNotAllowed", good, "infra/b.yaml", bob.Key)
}
