package gitops_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// secrets are what a test has put where nobody may read it. "zq7" is too short to be found in any text by chance.
var secrets = []string{"hunter2", "zq7", "correct-horse", "typed-by-hand"}

// everything is the status of the Sync, its events, and the audit log of its namespace.
func (b *bed) everything() string {
	b.Helper()
	status, err := json.Marshal(b.sync().Status)
	if err != nil {
		b.Fatal(err)
	}
	var lines []string
	seen.mu.Lock()
	for _, l := range seen.lines {
		if strings.HasPrefix(l, b.ns+"/") {
			lines = append(lines, l)
		}
	}
	seen.mu.Unlock()
	log, err := os.ReadFile(auditLog)
	if err != nil {
		b.Fatal(err)
	}
	for l := range strings.Lines(string(log)) {
		if strings.Contains(l, b.ns) {
			lines = append(lines, l)
		}
	}
	return string(status) + "\n" + strings.Join(lines, "\n")
}

func (b *bed) silent(about, text string) {
	b.Helper()
	for _, s := range secrets {
		for l := range strings.Lines(text) {
			if strings.Contains(l, s) {
				b.Errorf("%s: %s is told: %s", about, s, l)
			}
		}
	}
}

// What a variable has from a Secret is told nowhere, in whatever kind of object it is.
func TestSecretsOfVariablesAreToldNowhere(t *testing.T) {
	manifest := strings.Replace(app("web"), "    command:", "    env: [{name: WORD, value: \"${WORD}\"}, {name: PIN, value: \"${PIN}\"}, {name: PLAIN, value: \"1\"}]\n    command:", 1)
	b := newBed(t, map[string]string{"app.yaml": manifest, "a.yaml": configMap("a", "dsn:${WORD}@host")},
		v1alpha1.SyncSpec{Suspend: true, Drift: v1alpha1.DriftReport, Variables: []v1alpha1.SyncVariable{{SecretRef: &v1alpha1.SecretReference{Name: "words"}}}})
	words := &corev1.Secret{ObjectMeta: meta(b.ns, "words"), Data: map[string][]byte{"WORD": []byte("hunter2"), "PIN": []byte("zq7")}}
	b.create(words)
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	b.fares("web", true)
	b.applied(b.git("rev-parse", "HEAD"))
	b.holds("a", "dsn:hunter2@host")

	well := func(what string, f func(*v1alpha1.Sync) bool) {
		t.Helper()
		b.until(what, func(*v1alpha1.Sync) bool {
			b.fares("web", true)
			y := b.sync()
			return ready(y).Status == "True" && f(y)
		})
	}
	a := &v1alpha1.App{}
	change := func(env ...corev1.EnvVar) {
		t.Helper()
		b.wait("changed by hand", func() string {
			if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "web"}, a); err != nil {
				return err.Error()
			}
			for i := range a.Spec.Template.Env {
				a.Spec.Template.Env[i].Value = env[i].Value
			}
			if err := api.Update(context.Background(), a, client.FieldOwner("hand")); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	change(corev1.EnvVar{Value: "typed-by-hand"}, corev1.EnvVar{Value: "x"}, corev1.EnvVar{Value: "seen"})
	b.hand("a", "dsn:typed-by-hand@host")
	y := b.until("reported", func(y *v1alpha1.Sync) bool { return len(y.Status.Drift) == 4 })
	for _, d := range y.Status.Drift {
		if plain := strings.Contains(d.Path, "PLAIN"); plain != (d.Is == "seen") || !plain && (d.Want != "(secret)" || d.Is != "(secret)") {
			t.Errorf("drift is %+v", d)
		}
	}
	b.silent("drift that is reported", b.everything())

	b.want(func(y *v1alpha1.Sync) { y.Spec.Drift = v1alpha1.DriftCorrect })
	b.holds("a", "dsn:hunter2@host")
	well("corrected", func(y *v1alpha1.Sync) bool {
		return len(y.Status.Drift) == 0 && y.Status.ObservedGeneration == y.Generation
	})
	words.Data["WORD"] = []byte("correct-horse")
	if err := api.Update(context.Background(), words); err != nil {
		t.Fatal(err)
	}
	b.holds("a", "dsn:correct-horse@host")
	well("with another secret", func(*v1alpha1.Sync) bool { return true })
	b.silent("another secret", b.everything())

	// The API server quotes what it refuses.
	bad := strings.Replace(manifest, "    command:", "    resources: {memory: \"${WORD}\", cpu: \"${PIN}\"}\n    command:", 1)
	b.push(map[string]string{"app.yaml": bad})
	b.reason("Refused", "app.yaml:1", "spec.template.resources")
	b.silent("what is refused", b.everything())
	p, err := b.preview()
	if err != nil {
		t.Fatal(err)
	}
	refusals := ""
	for _, o := range p.Proposals {
		for _, r := range o.Refusals {
			refusals += r.Reason + " " + r.Field + " " + r.Message + "\n"
		}
	}
	if !strings.Contains(refusals, "(secret)") {
		t.Errorf("refusals are %q", refusals)
	}
	b.silent("the plan", refusals)

	// Nor is it when the field leaves the repository.
	b.push(map[string]string{"app.yaml": app("web"), "a.yaml": configMap("a", "1")})
	b.holds("a", "1")
	b.silent("what has left", b.everything())
}

// preview says what the Sync would do with the working copy.
func (b *bed) preview() (*gitops.Preview, error) {
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, client)
	if err != nil {
		return nil, err
	}
	return gitops.PreviewInput{Config: cfg, Mapper: mapper, Namespace: b.ns, Name: "shop", Files: os.DirFS(b.dir), From: "here", Dir: b.TempDir(), Now: time.Now()}.Look(context.Background())
}
