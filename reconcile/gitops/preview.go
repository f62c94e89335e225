package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"
	"padis.io/padis/reconcile/gitops/source"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// PreviewInput says of which Sync it shall be told what it would do, and with what.
type PreviewInput struct {
	// Config is of who asks: all is read, and writes are tried, by his rights.
	Config *rest.Config
	Mapper meta.RESTMapper
	// Namespace and Name of the Sync.
	Namespace, Name string
	// Ref is a branch, tag or commit in place of that of the GitSource.
	Ref string
	// Files are a working copy in place of the repository, and From is its name.
	Files fs.FS
	From  string
	// Dir is where commits are fetched to.
	Dir string
	// Charts renders Helm charts. Without it, they are refused.
	Charts Charts
	Now    time.Time
}

// Preview is what a Sync would do, tried and not done.
type Preview struct {
	Sync plan.Sync
	// Proposals are what would be written and deleted, in this order.
	Proposals []plan.Proposal
	Unchanged []plan.Object
	Kept      []plan.Kept
	// Violations are why nothing would be applied, or nothing deleted.
	Violations []plan.Refusal
}

// someCommit stands for the commit that a working copy will become.
const someCommit = "COMMIT"

// Look tells what a Sync would do, by the code by which it does it. It writes nothing.
func (in PreviewInput) Look(ctx context.Context) (*Preview, error) {
	scheme := apiruntime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	cfg := rest.CopyConfig(in.Config)
	cfg.QPS = -1 // Reads are bounded by writers.
	cfg.ContentType, cfg.AcceptContentTypes = apiruntime.ContentTypeJSON, apiruntime.ContentTypeJSON
	reads, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: in.Mapper})
	if err != nil {
		return nil, err
	}
	p := &preview{PreviewInput: in, done: func() {}, reads: reads, objects: &objects{cfg: cfg, mapper: in.Mapper, scheme: scheme, clients: map[string]dynamic.Interface{}}}
	if p.writes, err = p.objects.as(""); err != nil {
		return nil, err
	}
	if err := p.declared(ctx); err != nil {
		return nil, err
	}
	defer func() { p.done() }()
	if err := p.wish(ctx); err != nil {
		return nil, err
	}
	p.undone(ctx)
	if err := p.compare(ctx); err != nil {
		return nil, err
	}
	p.notes()
	return &p.out, nil
}

// preview is one look.
type preview struct {
	PreviewInput
	reads   client.Client
	writes  dynamic.Interface
	objects *objects
	y       *v1alpha1.Sync
	source  *v1alpha1.GitSource
	set     settings
	wanted  []decide.Rendered
	places  map[decide.ID]string
	// held are objects that are left as they are.
	held map[decide.ID]bool
	// files are what is rendered. done says that they are of no use any more.
	files fs.FS
	done  func()
	out   Preview
}

// declared reads the Sync, its source and all that its result depends on.
func (p *preview) declared(ctx context.Context) error {
	p.y, p.source = &v1alpha1.Sync{}, &v1alpha1.GitSource{}
	if err := p.reads.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, p.y); err != nil {
		return err
	}
	if errs := v1alpha1.ValidateSync(p.y, time.LoadLocation); len(errs) > 0 {
		return fmt.Errorf("sync %s/%s: %w", p.Namespace, p.Name, errs.ToAggregate())
	}
	ref := p.y.Spec.SourceRef
	if ref.Namespace == "" {
		ref.Namespace = p.Namespace
	}
	if err := p.reads.Get(ctx, types.NamespacedName(ref), p.source); err != nil {
		return fmt.Errorf("spec.sourceRef: %w", err)
	}
	var err error
	if p.set, err = readSettings(ctx, p.reads, p.y); err != nil {
		return fmt.Errorf("sync %s/%s: %w: what it would do can be told only to who may read that", p.Namespace, p.Name, err)
	}
	if err := account(ctx, p.reads, p.y); err != nil {
		return fmt.Errorf("sync %s/%s: %w", p.Namespace, p.Name, err)
	}
	p.out.Sync = plan.Sync{Namespace: p.Namespace, Name: p.Name, From: p.From}
	return nil
}

// wish renders what is wanted.
func (p *preview) wish(ctx context.Context) error {
	files := p.Files
	if files == nil {
		fetched, done, err := p.fetch(ctx)
		if err != nil {
			return err
		}
		files, p.done = fetched, done
	}
	p.files = files
	p.set.charts = p.Charts.until(ctx)
	rendered, err := filesOf(p.y, p.source, p.set, files, p.Namespace+"/"+p.Name, nil)
	if err != nil {
		return p.broken(err)
	}
	var found problems
	p.places = make(map[decide.ID]string, len(rendered))
	for _, o := range rendered {
		d := o.Made.(decide.Rendered)
		if why := beyond(p.y, d.ID); why != "" {
			found = append(found, place(o)+": "+why)
			continue
		}
		p.wanted, p.places[d.ID] = append(p.wanted, d), place(o)
	}
	if len(found) > 0 {
		return p.broken(found)
	}
	sorted := p.wanted[:0:0]
	for _, wave := range decide.Order(p.wanted) {
		sorted = append(sorted, wave.Objects...)
	}
	p.wanted = sorted
	return nil
}

// broken says that the Sync would apply nothing at all.
func (p *preview) broken(err error) error {
	var found problems
	if errors.As(err, &found) {
		err = errors.New(strings.Join(found, "\n  "))
	}
	return fmt.Errorf("sync %s/%s would apply nothing of %s:\n  %w", p.Namespace, p.Name, p.out.Sync.From, err)
}

// fetch brings the commit, and verifies it as the GitSource does.
func (p *preview) fetch(ctx context.Context) (fs.FS, func(), error) {
	cache, spec, err := p.repository(ctx)
	if err != nil {
		return nil, nil, err
	}
	repos := Cached{cache}
	spec.Since, spec.MayRewrite = p.source.Status.Commit, p.Ref != ""
	_, timeout := p.source.Spec.Times()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rev, err := FetchRef(ctx, cache, spec, p.Ref)
	if err != nil {
		return nil, nil, err
	}
	p.out.Sync.Commit, p.out.Sync.Ref, p.out.Sync.From = rev.Commit, rev.Ref, rev.URL
	believed, err := readTrust(ctx, p.reads, p.source)
	if err != nil {
		p.note("it is not looked at who has signed the commit: %v", err)
	} else if _, err := believed.verify(repos, rev); err != nil {
		reason, message, _ := sourceFailure(err)
		p.out.Violations = append(p.out.Violations, plan.Refusal{Reason: reason, Message: message})
	}
	return repos.Files(rev)
}

// repository opens what is fetched of the source.
func (p *preview) repository(ctx context.Context) (*source.Cache, source.Spec, error) {
	// Whoever asks may read the repositories of his own host.
	cache, err := source.Open(p.Dir, source.Options{FileRoots: []string{"/"}})
	if err != nil {
		return nil, source.Spec{}, err
	}
	spec, err := (&Sources{live: p.reads}).spec(ctx, p.source)
	if err != nil {
		err = fmt.Errorf("gitsource %s/%s: %w: only who may read it can have the repository fetched, and your own settings of git are not used; plan a working copy with -f DIR", p.source.Namespace, p.source.Name, err)
	}
	return cache, spec, err
}

// undone leaves alone what spec.undo holds.
func (p *preview) undone(ctx context.Context) {
	said := map[string]decide.Said{}
	for _, u := range p.y.Spec.Undo {
		if _, known := said[u.From]; known {
			continue
		}
		digests, err := p.says(ctx, u.From)
		if err != nil {
			said[u.From] = decide.Said{Problem: err.Error()}
			continue
		}
		said[u.From] = decide.Said{Digests: digests}
	}
	p.held = map[decide.ID]bool{}
	for _, h := range decide.Holds(p.y.Spec.Undo, decide.Digests(p.wanted), said) {
		p.held[h.ID] = true
		message := "is left as it is by spec.undo until a commit says something else of it"
		if h.Problem != "" {
			message += ": " + h.Problem
		}
		p.keep(h.ID, message)
	}
	p.wanted = slices.DeleteFunc(p.wanted, func(r decide.Rendered) bool { return p.held[r.ID] })
}

// says is what a commit says of all objects, by its digests.
func (p *preview) says(ctx context.Context, commit string) (map[decide.ID]string, error) {
	cache, spec, err := p.repository(ctx)
	if err != nil {
		return nil, err
	}
	spec.MayRewrite = true
	rev, err := FetchRef(ctx, cache, spec, commit)
	if err != nil {
		return nil, err
	}
	files, done, err := Cached{cache}.Files(rev)
	if err != nil {
		return nil, err
	}
	defer done()
	rendered, err := filesOf(p.y, p.source, p.set, files, p.Namespace+"/"+p.Name, nil)
	if err != nil {
		return nil, err
	}
	return decide.Digests(prepared(rendered)), nil
}

// FetchRef fetches what a branch, tag or commit names; without a name, what the spec does.
func FetchRef(ctx context.Context, cache *source.Cache, spec source.Spec, name string) (source.Revision, error) {
	var tries []source.Ref
	branch, isBranch := strings.CutPrefix(name, "refs/heads/")
	tag, isTag := strings.CutPrefix(name, "refs/tags/")
	switch {
	case name == "":
		return cache.Fetch(ctx, spec)
	case isBranch:
		tries = []source.Ref{{Branch: branch}}
	case isTag:
		tries = []source.Ref{{Tag: tag}}
	case len(name) == 40 && strings.Trim(name, "0123456789abcdef") == "":
		tries = []source.Ref{{Commit: name}}
	default:
		tries = []source.Ref{{Branch: name}, {Tag: name}}
	}
	var err error
	for _, spec.Ref = range tries {
		var rev source.Revision
		if rev, err = cache.Fetch(ctx, spec); source.ReasonOf(err) != source.ReasonRefNotFound {
			return rev, err
		}
	}
	if len(tries) > 1 {
		return source.Revision{}, fmt.Errorf("ref %q: %s has neither a branch nor a tag of that name: name one that is pushed, or a commit by its whole hash", name, spec.URL)
	}
	return source.Revision{}, err
}

// compare looks at what is there, and tries what would be written.
func (p *preview) compare(ctx context.Context) error {
	applied := decide.Applied(p.y.Status.Inventory)
	has := len(applied)
	maps.DeleteFunc(applied, func(id decide.ID, _ string) bool { return p.held[id] })
	live, err := p.live(ctx, applied)
	if err != nil {
		return err
	}
	snapshot := decide.Snapshot{Sync: p.Namespace + "/" + p.Name, Rendered: p.wanted, Applied: applied, Live: live, Prune: p.y.Spec.Prune, Correct: p.y.Spec.Corrects()}
	todo := decide.Compare(snapshot)
	if len(todo.Prune) > 0 || contested(todo) {
		others := p.others(ctx, todo.Prune)
		snapshot.Owners = make(map[string]decide.Claimant, len(others))
		for _, c := range others {
			snapshot.Owners[c.Name] = c
		}
		todo = decide.Compare(snapshot)
		todo.HandOver(others)
	}
	for _, k := range todo.Protected {
		p.keep(k.ID, k.Message)
	}
	commit := p.out.Sync.Commit
	if commit == "" {
		commit = someCommit
	}
	if no := decide.MayPrune(todo, has, p.y.Spec.PruneLimit, commit, p.y.Annotations[v1alpha1.AnnotationConfirmPrune]); no != nil {
		p.out.Violations = append(p.out.Violations, plan.Refusal{Reason: no.Reason, Message: no.Message})
		for _, id := range todo.Prune {
			p.keep(id, "has left the repository and stays until its deletion is confirmed")
		}
		todo.Prune = nil
	}
	for _, id := range todo.Unchanged {
		p.out.Unchanged = append(p.out.Unchanged, plan.Object{Kind: id.Kind, Namespace: id.Namespace, Name: id.Name, Action: plan.Unchanged})
	}
	return p.try(ctx, todo, live, applied)
}

func (p *preview) keep(id decide.ID, message string) {
	p.out.Kept = append(p.out.Kept, plan.Kept{Kind: id.Kind, Namespace: id.Namespace, Name: id.Name, Message: message})
}

// live reads all objects that are declared, or were.
func (p *preview) live(ctx context.Context, applied map[decide.ID]string) (map[decide.ID]*unstructured.Unstructured, error) {
	versions := make(map[decide.ID]string, len(applied)+len(p.wanted))
	for id, version := range applied {
		versions[id] = version
	}
	for _, w := range p.wanted {
		versions[w.ID] = w.APIVersion
	}
	type found struct {
		id   decide.ID
		live *unstructured.Unstructured
	}
	results := make(chan found, len(versions))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for id, version := range versions {
		group.Go(func() error {
			u, err := p.objects.live(ctx, gvk(id, version), id)
			if err != nil {
				if at := p.places[id]; at != "" {
					err = fmt.Errorf("%s: %w", at, err)
				}
				return err
			}
			if u != nil {
				results <- found{id, u}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	close(results)
	out := make(map[decide.ID]*unstructured.Unstructured, len(versions))
	for f := range results {
		out[f.id] = f.live
	}
	return out, nil
}

// try has the API server judge what would be written and deleted.
func (p *preview) try(ctx context.Context, todo decide.Plan, live map[decide.ID]*unstructured.Unstructured, applied map[decide.ID]string) error {
	writes := map[decide.ID]write{}
	for _, c := range todo.Create {
		writes[c.ID] = write{Rendered: c, body: c.JSON, create: true}
	}
	for _, u := range todo.Update {
		writes[u.ID] = write{Rendered: u.Rendered, body: u.Apply, force: u.Force}
	}
	conflicts := map[decide.ID][]plan.Refusal{}
	for _, c := range todo.Conflicts {
		conflicts[c.ID] = append(conflicts[c.ID], plan.Refusal{Reason: ReasonConflict, Message: c.Message})
	}
	var tries []func() (plan.Proposal, error)
	for _, o := range p.wanted {
		if no := conflicts[o.ID]; len(no) > 0 {
			tries = append(tries, func() (plan.Proposal, error) { return plan.Proposal{Object: o.JSON, Refusals: no}, nil })
		} else if w, ok := writes[o.ID]; ok {
			tries = append(tries, func() (plan.Proposal, error) {
				u, err := p.objects.apply(ctx, p.writes, w, true)
				err = hushed(err, w.body)
				if no := plan.RefusedBy(err); len(no) > 0 {
					return plan.Proposal{Object: w.body, Refusals: no}, nil
				} else if err != nil {
					return plan.Proposal{}, fmt.Errorf("%s: %s: %w", p.places[w.ID], w.ID, err)
				}
				return proposal(u, nil)
			})
		}
	}
	for _, id := range todo.Prune {
		tries = append(tries, func() (plan.Proposal, error) {
			return p.deletion(ctx, gvk(id, applied[id]).GroupVersion().String(), id, live[id])
		})
	}
	p.out.Proposals = make([]plan.Proposal, len(tries))
	var group errgroup.Group
	group.SetLimit(writers)
	for i, try := range tries {
		group.Go(func() (err error) {
			p.out.Proposals[i], err = try()
			return err
		})
	}
	return group.Wait()
}

func proposal(o *unstructured.Unstructured, refusals []plan.Refusal) (plan.Proposal, error) {
	text, err := json.Marshal(o.Object)
	return plan.Proposal{Object: text, Refusals: refusals}, err
}

func (p *preview) deletion(ctx context.Context, version string, id decide.ID, live *unstructured.Unstructured) (plan.Proposal, error) {
	resource, err := p.objects.resource(p.writes, gvk(id, version), id.Namespace)
	if err != nil {
		return plan.Proposal{}, err
	}
	uid := live.GetUID()
	err = resource.Delete(ctx, id.Name, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}, Preconditions: &metav1.Preconditions{UID: &uid}})
	refusals := plan.RefusedBy(err)
	if err != nil && len(refusals) == 0 {
		return plan.Proposal{}, fmt.Errorf("delete %s: %w", id, err)
	}
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": id.Kind}}
	o.SetNamespace(id.Namespace)
	o.SetName(id.Name)
	o.SetUID(uid)
	out, err := proposal(o, refusals)
	out.Delete = true
	return out, err
}

func (p *preview) note(format string, args ...any) {
	p.out.Sync.Notes = append(p.out.Sync.Notes, fmt.Sprintf(format, args...))
}

// notes say why it would not be done at once, and what the plan does not know.
func (p *preview) notes() {
	spec := &p.y.Spec
	if spec.Suspend {
		p.note("spec.suspend is set: nothing is applied until it is unset")
	}
	if p.source.Spec.Suspend {
		p.note("spec.suspend of gitsource %s/%s is set: nothing is fetched until it is unset", p.source.Namespace, p.source.Name)
	}
	if schedule, err := decide.NewSchedule(spec.Windows, time.LoadLocation); err == nil && len(spec.Windows) > 0 {
		open, next := decide.Window(p.Now, schedule)
		switch {
		case !open && next.IsZero():
			p.note("spec.windows are closed, and none opens within three weeks")
		case !open:
			p.note("spec.windows are closed: nothing is applied before %s", next.UTC().Format(time.RFC3339))
		}
	}
	if rb := spec.Rollback; rb != nil {
		p.note("spec.rollback keeps commit %s in force until it is ended", rb.To)
	}
	if len(spec.DependsOn) > 0 {
		var names []string
		for _, d := range spec.DependsOn {
			names = append(names, d.In(p.Namespace))
		}
		p.note("it waits until these Syncs are ready: %s", strings.Join(names, ", "))
	}
	if waves := decide.Order(p.wanted); len(waves) > 1 {
		p.note("%d waves are applied one after the other, each when the one before is healthy; the plan takes them together", len(waves))
	}
	if spec.ServiceAccount != "" {
		p.note("writes were tried with your rights; the Sync writes with those of the ServiceAccount %s/%s", p.Namespace, spec.ServiceAccount)
	}
}
