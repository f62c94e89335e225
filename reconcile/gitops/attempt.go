package gitops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"padis.io/padis/api/origin"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"
	"padis.io/padis/reconcile/gitops/source"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// writeEvery is the least time between two statuses that differ only in how objects fare.
const writeEvery = time.Second

// writesOf are the objects to write, in the order of the wanted ones.
func (l *look) writesOf(p decide.Plan) []write {
	var out []write
	drift := make(map[decide.ID][]decide.FieldChange, len(p.Drifted))
	for _, d := range p.Drifted {
		drift[d.ID] = d.Fields
	}
	waiting := make(map[decide.ID][]decide.FieldChange, len(p.Contested))
	for _, d := range p.Contested {
		waiting[d.ID] = d.Fields
	}
	for _, c := range p.Create {
		out = append(out, write{Rendered: c, body: c.JSON, create: true, force: drift[c.ID] != nil})
	}
	for _, u := range p.Update {
		w := write{Rendered: u.Rendered, body: u.Apply, force: u.Force, takeOver: u.TakeOver}
		w.drift = waiting[u.ID]
		if !l.y.Spec.Corrects() {
			w.drift = drift[u.ID]
		}
		out = append(out, w)
	}
	slices.SortStableFunc(out, func(a, b write) int { return l.s.index[a.ID] - l.s.index[b.ID] })
	return out
}

// attempt goes on with the commit that is being applied, as far as it can without waiting.
func (l *look) attempt(ctx context.Context) (reconcile.Result, error) {
	s, commit := l.s, l.s.state.Running
	limit, patience := l.y.Spec.Times()
	writing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if s.paused {
		// Meanwhile, much may have become otherwise.
		s.paused, s.since, s.rehearsed = false, l.now(), false
	}
	if err := l.render(writing, l.y, s, l.set, commit); err != nil {
		return l.broke(ctx, err)
	}
	l.hold(writing)
	plan, left, err := l.compare(writing, l.y, s, l.shown.Inventory)
	if err != nil {
		return l.broke(ctx, l.late(writing, err))
	}
	if len(plan.Conflicts) > 0 {
		s.contested = contested(plan)
		return l.broke(ctx, conflicts(plan, s))
	}
	c, err := l.objects.as(user(l.y))
	if err != nil {
		return l.broke(ctx, err)
	}
	writes := l.writesOf(plan)
	if !s.rehearsed && len(writes) > 0 {
		behind, err := l.rehearse(writing, c, writes)
		switch {
		case err != nil:
			return l.broke(ctx, l.late(writing, err))
		case behind:
			return reconcile.Result{RequeueAfter: lagging}, nil
		}
	}
	s.rehearsed = true
	if plan.Writes() > 0 {
		s.state, _ = decide.Next(s.state, decide.Event{Kind: decide.Writing, At: l.now(), Commit: commit})
		s.restored = [2]string{}
	}
	// What may come to be there is in the inventory before it is.
	s.state.Save(&l.next)
	l.inventory(plan, false)
	l.next.Conflicts, l.next.Unhealthy = nil, nil
	l.conditions(false, decide.ReasonApplying, "commit "+commit+" is being applied")
	if l.next.Objects != l.shown.Objects || plan.Writes() > 0 || !l.shown.Incomplete {
		if err := l.show(ctx); err != nil {
			return reconcile.Result{}, err
		}
	}
	writing = l.origin(writing, commit)
	due := make(map[decide.ID]write, len(writes))
	for _, w := range writes {
		due[w.ID] = w
	}
	for i, wave := range s.waves {
		var batch []write
		for _, o := range wave.Objects {
			if w, ok := due[o.ID]; ok {
				batch = append(batch, w)
			}
		}
		if err := l.write(writing, c, batch); err != nil {
			return l.broke(ctx, l.late(writing, err))
		}
		l.putBack(plan.Drifted, batch)
		if i > s.wave {
			s.wave, s.since = i, l.now()
		}
		if wait := l.waits(wave); len(wait) > 0 {
			l.next.Unhealthy = wait[:min(len(wait), v1alpha1.MaxReported)]
			left := patience - l.now().Sub(s.since)
			failed := slices.ContainsFunc(wait, func(o v1alpha1.ObjectReport) bool { return o.Health == decide.Failed.String() })
			first := fmt.Sprintf("%d of %s of wave %d %s", len(wait), decide.Plural(len(wave.Objects), "object", "objects"), wave.Number, notHealthy(wait))
			if failed || left <= 0 {
				s.ill = true
				return l.broke(ctx, &refusals{reason: ReasonUnhealthy, lines: []string{first}})
			}
			l.conditions(false, ReasonWaitingForHealth, "commit "+commit+" is being applied; "+first)
			return l.later(ctx, l.wake(plan, left))
		}
	}
	refusal, err := l.prune(writing, c, &plan, left, commit)
	if err != nil {
		return l.broke(ctx, l.late(writing, err))
	}
	at := l.now()
	var step decide.Step
	s.state, step = decide.Next(s.state, decide.Event{Kind: decide.Succeeded, At: at, Commit: commit})
	s.state.Save(&l.next)
	l.inventory(plan, true)
	s.written()
	l.from(ctx, commit)
	t := metav1.NewTime(at.UTC().Truncate(time.Second))
	l.next.LastAppliedTime = &t
	l.next.History = decide.Remember(l.next.History, v1alpha1.AppliedCommit{Commit: commit, Time: t, Author: l.next.Author}, s.state.RolledBack())
	l.log.Info("applied", zap.String("sync", s.name), zap.String("commit", commit), zap.Int("objects", len(s.wanted)), zap.Int("writes", plan.Writes()))
	l.settled(plan, refusal, step)
	return reconcile.Result{RequeueAfter: l.wake(plan, l.handOver(plan))}, l.show(ctx)
}

// putBack remembers which drift was put back by a batch of writes.
func (l *look) putBack(drifted []decide.Drifted, batch []write) {
	if !l.y.Spec.Corrects() {
		return
	}
	written := make(map[decide.ID]bool, len(batch))
	for _, w := range batch {
		written[w.ID] = true
	}
	var back []decide.Drifted
	for _, d := range drifted {
		if written[d.ID] {
			back = append(back, d)
		}
	}
	l.s.contests = l.s.contests.After(back, l.now())
}

// wake is when to look again: after a time, if it is not 0, or when something that waits is put back.
func (l *look) wake(p decide.Plan, after time.Duration) time.Duration {
	now := l.now()
	if at := l.s.contests.Wake(p.Contested, now); !at.IsZero() && (after == 0 || at.Sub(now) < after) {
		return at.Sub(now)
	}
	return after
}

// corrected says what was put back, also to the receivers of notifications.
func (l *look) corrected(drifted []decide.Drifted) string {
	l.s.corrected, l.s.recurring = drifts(drifted), some(l.s.contests.Recurring(drifted, l.now()))
	return fmt.Sprintf("%s changed by others and put back: %s", decide.Plural(len(drifted), "object was", "objects were"), l.s.corrected)
}

// late says that the time is up, where that is why something has failed.
func (l *look) late(writing context.Context, err error) error {
	if !errors.Is(writing.Err(), context.DeadlineExceeded) {
		return err
	}
	limit, _ := l.y.Spec.Times()
	return fmt.Errorf("it was not written within the %s of spec.timeout: what is written stays, and the next attempt goes on with the rest; raise spec.timeout if that happens again", limit)
}

// pause holds up the commit that is being applied.
func (l *look) pause(ctx context.Context, gate *decide.Refusal) (reconcile.Result, error) {
	l.s.paused = true
	l.s.state.Save(&l.next)
	said, after := l.uphold(ctx, true)
	l.conditions(false, gate.Reason, also("not all of commit "+l.s.state.Running+" is applied; "+gate.Message, said))
	return l.later(ctx, after)
}

// waits are the objects of a wave that are not healthy yet.
func (l *look) waits(wave decide.Wave) []v1alpha1.ObjectReport {
	return l.ill(wave.Objects)
}

// broke shows why the attempt has failed, and when it is repeated.
func (l *look) broke(ctx context.Context, err error) (reconcile.Result, error) {
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if errors.Is(err, errHeldUp) {
		// What was written is in the inventory; the change that holds it up is looked at next.
		l.s.paused = true
		return reconcile.Result{}, nil
	}
	reason, final := failure(err)
	s, commit := l.s, l.s.state.Running
	var step decide.Step
	s.state, step = decide.Next(s.state, decide.Event{Kind: decide.Broke, At: l.now(), Commit: commit, Final: final})
	s.state.Save(&l.next)
	l.next.Conflicts = nil
	if r, ok := err.(*refusals); ok { //nolint:errorlint // it is never wrapped
		l.next.Conflicts = r.fields[:min(len(r.fields), v1alpha1.MaxReported)]
	}
	message := "commit " + commit + ": " + err.Error()
	l.conditions(false, reason, message)
	s.why, s.upheld.ill = find(l.next.Conditions, v1alpha1.ConditionReady), l.next.Unhealthy
	said, after := l.uphold(ctx, false)
	l.conditions(false, reason, also(message, said))
	return reconcile.Result{RequeueAfter: sooner(l.soon(step.After), after)}, l.show(ctx)
}

// keep sees that what is applied stays as it was applied.
func (l *look) keep(ctx context.Context, step decide.Step, gate *decide.Refusal, frozen bool) (reconcile.Result, error) {
	s, commit := l.s, l.s.state.Target()
	s.state.Save(&l.next)
	s.upheld = upheld{}
	plan, left, err := decide.Plan{}, map[decide.ID]*unstructured.Unstructured(nil), l.render(ctx, l.y, s, l.set, commit)
	if err == nil {
		l.hold(ctx)
		plan, left, err = l.compare(ctx, l.y, s, l.shown.Inventory)
	}
	if err != nil {
		l.conditions(false, ReasonFailed, "commit "+commit+" is applied, and what became of it cannot be told: "+err.Error())
		return reconcile.Result{RequeueAfter: again}, l.show(ctx)
	}
	var refusal *decide.Refusal
	if !frozen {
		c, err := l.objects.as(user(l.y))
		if err != nil {
			return reconcile.Result{}, err
		}
		limit, _ := l.y.Spec.Times()
		writing, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if plan.Writes() > 0 {
			writing = l.origin(writing, commit)
		}
		writes := l.writesOf(plan)
		if err = l.write(writing, c, writes); err == nil {
			l.putBack(plan.Drifted, writes)
			refusal, err = l.prune(writing, c, &plan, left, commit)
		}
		if errors.Is(err, errHeldUp) {
			return reconcile.Result{}, nil
		}
		if err != nil {
			err = l.late(writing, err)
			reason, _ := failure(err)
			l.conditions(false, reason, "what others have changed cannot be put back: "+err.Error())
			return reconcile.Result{RequeueAfter: again}, l.show(ctx)
		}
		if len(plan.Drifted) > 0 && l.y.Spec.Corrects() {
			l.events.Event(l.y, corev1.EventTypeNormal, ReasonDriftCorrected, cut(l.corrected(plan.Drifted), 1000))
			plan.Drifted = nil
		}
	}
	l.inventory(plan, !frozen)
	if gate != nil && frozen {
		step.Message += "; " + gate.Message
	}
	l.settled(plan, refusal, step)
	return l.later(ctx, l.wake(plan, l.handOver(plan)))
}

// later shows how objects fare, but not with each one that changes: with many objects, the status is large.
func (l *look) later(ctx context.Context, after time.Duration) (reconcile.Result, error) {
	was, now := find(l.shown.Conditions, v1alpha1.ConditionReady), find(l.next.Conditions, v1alpha1.ConditionReady)
	wait := l.status.Wait(l.y, l.now(), writeEvery)
	if wait == 0 || was.Status != now.Status || was.Reason != now.Reason {
		return reconcile.Result{RequeueAfter: after}, l.show(ctx)
	}
	if after == 0 || after > wait {
		after = wait
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// settled shows what is applied, and how it fares.
func (l *look) settled(p decide.Plan, refusal *decide.Refusal, step decide.Step) {
	reason, message := step.Reason, step.Message
	drift := l.reports(p)
	l.next.Drift, l.next.Conflicts = drift[:min(len(drift), v1alpha1.MaxReported)], nil
	for _, c := range p.Conflicts {
		if len(l.next.Conflicts) < v1alpha1.MaxReported {
			l.next.Conflicts = append(l.next.Conflicts, c.Field.Report(c.ID))
		}
	}
	if undone := decide.Undone(l.holds); undone != "" {
		message += "; " + undone
	}
	words := l.s.contests.Words(p.Contested, l.now())
	ill := l.unhealthy()
	l.next.Unhealthy = ill[:min(len(ill), v1alpha1.MaxReported)]
	l.next.PendingPrune = 0
	switch {
	case refusal != nil:
		l.next.PendingPrune = int32(len(p.Prune))
		reason, message = refusal.Reason, refusal.Message
	case len(l.next.Conflicts) > 0:
		reason, message = ReasonConflict, fmt.Sprintf("%s: %s", p.Conflicts[0].ID, p.Conflicts[0].Message)
	case len(ill) > 0:
		reason, message = ReasonUnhealthy, fmt.Sprintf("%s; %s %s", message, decide.Plural(len(ill), "object", "objects"), notHealthy(ill))
	case len(words) > 0:
		if reason == decide.ReasonUpToDate {
			reason = decide.ReasonDriftContested
		}
		message += "; " + some(words)
	case len(drift) > 0:
		if reason == decide.ReasonUpToDate && !l.y.Spec.Corrects() {
			reason = ReasonDrifted
		}
		message += "; " + reported(drift)
	}
	if waits := p.Waiting(); refusal == nil && len(waits) > 0 {
		if reason == step.Reason {
			reason = ReasonHandingOver
		}
		message += "; " + decide.HandingOver(waits)
	}
	l.conditions(refusal == nil && len(ill) == 0 && len(l.next.Conflicts) == 0, reason, message)
}

// reports are the fields that others have changed and that are not put back now: those of a plan, and those that were found before.
func (l *look) reports(p decide.Plan) []v1alpha1.FieldReport {
	var drift []v1alpha1.FieldReport
	told := map[decide.ID]bool{}
	add := func(id decide.ID, fields []decide.FieldChange) {
		for _, f := range fields {
			one := f.Report(id)
			if l.y.Spec.Corrects() {
				one.Contest = l.s.contests.Word(id, f)
			}
			drift = append(drift, one)
		}
	}
	for _, d := range slices.Concat(p.Drifted, p.Contested) {
		told[d.ID] = true
		add(d.ID, d.Fields)
	}
	for _, id := range l.s.drifted() {
		if !told[id] {
			add(id, l.s.known[id].drift)
		}
	}
	return drift
}

// reported goes into a message, and names what status.drift lists.
func reported(drift []v1alpha1.FieldReport) string {
	return fmt.Sprintf("%s changed by others (%s): see status.drift", decide.Plural(len(drift), "field was", "fields were"), some(fieldsOf(drift)))
}

// inventory is what is applied: what is wanted, and what has left the repository and is still there.
func (l *look) inventory(p decide.Plan, done bool) {
	if len(p.Protected)+len(p.Prune)+len(p.Released)+len(l.holds) == 0 {
		l.next.Inventory, l.next.Objects = l.s.listed, int32(len(l.s.wanted))
		return
	}
	all := slices.Clone(l.s.wanted)
	versions := l.s.appliedIn(l.shown.Inventory)
	stays := func(id decide.ID) {
		if versions[id] != "" {
			all = append(all, decide.Rendered{ID: id, APIVersion: versions[id]})
		}
	}
	for _, k := range p.Protected {
		stays(k.ID)
	}
	for _, h := range l.holds {
		if _, wanted := l.s.index[h.ID]; !wanted {
			stays(h.ID)
		}
	}
	for _, id := range p.Prune {
		stays(id)
	}
	if !done {
		for _, id := range p.Released {
			stays(id)
		}
	}
	l.next.Inventory, l.next.Objects = decide.Inventory(all), int32(len(all))
}

// mayPrune says why deletions need confirmation. What needed it does so until it is given, also after a restart.
func (l *look) mayPrune(p decide.Plan, applied int, commit string) *decide.Refusal {
	if l.s.before > 0 {
		applied = l.s.before
	}
	confirmed := l.y.Annotations[v1alpha1.AnnotationConfirmPrune]
	refusal := decide.MayPrune(p, applied, l.y.Spec.PruneLimit, commit, confirmed)
	was := find(l.shown.Conditions, v1alpha1.ConditionReady)
	if refusal == nil && l.s.before == 0 && l.shown.PendingPrune > 0 && len(p.Prune) > 0 && confirmed != commit &&
		(was.Reason == decide.ReasonPruneLimit || was.Reason == decide.ReasonPruneAll) {
		return &decide.Refusal{Reason: was.Reason, Message: was.Message}
	}
	return refusal
}

// prune deletes what has left the repository, and takes what is gone out of the plan.
func (l *look) prune(ctx context.Context, c dynamic.Interface, p *decide.Plan, left map[decide.ID]*unstructured.Unstructured, commit string) (*decide.Refusal, error) {
	versions := l.s.appliedIn(l.shown.Inventory)
	if refusal := l.mayPrune(*p, len(versions), commit); refusal != nil {
		return refusal, nil
	}
	for _, id := range p.Prune {
		// An earlier commit is not kept in force in what a newer one begins to delete.
		delete(l.s.known, id)
	}
	if err := l.remove(ctx, c, p.Prune, versions, left, false); err != nil {
		return nil, err
	}
	p.Prune = nil
	return nil, nil
}

// rehearse has the API server judge all writes before the first one. behind: the cache did not know of something.
func (l *look) rehearse(ctx context.Context, c dynamic.Interface, writes []write) (behind bool, err error) {
	var (
		mu      sync.Mutex
		refused refusals
	)
	l.wrote = true
	fresh := map[string]bool{}
	for _, w := range writes {
		if w.create && w.ID.Kind == "Namespace" && w.ID.Group == "" {
			fresh[w.ID.Name] = true
		}
	}
	err = l.each(ctx, len(writes), func(i int) {
		w := writes[i]
		if fresh[w.ID.Namespace] && w.ID.Namespace != "" {
			// There is nothing to try it in yet.
			return
		}
		u, err := l.objects.apply(ctx, c, w, true)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			refused.add(l.s.place(w.ID), w.ID, hushed(err, w.body))
		} else if w.create && u.GetResourceVersion() != "" {
			behind = true
		}
	})
	if err != nil {
		return false, err
	}
	if len(refused.lines) > 0 {
		sortByPlace(refused.lines)
		return false, &refused
	}
	return behind, ctx.Err()
}

// write applies objects: those whose kinds do not need each other at the same time, others one after the other.
func (l *look) write(ctx context.Context, c dynamic.Interface, writes []write) error {
	for len(writes) > 0 {
		l.wrote = true
		these := writes[:decide.Together(writes, func(w write) decide.ID { return w.ID })]
		writes = writes[len(these):]
		var (
			mu      sync.Mutex
			refused refusals
		)
		err := l.each(ctx, len(these), func(i int) {
			w := these[i]
			u, err := l.objects.apply(ctx, c, w, false)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if k := l.s.known[w.ID]; k != nil && k.Digest != w.Digest {
					// It may have been written nevertheless: an earlier commit must not undo it.
					delete(l.s.known, w.ID)
				}
				refused.add(l.s.place(w.ID), w.ID, hushed(err, w.body))
				return
			}
			l.s.known[w.ID] = &object{Known: decide.Known{Digest: w.Digest, Version: u.GetResourceVersion()}, verdict: decide.HealthOf(u), drift: w.drift, looked: true}
		})
		if err != nil {
			return err
		}
		if len(refused.lines) > 0 {
			sortByPlace(refused.lines)
			return &refused
		}
	}
	return nil
}

// fieldsOf names fields, and who has changed them.
func fieldsOf(list []v1alpha1.FieldReport) []string {
	out := make([]string, 0, len(list))
	for _, f := range list {
		text := strings.TrimSpace(f.Object + " " + f.Path)
		if f.By != "" {
			text += " by " + f.By
		}
		out = append(out, text)
	}
	return out
}

func drifts(list []decide.Drifted) string {
	var out []string
	for _, d := range list {
		for _, f := range d.Fields {
			text := d.ID.String()
			if f.Path != "" {
				text += " " + f.Path
			}
			if f.By != "" {
				text += " by " + f.By
			}
			out = append(out, text)
		}
	}
	return strings.TrimSpace(some(out))
}

// origin has the audit log say which commit a write comes from.
func (l *look) origin(ctx context.Context, commit string) context.Context {
	o := origin.Origin{Commit: commit}
	author, signer := l.whose(ctx, commit)
	o.Author = author
	if signer != nil {
		o.Signer = signer.Identity
	}
	return origin.With(ctx, o)
}

// whose tells who wrote a commit, and who signed it.
func (l *look) whose(ctx context.Context, commit string) (author string, signer *v1alpha1.Signer) {
	rev, gs, err := l.revision(ctx, l.y, commit)
	if err != nil {
		return "", nil
	}
	if gs.Status.Commit == commit {
		return gs.Status.Author, gs.Status.Signer
	}
	if content, err := l.repos.Object(rev, commit); err == nil {
		author = source.Author(content)
	}
	if t, err := readTrust(ctx, l.live, gs); err == nil {
		if signer, err = t.verify(l.repos, rev); err != nil {
			signer = nil
		}
	}
	return author, signer
}

// from says whose the applied commit is.
func (l *look) from(ctx context.Context, commit string) {
	author, signer := l.whose(ctx, commit)
	l.next.Author, l.next.Signer = author, signer.DeepCopy()
}
