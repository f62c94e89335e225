package gitops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"
	"padis.io/padis/reconcile/gitops/source"
	"padis.io/padis/reconcile/status"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Reasons of the conditions of Syncs, beside those of the package decide.
const (
	ReasonInvalid          = "Invalid"
	ReasonSourceNotReady   = "SourceNotReady"
	ReasonSettings         = "SettingsUnreadable"
	ReasonOutsideWindows   = "OutsideWindows"
	ReasonDependencies     = "WaitingForSyncs"
	ReasonBroken           = "ManifestsBroken"
	ReasonRefused          = "Refused"
	ReasonConflict         = "Conflict"
	ReasonFailed           = "Failed"
	ReasonUnhealthy        = "Unhealthy"
	ReasonWaitingForHealth = "WaitingForHealth"
	ReasonDriftCorrected   = "DriftCorrected"
	ReasonDrifted          = "Drifted"
	ReasonHandingOver      = "HandingOver"
	ReasonHealthy          = "Healthy"
)

// lagging is when to look again while the cache is known to be behind; again is when what is missing is looked for again.
const lagging, again = 100 * time.Millisecond, 5 * time.Second

// errUntried: a source is new.
var errUntried = errors.New("is being fetched for the first time")

// silent are reasons with which something begins: they are no events.
var silent = []string{decide.ReasonApplying, decide.ReasonNoCommit}

// Syncs reconciles Syncs.
type Syncs struct {
	client    client.Client
	live      client.Reader
	repos     repositories
	revisions *Revisions
	objects   *objects
	charts    Charts
	events    recorder
	now       func() time.Time
	log       *zap.Logger
	status    status.Keeper[v1alpha1.SyncStatus]
	teller    *teller

	claims claims

	mu       sync.Mutex
	sessions map[string]*session
}

// Reconcile takes the next step of one Sync.
func (r *Syncs) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	y := &v1alpha1.Sync{}
	if err := r.client.Get(ctx, req.NamespacedName, y); apierrors.IsNotFound(err) {
		r.drop(req.String())
		r.teller.drop(req.String())
		return reconcile.Result{}, nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("read sync %s: %w", req, err)
	}
	l := &look{Syncs: r, y: y, shown: r.status.Shown(y, y.Status)}
	l.next = *l.shown.DeepCopy()
	if y.DeletionTimestamp != nil {
		l.next.ObservedGeneration = y.Generation
		return l.end(ctx)
	}
	l.next.ObservedGeneration, l.next.Telling = y.Generation, r.teller.waiting(y, l.shown.Telling)
	if y.Spec.Prune != controllerutil.ContainsFinalizer(y, Finalizer) {
		if err := r.finalizer(ctx, y); err != nil {
			return quiet(err)
		}
	}
	if errs := v1alpha1.ValidateSync(y, time.LoadLocation); len(errs) > 0 {
		return l.refuse(ctx, ReasonInvalid, errs.ToAggregate().Error(), 0)
	}
	var err error
	if l.set, err = readSettings(ctx, r.client, y); err != nil {
		return l.refuse(ctx, ReasonSettings, err.Error(), again)
	}
	if err := account(ctx, r.client, y); err != nil {
		return l.refuse(ctx, ReasonRefused, err.Error(), again)
	}
	l.set.charts = r.charts.until(ctx)
	l.s = r.session(y, l.shown, l.set.digest)
	defer func(began time.Time) {
		if !l.wrote {
			l.s.rest(began, time.Now())
		}
	}(time.Now())
	head, err := r.head(ctx, y)
	if errors.Is(err, errUntried) {
		return l.refuse(ctx, decide.ReasonNoCommit, err.Error(), again)
	} else if err != nil {
		return l.refuse(ctx, ReasonSourceNotReady, err.Error(), again)
	}
	return l.step(ctx, head)
}

// session gives what is remembered of a Sync, or begins with what its status says.
func (r *Syncs) session(y *v1alpha1.Sync, shown v1alpha1.SyncStatus, digest string) *session {
	name := y.Namespace + "/" + y.Name
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[name]
	if s == nil || s.uid != y.UID {
		at := y.DeepCopy()
		at.Status = shown
		s = &session{name: name, uid: y.UID, state: decide.Restore(at, digest), known: map[decide.ID]*object{}, marked: map[decide.ID]bool{}}
		if shown.PartlyAppliedCommit == "" {
			s.restored = [2]string{shown.LastAppliedCommit, shown.AppliedSettings}
		}
		if was := find(shown.Conditions, v1alpha1.ConditionReady); shown.Failures > 0 && shown.LastAttemptedCommit != "" {
			was.Message, _, _ = strings.Cut(was.Message, meanwhile)
			s.why, s.ill, s.contested = was, was.Reason == ReasonUnhealthy, was.Reason == ReasonConflict
		}
		r.sessions[name] = s
	}
	return s
}

func (r *Syncs) drop(name string) {
	r.claims.drop(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[name]; s != nil {
		r.status.Drop(s.uid)
	}
	delete(r.sessions, name)
}

// mark remembers that an object of a Sync has changed, and says when to look; known tells whether the Sync is.
func (r *Syncs) mark(sync string, id decide.ID) (after time.Duration, known bool) {
	r.mu.Lock()
	s := r.sessions[sync]
	r.mu.Unlock()
	if s == nil {
		return 0, false
	}
	return s.mark(id, time.Now()), true
}

// user is by whose rights a Sync writes.
func user(y *v1alpha1.Sync) string {
	if y.Spec.ServiceAccount == "" {
		return ""
	}
	return "system:serviceaccount:" + y.Namespace + ":" + y.Spec.ServiceAccount
}

// source reads the GitSource of a Sync. That of another namespace needs the right to read it.
func (r *Syncs) source(ctx context.Context, y *v1alpha1.Sync) (*v1alpha1.GitSource, error) {
	ref := y.Spec.SourceRef
	gs := &v1alpha1.GitSource{}
	if ref.Namespace != "" && ref.Namespace != y.Namespace {
		if user(y) == "" {
			return nil, fmt.Errorf("spec.sourceRef.namespace %q: only a Sync with a service account may read what is in another namespace: set spec.serviceAccount", ref.Namespace)
		}
		c, err := r.objects.as(user(y))
		if err != nil {
			return nil, err
		}
		sources := schema.GroupVersionResource{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Resource: "gitsources"}
		if _, err := c.Resource(sources).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{}); err != nil {
			return nil, fmt.Errorf("gitsource %s: %w", ref.In(y.Namespace), err)
		}
	}
	name := types.NamespacedName{Namespace: y.Namespace, Name: ref.Name}
	if ref.Namespace != "" {
		name.Namespace = ref.Namespace
	}
	if err := r.client.Get(ctx, name, gs); apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("gitsource %s does not exist: declare it, or correct spec.sourceRef", name)
	} else if err != nil {
		return nil, fmt.Errorf("read gitsource %s: %w", name, err)
	}
	return gs, nil
}

// head is the newest commit of the source that was verified; empty before there is one.
func (r *Syncs) head(ctx context.Context, y *v1alpha1.Sync) (string, error) {
	gs, err := r.source(ctx, y)
	if err != nil {
		return "", err
	}
	if gs.Status.Commit == "" {
		why := find(gs.Status.Conditions, v1alpha1.ConditionReady).Message
		if why == "" {
			return "", fmt.Errorf("gitsource %s/%s %w", gs.Namespace, gs.Name, errUntried)
		}
		return "", fmt.Errorf("gitsource %s/%s has no commit: %s", gs.Namespace, gs.Name, why)
	}
	return gs.Status.Commit, nil
}

// revision is a commit of the source that may be read: the newest, or another one that is vouched for.
func (r *Syncs) revision(ctx context.Context, y *v1alpha1.Sync, commit string) (source.Revision, *v1alpha1.GitSource, error) {
	gs, err := r.source(ctx, y)
	if err != nil {
		return source.Revision{}, nil, err
	}
	v, ok := r.revisions.get(client.ObjectKeyFromObject(gs))
	if !ok {
		v.Revision = source.Revision{Name: gs.Namespace + "/" + gs.Name, URL: gs.Spec.URL, Commit: gs.Status.Commit, Paths: gs.Status.Paths}
	}
	if gs.Spec.Submodules && (!ok || v.Commit != commit) {
		return source.Revision{}, nil, fmt.Errorf("commit %s has submodules that have not been fetched since the start: wait for the next fetch; one that is not the newest cannot be gone back to", commit)
	}
	if v.Commit == commit {
		return v.Revision, gs, nil
	}
	rev := v.Revision
	rev.Commit, rev.Tag, rev.Changed, rev.Submodules = commit, "", nil, nil
	if gs.Status.Commit == commit || v.all[commit] {
		return rev, gs, nil
	}
	t, err := readTrust(ctx, r.live, gs)
	if err != nil {
		return rev, nil, err
	}
	applied := slices.ContainsFunc(y.Status.History, func(c v1alpha1.AppliedCommit) bool { return c.Commit == commit })
	if err := t.again(r.repos, rev, applied); err != nil {
		return rev, nil, err
	}
	return rev, gs, nil
}

// look is one look at a Sync.
type look struct {
	*Syncs
	y           *v1alpha1.Sync
	s           *session
	set         settings
	shown, next v1alpha1.SyncStatus
	// holds are what is left as it is by spec.undo.
	holds []decide.Hold
	// wrote: it has taken as long as writing takes, not looking.
	wrote bool
}

// gate is why nothing new may begin, and when that changes by itself.
func (l *look) gate(ctx context.Context) (refusal *decide.Refusal, frozen bool, next time.Duration, err error) {
	if l.y.Spec.Suspend {
		return &decide.Refusal{Reason: ReasonSuspended, Message: "nothing is changed until spec.suspend is unset"}, true, 0, nil
	}
	if len(l.y.Spec.Windows) > 0 {
		schedule, err := decide.NewSchedule(l.y.Spec.Windows, time.LoadLocation)
		if err != nil {
			return nil, false, 0, err
		}
		now := l.now()
		open, change := decide.Window(now, schedule)
		if !change.IsZero() {
			next = change.Sub(now)
		}
		if !open {
			m := "nothing is changed before the next of spec.windows"
			if !change.IsZero() {
				m += ", at " + change.UTC().Format(time.RFC3339)
			}
			return &decide.Refusal{Reason: ReasonOutsideWindows, Message: m}, true, next, nil
		}
	}
	if len(l.y.Spec.DependsOn) == 0 {
		return nil, false, next, nil
	}
	var all v1alpha1.SyncList
	if err := l.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil, false, 0, fmt.Errorf("list syncs: %w", err)
	}
	list := make([]decide.Dependent, 0, len(all.Items))
	for i := range all.Items {
		o := &all.Items[i]
		d := decide.Dependent{Name: o.Namespace + "/" + o.Name}
		for _, on := range o.Spec.DependsOn {
			d.DependsOn = append(d.DependsOn, on.In(o.Namespace))
		}
		var gs v1alpha1.GitSource
		key := types.NamespacedName{Namespace: o.Namespace, Name: o.Spec.SourceRef.Name}
		if o.Spec.SourceRef.Namespace != "" {
			key.Namespace = o.Spec.SourceRef.Namespace
		}
		if err := l.client.Get(ctx, key, &gs); err == nil {
			d.Ready = o.Status.ObservedGeneration == o.Generation && o.Status.SeenCommit == gs.Status.Commit &&
				find(o.Status.Conditions, v1alpha1.ConditionReady).Status == metav1.ConditionTrue
		}
		list = append(list, d)
	}
	if d := decide.Depends(list)[l.s.name]; !d.Ready {
		return &decide.Refusal{Reason: ReasonDependencies, Message: d.String()}, false, next, nil
	}
	return nil, false, next, nil
}

// step tells the state what has happened, and does what it says.
func (l *look) step(ctx context.Context, head string) (reconcile.Result, error) {
	gate, frozen, opens, err := l.gate(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	s, now := l.s, l.now()
	s.state.Initial, s.state.Longest = l.y.Spec.Retry.Times()
	running, with := s.state.Running, s.state.RunningSettings
	var step decide.Step
	tell := func(e decide.Event) {
		e.At = now
		s.state, step = decide.Next(s.state, e)
	}
	tell(decide.Event{Kind: decide.GateChanged, Gate: gate})
	if !equality.Semantic.DeepEqual(s.state.Rollback, l.y.Spec.Rollback) {
		tell(decide.Event{Kind: decide.RollbackChanged, Rollback: l.y.Spec.Rollback.DeepCopy()})
	}
	if s.state.Settings != l.set.digest {
		tell(decide.Event{Kind: decide.SettingsChanged, Settings: l.set.digest})
	}
	if s.state.Head != head {
		tell(decide.Event{Kind: decide.Seen, Commit: head, Ends: l.ends(ctx, head)})
		s.upheld = upheld{}
	}
	if s.ill && step.Reason == decide.ReasonBackOff {
		// What was ill may have got well by itself.
		if l.well(ctx) {
			s.state.NotBefore = now
			tell(decide.Event{Kind: decide.Tick})
		}
	}
	if s.contested && step.Reason == decide.ReasonBackOff && l.uncontested(ctx) {
		// Another Sync has let go of what it had.
		s.state.NotBefore = now
		tell(decide.Event{Kind: decide.Tick})
	}
	var res reconcile.Result
	switch {
	case s.state.Running != "" && frozen:
		res, err = l.pause(ctx, gate)
	case s.state.Running != "":
		if s.state.Running != running || s.state.RunningSettings != with {
			s.wave, s.since, s.ill, s.contested, s.rehearsed = -1, now, false, false, false
			if s.state.Failures == 0 {
				// What somebody wants now does not wait.
				s.contests = nil
			}
			if !l.shown.Incomplete {
				s.before = len(decide.Applied(l.shown.Inventory))
			}
		}
		res, err = l.attempt(ctx)
	case step.Reason == decide.ReasonUpToDate || step.Reason == decide.ReasonRolledBack:
		res, err = l.keep(ctx, step, gate, frozen)
	default:
		s.state.Save(&l.next)
		// The reason of the failure says more than that it is repeated.
		reason, message := step.Reason, step.Message
		if (reason == decide.ReasonBackOff || reason == decide.ReasonStalled) && s.why.Status == metav1.ConditionFalse {
			reason, message = s.why.Reason, s.why.Message
		}
		said, at := l.uphold(ctx, frozen)
		l.conditions(false, reason, also(message, said))
		res, err = l.later(ctx, sooner(l.soon(step.After), at))
	}
	if err == nil && opens > 0 && (res.RequeueAfter == 0 || res.RequeueAfter > opens) {
		res.RequeueAfter = opens
	}
	return res, err
}

// ends tells whether a new commit ends the rollback.
func (l *look) ends(ctx context.Context, head string) bool {
	rb := l.y.Spec.Rollback
	if rb == nil || rb.Pinned || rb.From == "" || head == rb.From {
		return false
	}
	var (
		all    [3]map[decide.ID]string
		broken problems
	)
	for i, commit := range []string{rb.To, rb.From, head} {
		var err error
		if all[i], err = l.digests(ctx, l.y, l.s, l.set, commit); commit == rb.From && errors.As(err, &broken) {
			// Whatever was wrong with it, the new one has changed it, if it can be read.
			continue
		}
		if err != nil {
			l.log.Warn("a rollback stays, since commits cannot be compared", zap.String("sync", l.s.name), zap.String("commit", commit), zap.Error(err))
			return false
		}
	}
	return len(broken) > 0 || len(decide.Ends(all[0], all[1], all[2])) > 0
}

// well tells whether what the failed attempt has waited for has become healthy since. Later waves do not count: they are not
// there yet.
func (l *look) well(ctx context.Context) bool {
	if l.render(ctx, l.y, l.s, l.set, l.s.state.Attempt) != nil {
		return false
	}
	l.hold(ctx)
	if _, _, err := l.compare(ctx, l.y, l.s, l.shown.Inventory); err != nil {
		return false
	}
	return !slices.ContainsFunc(l.s.wanted, func(w decide.Rendered) bool {
		k := l.s.known[w.ID]
		return k != nil && k.looked && (k.verdict.Health == decide.Progressing || k.verdict.Health == decide.Failed) && w.ID != decide.SyncID(l.s.name)
	})
}

// unhealthy are the wanted objects that are not healthy. The Sync itself cannot wait for itself.
func (l *look) unhealthy() []v1alpha1.ObjectReport { return l.ill(l.s.wanted) }

// ill are those of some objects that are not healthy.
func (l *look) ill(objects []decide.Rendered) []v1alpha1.ObjectReport {
	var out []v1alpha1.ObjectReport
	for _, w := range objects {
		if l.s.held[w.ID] || w.ID == decide.SyncID(l.s.name) {
			continue
		}
		k := l.s.known[w.ID]
		v := decide.HealthOf(nil)
		if k != nil && k.looked {
			v = k.verdict
		}
		if v.Health == decide.Progressing || v.Health == decide.Failed {
			out = append(out, v1alpha1.ObjectReport{Object: w.ID.String(), Health: v.Health.String(), Reason: v.Reason, Message: cut(v.Message, 512)})
		}
	}
	return out
}

// conditions says how it stands.
func (l *look) conditions(ready bool, reason, message string) {
	g, st := l.y.Generation, &l.s.state
	message = cut(message, maxMessage)
	healthy := condition(v1alpha1.ConditionHealthy, len(l.next.Unhealthy) == 0, ReasonHealthy, "all objects are healthy", g)
	if ill := l.next.Unhealthy; len(ill) > 0 {
		healthy.Reason, healthy.Message = ReasonUnhealthy, decide.Plural(len(ill), "object", "objects")+" "+notHealthy(ill)
	} else if len(l.s.known) == 0 && len(l.shown.Inventory) == 0 && !ready {
		healthy = condition(v1alpha1.ConditionHealthy, false, decide.ReasonNoCommit, "nothing is applied yet", g)
	}
	l.next.Conditions = []metav1.Condition{
		condition(v1alpha1.ConditionReady, ready, reason, message, g),
		condition(v1alpha1.ConditionReconciling, !ready && !st.Stalled, reason, message, g),
		condition(v1alpha1.ConditionStalled, st.Stalled, reason, message, g),
		healthy,
	}
}

// refuse shows why nothing can be said of a Sync, and leaves what it has applied.
func (l *look) refuse(ctx context.Context, reason, message string, after time.Duration) (reconcile.Result, error) {
	g := l.y.Generation
	message = cut(message, maxMessage)
	l.next.Conditions = slices.DeleteFunc(l.next.Conditions, func(c metav1.Condition) bool { return c.Type != v1alpha1.ConditionHealthy })
	l.next.Conditions = append(l.next.Conditions, condition(v1alpha1.ConditionReady, false, reason, message, g),
		condition(v1alpha1.ConditionReconciling, after > 0, reason, message, g), condition(v1alpha1.ConditionStalled, after == 0, reason, message, g))
	return reconcile.Result{RequeueAfter: after}, l.show(ctx)
}

// show writes a status that says something new.
func (l *look) show(ctx context.Context) error {
	l.next.Conditions = status.Timed(l.shown.Conditions, l.next.Conditions, l.now())
	lost := l.tell(ctx)
	if equality.Semantic.DeepEqual(l.shown, l.next) {
		return nil
	}
	if c := find(l.next.Conditions, v1alpha1.ConditionReady); !sameReason(l.shown.Conditions, l.next.Conditions) && !slices.Contains(silent, c.Reason) {
		kind := corev1.EventTypeWarning
		if c.Status == metav1.ConditionTrue || c.Reason == ReasonWaitingForHealth {
			kind = corev1.EventTypeNormal
		}
		l.events.Event(l.y, kind, c.Reason, cut(c.Message, 1000))
		if kind == corev1.EventTypeWarning {
			l.log.Warn("not in force", zap.String("sync", l.y.Namespace+"/"+l.y.Name), zap.String("reason", c.Reason), zap.String("message", c.Message))
		}
	}
	if err := l.status.Replace(ctx, l.client, l.y, l.next, l.now()); err != nil {
		return err
	}
	l.shown = *l.next.DeepCopy()
	l.told(lost)
	return nil
}

// failure says why an attempt has failed: reason, and whether to repeat it would be of no use.
func failure(err error) (reason string, final bool) {
	var p problems
	var refused *refusals
	switch {
	case errors.As(err, &p):
		return ReasonBroken, true
	case errors.As(err, &refused):
		return refused.reason, false
	}
	return ReasonFailed, false
}
