package gitops_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
)

// receiver takes messages, unless it is told to be ill.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	ill      bool
	refused  int
	messages []map[string]string
}

func newReceiver(t testing.TB, token string) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		m := map[string]string{}
		if err := json.NewDecoder(req.Body).Decode(&m); err != nil {
			t.Errorf("no message: %v", err)
		}
		if want := "Bearer " + token; token != "" && req.Header.Get("Authorization") != want {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.ill {
			r.refused++
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.messages = append(r.messages, m)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(ill bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ill = ill
}

func (r *receiver) attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// got are the messages as EVENT COMMIT REASON, with those that were sent twice once.
func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	ids := map[string]bool{}
	for _, m := range r.messages {
		if !ids[m["id"]] {
			ids[m["id"]] = true
			out = append(out, strings.TrimSpace(m["event"]+" "+m["commit"]+" "+m["reason"]))
		}
	}
	return out
}

func notifications(secrets ...string) []v1alpha1.SyncNotification {
	var out []v1alpha1.SyncNotification
	for _, s := range secrets {
		name, events, _ := strings.Cut(s, "=")
		n := v1alpha1.SyncNotification{SecretRef: v1alpha1.SecretReference{Name: name}}
		if events != "" {
			n.Events = strings.Split(events, ",")
		}
		out = append(out, n)
	}
	return out
}

// told waits until a receiver has got messages, and nothing is left to be told.
func (b *bed) told(r *receiver, want ...string) {
	b.Helper()
	b.wait(fmt.Sprint("told ", want), func() string {
		if got := r.got(); !slices.Equal(got, want) {
			return fmt.Sprintf("got %q; %+v", got, b.sync().Status)
		}
		if left := b.sync().Status.Telling; len(left) > 0 {
			return fmt.Sprintf("left: %+v", left)
		}
		return ""
	})
}

func (b *bed) secret(name string, data map[string]string) {
	b.Helper()
	b.create(&corev1.Secret{ObjectMeta: meta(b.ns, name), StringData: data})
}

func TestReceiversAreTold(t *testing.T) {
	all, failures := newReceiver(t, "the token"), newReceiver(t, "")
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Notifications: notifications("all", "failures=Failed,Refused")})
	b.secret("all", map[string]string{"url": all.URL + "/hook\n", "token": "the token"})
	b.secret("failures", map[string]string{"url": failures.URL})
	first := b.git("rev-parse", "HEAD")
	want := []string{"Applied " + first, "Healthy " + first + " Healthy"}
	b.told(all, want...)
	bad := b.push(map[string]string{"b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [\n"})
	want = append(want, "Failed "+bad+" ManifestsBroken")
	b.told(all, want...)
	b.told(failures, "Failed "+bad+" ManifestsBroken")
	if m := failures.messages[0]; m["sync"] != b.ns+"/shop" || !strings.Contains(m["message"], "b.yaml:") || !strings.Contains(m["text"], "b.yaml:") {
		t.Errorf("the message is %v", m)
	}
	refused := b.push(map[string]string{"b.yaml": configMap("Not_A_Name", "x")})
	want = append(want, "Refused "+refused+" Refused")
	b.told(all, want...)
	good := b.push(map[string]string{"b.yaml": configMap("b", "1")})
	want = append(want, "Applied "+good, "Healthy "+good+" Healthy")
	b.told(all, want...)
	b.hand("a", "other")
	want = append(want, "Drift "+good+" DriftCorrected")
	b.told(all, want...)
	b.told(failures, "Failed "+bad+" ManifestsBroken", "Refused "+refused+" Refused")
	b.want(func(y *v1alpha1.Sync) { y.Spec.Rollback = &v1alpha1.SyncRollback{To: first, From: good} })
	want = append(want, "Applied "+first, "Rollback "+first+" RolledBack", "Healthy "+first+" Healthy")
	b.told(all, want...)
}

// A commit that nobody vouches for is told, although the last good one stays in force.
func TestReceiversAreToldOfUnsignedCommits(t *testing.T) {
	r := newReceiver(t, "")
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Notifications: notifications("r=Refused")})
	b.secret("r", map[string]string{"url": r.URL})
	b.applied(b.git("rev-parse", "HEAD"))
	b.vouch()
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2")})
	b.wait("told", func() string {
		got := r.got()
		if len(got) > 0 && strings.HasPrefix(got[len(got)-1], "Refused "+bad) {
			return ""
		}
		return fmt.Sprint(got)
	})
}

// A receiver that is away costs an event and few attempts, holds nobody up, and is told after a restart what it has missed.
func TestReceiversAreToldAfterARestart(t *testing.T) {
	away, there := newReceiver(t, ""), newReceiver(t, "")
	away.set(true)
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Notifications: notifications("away=Applied", "there=Applied")})
	b.secret("away", map[string]string{"url": away.URL})
	b.secret("there", map[string]string{"url": there.URL})
	first := b.applied(b.git("rev-parse", "HEAD")).Status.LastAppliedCommit
	b.wait("noticed", func() string {
		if e := seen.of(b.ns, "NotificationFailed"); len(e) != 1 || !strings.Contains(e[0], "secret away") || !strings.Contains(e[0], "503") || strings.Contains(e[0], away.URL) {
			return fmt.Sprint(e)
		}
		if got := there.got(); !slices.Equal(got, []string{"Applied " + first}) {
			return fmt.Sprint(got)
		}
		return ""
	})
	if y := b.sync(); len(y.Status.Telling) != 1 {
		t.Fatalf("the message does not wait in the status: %+v", y.Status)
	}
	second := b.applied(b.push(map[string]string{"a.yaml": configMap("a", "2")})).Status.LastAppliedCommit
	if n := away.attempts(); n > 8 {
		t.Errorf("%d attempts", n)
	}
	if err := restart(); err != nil {
		t.Fatal(err)
	}
	away.set(false)
	b.told(away, "Applied "+first, "Applied "+second)
	if got := there.got(); !slices.Equal(got, []string{"Applied " + first, "Applied " + second}) {
		t.Errorf("the other was told %q", got)
	}
	// Nothing that was taken is told by the next process.
	n := len(away.messages)
	if err := restart(); err != nil {
		t.Fatal(err)
	}
	third := b.applied(b.push(map[string]string{"a.yaml": configMap("a", "3")})).Status.LastAppliedCommit
	b.told(away, "Applied "+first, "Applied "+second, "Applied "+third)
	if len(away.messages) != n+1 {
		t.Errorf("%d messages, %d before the commit", len(away.messages), n)
	}
}

// What is wrong with a receiver is said, and corrected without another commit.
func TestASecretOfAReceiverIsCorrected(t *testing.T) {
	r := newReceiver(t, "")
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Notifications: notifications("r=Applied")})
	first := b.applied(b.git("rev-parse", "HEAD")).Status.LastAppliedCommit
	b.wait("noticed", func() string {
		if e := seen.of(b.ns, "NotificationFailed"); len(e) == 0 || !strings.Contains(e[0], b.ns+"/r") {
			return fmt.Sprint(e)
		}
		return ""
	})
	b.secret("r", map[string]string{"url": r.URL})
	b.told(r, "Applied "+first)
}
