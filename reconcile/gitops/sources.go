package gitops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/api/webhook"
	"padis.io/padis/reconcile/gitops/source"
	"padis.io/padis/reconcile/gitops/source/signature"
	"padis.io/padis/reconcile/status"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Reasons of the conditions of GitSources, beside those of the packages source and signature.
const (
	ReasonFetched    = "Fetched"
	ReasonSuspended  = "Suspended"
	ReasonUnreadable = "CredentialsUnreadable"
)

const (
	// firstRetry is the wait after the first failed fetch; it doubles up to the interval, or to lastRetry if that is more.
	firstRetry, lastRetry = 2 * time.Second, 5 * time.Minute
	// sameFetch is how old a status may be that says when the server has answered, if nothing else changes.
	sameFetch = 5 * time.Minute
)

// Sources reconciles GitSources.
type Sources struct {
	client    client.Client
	live      client.Reader
	repos     repositories
	revisions *Revisions
	events    recorder
	now       func() time.Time
	log       *zap.Logger
	status    status.Keeper[v1alpha1.GitSourceStatus]

	mu    sync.Mutex
	tries map[types.UID]tries
}

// tries is how it went with a source so far.
type tries struct {
	// generation of the spec that a fetch has succeeded with, and the place and ref that it names.
	generation int64
	of         lineage
	failures   int
}

// lineage is where a history comes from. Who names another one may mean another history.
type lineage struct {
	url string
	ref v1alpha1.GitRef
}

func lineageOf(s *v1alpha1.GitSource) lineage { return lineage{s.Spec.URL, s.Spec.Ref} }

// NewSources makes the reconciler of GitSources, which reads secrets through live, without a cache.
func NewSources(c client.Client, live client.Reader, repos repositories, revisions *Revisions, events recorder, now func() time.Time, log *zap.Logger) *Sources {
	return &Sources{client: c, live: live, repos: repos, revisions: revisions, events: events, now: now, log: log, tries: map[types.UID]tries{}}
}

// Reconcile fetches one source and shows what came.
func (r *Sources) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	s := &v1alpha1.GitSource{}
	if err := r.client.Get(ctx, req.NamespacedName, s); apierrors.IsNotFound(err) {
		r.revisions.drop(req.NamespacedName)
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("read gitsource %s: %w", req, err)
	}
	if s.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	shown := r.status.Shown(s, s.Status)
	next := *shown.DeepCopy()
	next.ObservedGeneration, next.WebhookPath = s.Generation, ""
	if s.Spec.Webhook != nil {
		next.WebhookPath = webhook.Path(s.Namespace, s.Name)
	}
	if s.Spec.Suspend {
		next.Conditions = sourceConditions(s.Generation, false, ReasonSuspended, "nothing is fetched until spec.suspend is unset", false)
		return reconcile.Result{}, r.show(ctx, s, shown, next)
	}
	past := r.past(s, shown)
	interval, timeout := s.Spec.Times()
	fetching, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	got, err := r.fetch(fetching, s, shown, past)
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if err != nil {
		past.failures++
		r.remember(s, past)
		wait := backOff(past.failures, interval)
		reason, message, answered := sourceFailure(err)
		if answered {
			next.Refused = got.Commit
			r.touch(&next)
		}
		if next.Commit != "" {
			message += "; commit " + next.Commit + " stays in force"
		}
		next.Conditions = sourceConditions(s.Generation, false, reason, message, reason != string(source.ReasonInvalid))
		if !sameReason(shown.Conditions, next.Conditions) {
			r.events.Event(s, corev1.EventTypeWarning, reason, message)
		}
		return reconcile.Result{RequeueAfter: wait}, r.show(ctx, s, shown, next)
	}
	past = tries{generation: s.Generation, of: lineageOf(s)}
	r.remember(s, past)
	got.all = map[string]bool{got.Commit: true}
	// What was verified by other rules, or with other keys, counts no more.
	if known, ok := r.revisions.get(req.NamespacedName); ok && known.rules == got.rules {
		maps.Copy(got.all, known.all)
	}
	r.revisions.set(req.NamespacedName, got)
	r.touch(&next)
	t := metav1.NewTime(got.Time.UTC().Truncate(time.Second))
	subject, _, _ := strings.Cut(got.Message, "\n")
	next.Paths = s.Spec.Paths
	next.Commit, next.Ref, next.Author, next.Subject, next.CommitTime, next.Signer, next.Refused = got.Commit, got.Ref, got.Author, cut(subject, 256), &t, got.signer, ""
	message := "commit " + got.Commit + of(got.Ref)
	if got.signer != nil {
		message += ", signed by " + got.signer.Identity
	}
	next.Conditions = sourceConditions(s.Generation, true, ReasonFetched, message, false)
	if shown.Commit != next.Commit {
		r.log.Info("fetched", zap.Stringer("source", req), zap.String("commit", got.Commit), zap.Int("changed", len(got.Changed)), zap.Int64("bytes", got.Received))
		r.events.Event(s, corev1.EventTypeNormal, ReasonFetched, message)
	}
	return reconcile.Result{RequeueAfter: interval}, r.show(ctx, s, shown, next)
}

func of(ref string) string {
	if ref == "" {
		return ""
	}
	return " of " + ref
}

func (r *Sources) past(s *v1alpha1.GitSource, shown v1alpha1.GitSourceStatus) tries {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.tries[s.UID]
	if !ok {
		p.generation = shown.ObservedGeneration
		if p.generation == s.Generation {
			p.of = lineageOf(s)
		}
	}
	return p
}

func (r *Sources) remember(s *v1alpha1.GitSource, p tries) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries[s.UID] = p
}

// touch says that the server has answered, in a status that is not written for that alone all the time.
func (r *Sources) touch(st *v1alpha1.GitSourceStatus) {
	now := metav1.NewTime(r.now().UTC().Truncate(time.Second))
	st.LastFetchTime = &now
}

// fetch brings the newest commit and verifies it. What cannot be believed is returned with the error.
func (r *Sources) fetch(ctx context.Context, s *v1alpha1.GitSource, shown v1alpha1.GitSourceStatus, past tries) (verified, error) {
	spec, err := r.spec(ctx, s)
	if err != nil {
		return verified{}, &unreadable{err}
	}
	believed, err := readTrust(ctx, r.live, s)
	if err != nil {
		return verified{}, &unreadable{err}
	}
	spec.Since, spec.SincePaths, spec.SinceRef = shown.Commit, shown.Paths, shown.Ref
	spec.MayRewrite, spec.Confirmed = past.of != lineageOf(s), s.Annotations[v1alpha1.AnnotationConfirmRewrite]
	rev, err := r.repos.Fetch(ctx, spec)
	if err != nil {
		return verified{}, err
	}
	if known, ok := r.revisions.get(client.ObjectKeyFromObject(s)); ok && known.Commit == rev.Commit && known.Tag == rev.Tag && known.rules == believed.rules && past.generation == s.Generation {
		known.Revision = rev
		return known, nil
	}
	signer, err := believed.verify(r.repos, rev)
	return verified{Revision: rev, signer: signer, rules: believed.rules}, err
}

// unreadable is a problem with a Secret or ConfigMap that a source needs.
type unreadable struct{ error }

func (u *unreadable) Unwrap() error { return u.error }

// sourceFailure says why a fetch has failed, and whether the server has answered.
func sourceFailure(err error) (reason, message string, answered bool) {
	var (
		u *unreadable
		v *signature.Error
	)
	switch {
	case errors.As(err, &u):
		return ReasonUnreadable, err.Error(), false
	case errors.As(err, &v):
		return string(v.Reason), err.Error(), true
	}
	return string(source.ReasonOf(err)), err.Error(), false
}

// spec says what is wanted, with its credentials.
func (r *Sources) spec(ctx context.Context, s *v1alpha1.GitSource) (source.Spec, error) {
	spec := source.Spec{
		Name: s.Namespace + "/" + s.Name, URL: s.Spec.URL, CA: []byte(s.Spec.CABundle), Submodules: s.Spec.Submodules, Paths: s.Spec.Paths,
		Ref: source.Ref{Branch: s.Spec.Ref.Branch, Tag: s.Spec.Ref.Tag, SemVer: s.Spec.Ref.Semver, Commit: s.Spec.Ref.Commit},
	}
	if ref := s.Spec.SecretRef; ref != nil {
		data, err := readSecret(ctx, r.live, s.Namespace, ref.Name)
		if err != nil {
			return spec, fmt.Errorf("spec.secretRef: %w", err)
		}
		spec.Auth = source.Auth{Username: string(data["username"]), Token: string(data["bearerToken"]), KnownHosts: data["known_hosts"]}
		if key := data["identity"]; len(key) > 0 {
			spec.Auth.PrivateKey, spec.Auth.Passphrase = key, string(data["password"])
		} else {
			spec.Auth.Password = string(data["password"])
		}
	}
	if s.Spec.KnownHosts != "" {
		spec.Auth.KnownHosts = []byte(s.Spec.KnownHosts)
	}
	if p := s.Spec.Proxy; p != nil {
		proxy, err := r.proxy(ctx, s.Namespace, p)
		if err != nil {
			return spec, fmt.Errorf("spec.proxy: %w", err)
		}
		spec.Proxy = proxy
	}
	return spec, nil
}

// show writes a status that says something new.
func (r *Sources) show(ctx context.Context, s *v1alpha1.GitSource, shown, next v1alpha1.GitSourceStatus) error {
	next.Conditions = status.Timed(shown.Conditions, next.Conditions, r.now())
	same := *next.DeepCopy()
	same.LastFetchTime = shown.LastFetchTime
	if equality.Semantic.DeepEqual(same, shown) && (shown.LastFetchTime == nil) == (next.LastFetchTime == nil) {
		if shown.LastFetchTime == nil || next.LastFetchTime.Sub(shown.LastFetchTime.Time) < sameFetch {
			return nil
		}
	}
	return r.status.Replace(ctx, r.client, s, next, r.now())
}

// backOff is the wait after a number of failed fetches in a row.
func backOff(failures int, interval time.Duration) time.Duration {
	longest := max(interval, lastRetry)
	wait := firstRetry
	for range failures - 1 {
		if wait *= 2; wait >= longest {
			return longest
		}
	}
	return wait
}

// sourceConditions are those of a source. retried tells whether a failure may pass.
func sourceConditions(generation int64, ready bool, reason, message string, retried bool) []metav1.Condition {
	message = cut(message, maxMessage)
	return []metav1.Condition{
		condition(v1alpha1.ConditionReady, ready, reason, message, generation),
		condition(v1alpha1.ConditionReconciling, retried, reason, message, generation),
		condition(v1alpha1.ConditionStalled, !ready && !retried, reason, message, generation),
	}
}
