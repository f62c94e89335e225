package gitops_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/source/sourcetest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// origin is a GitSource named shop of a repository that a real server serves.
type origin struct {
	*bed
	work *sourcetest.Work
}

// newOrigin makes the source, with Secrets before it, in a namespace of its own.
func newOrigin(t testing.TB, w *sourcetest.Work, spec v1alpha1.GitSourceSpec, secrets map[string]map[string]string) *origin {
	t.Helper()
	o := &origin{&bed{t, "t" + fmt.Sprint(time.Now().UnixNano()), w.Dir}, w}
	o.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.ns}})
	for name, data := range secrets {
		o.create(&corev1.Secret{ObjectMeta: meta(o.ns, name), StringData: data})
	}
	spec.Interval = &metav1.Duration{Duration: 5 * time.Second}
	o.create(&v1alpha1.GitSource{ObjectMeta: meta(o.ns, "shop"), Spec: spec})
	return o
}

// synced adds a Sync of the source, named shop, too.
func (o *origin) synced(spec v1alpha1.SyncSpec) *origin {
	o.Helper()
	spec.SourceRef.Name = "shop"
	o.create(&v1alpha1.Sync{ObjectMeta: meta(o.ns, "shop"), Spec: spec})
	return o
}

func (o *origin) source() *v1alpha1.GitSource {
	o.Helper()
	s := &v1alpha1.GitSource{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: o.ns, Name: "shop"}, s); err != nil {
		o.Fatal(err)
	}
	return s
}

// change changes what is wanted of the source.
func (o *origin) change(f func(s *v1alpha1.GitSourceSpec)) {
	o.Helper()
	s := o.source()
	was := s.DeepCopy()
	f(&s.Spec)
	if err := api.Patch(context.Background(), s, client.MergeFrom(was)); err != nil {
		o.Fatal(err)
	}
}

// secret changes a Secret.
func (o *origin) secret(name string, data map[string]string) {
	o.Helper()
	s := &corev1.Secret{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: o.ns, Name: name}, s); err != nil {
		o.Fatal(err)
	}
	s.StringData = data
	if err := api.Update(context.Background(), s); err != nil {
		o.Fatal(err)
	}
}

// commit commits files and has the source fetched, as a webhook would.
func (o *origin) commit(files ...string) string {
	o.Helper()
	hash := o.work.Commit(files...)
	o.poke()
	return hash
}

func (o *origin) poke() {
	o.Helper()
	if err := api.Patch(context.Background(), &v1alpha1.GitSource{ObjectMeta: meta(o.ns, "shop")},
		client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{"test":"%d"}}}`, time.Now().UnixNano()))); err != nil {
		o.Fatal(err)
	}
}

// says waits until the source's condition has the reason, and sees that it says all of the words and no secret.
func (o *origin) says(reason string, words ...string) *v1alpha1.GitSource {
	o.Helper()
	var s *v1alpha1.GitSource
	o.wait(reason+" with "+strings.Join(words, ", "), func() string {
		s = o.source()
		for _, c := range s.Status.Conditions {
			if strings.Contains(c.Message, "hunter2") {
				o.Fatalf("it tells a secret: %s", c.Message)
			}
			if c.Type != v1alpha1.ConditionReady || c.Reason != reason || c.ObservedGeneration != s.Generation {
				continue
			}
			missing := false
			for _, w := range words {
				missing = missing || !strings.Contains(c.Message, w)
			}
			if !missing {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.Status)
	})
	return s
}

// fetched waits until a commit is the newest that is believed.
func (o *origin) fetched(commit string) *v1alpha1.GitSource {
	o.Helper()
	return o.says("Fetched", commit)
}

// stays sees that what was applied is kept in force: what somebody removes of it comes back as it was.
func (o *origin) stays(commit, name, value string) {
	o.Helper()
	m, err := o.config(name)
	if err != nil || m.Data["key"] != value {
		o.Fatalf("%s is %v, %v", name, m.Data, err)
	}
	if err := api.Delete(context.Background(), m); err != nil {
		o.Fatal(err)
	}
	o.wait(name+" made again", func() string {
		now, err := o.config(name)
		if err != nil || now.UID == m.UID {
			return fmt.Sprint("not there: ", err)
		}
		if now.Data["key"] != value {
			o.Fatalf("%s is %v", name, now.Data)
		}
		return ""
	})
	if s, y := o.source(), o.sync(); s.Status.Commit != commit || y.Status.LastAppliedCommit != commit {
		o.Errorf("the source has %s, the Sync %s, and not %s", s.Status.Commit, y.Status.LastAppliedCommit, commit)
	}
}

// confirm says that a rewritten history is meant.
func (o *origin) confirm(commit string) {
	o.Helper()
	s := &v1alpha1.GitSource{ObjectMeta: meta(o.ns, "shop")}
	if err := api.Patch(context.Background(), s, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationConfirmRewrite, commit))); err != nil {
		o.Fatal(err)
	}
}
