package gitops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"
	"padis.io/padis/reconcile/gitops/render"
	"padis.io/padis/reconcile/gitops/source"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// session is what is remembered of a Sync from one look to the next. All but the marks is used by one goroutine at a time.
type session struct {
	name  string
	uid   types.UID
	state decide.State
	cache render.Cache
	// wanted is what commit comes to with the settings, and where each object is said.
	commit, settings string
	wanted           []decide.Rendered
	spots            []spot
	index            map[decide.ID]int
	// waves and listed are the wanted objects in the order in which they are applied, and as an inventory.
	waves  []decide.Wave
	listed []v1alpha1.InventoryGroup
	// applied is what the inventory appliedOf names.
	applied   map[decide.ID]string
	appliedOf []v1alpha1.InventoryGroup
	known     map[decide.ID]*object
	// held are left as they are by spec.undo, and sayings what the bad commits say.
	held    map[decide.ID]bool
	sayings map[string]saying
	progress
	// ill: the last attempt has failed because of health only. why is what the last failure was.
	ill bool
	why metav1.Condition
	// contested: the last attempt has failed because another Sync has an object. told are the Syncs that were told of what they
	// may take over.
	contested bool
	told      map[decide.ID]string
	// restored is the commit all of which was applied before the start of the process, and with which settings, until what it
	// comes to is known, or another one is written.
	restored [2]string
	// contests are what others change again and again.
	contests decide.Contests
	// corrected are the fields of others that were put back since the status was written.
	corrected string
	// recurring is what is said of those that are changed again and again.
	recurring string
	// upheld is what is said of what stays in force while another commit is wanted.
	upheld upheld

	mu     sync.Mutex
	marked map[decide.ID]bool
	// rested is when changes are looked at again.
	rested time.Time
}

// progress is how far the running attempt is.
type progress struct {
	// wave that is waited for, of those that it has, and since when.
	wave  int
	since time.Time
	// rehearsed: the API server has judged all of it.
	rehearsed bool
	// paused: it is held up.
	paused bool
	// before is how many objects there were when it began; 0 if nobody knows.
	before int
}

// object is what is known of one.
type object struct {
	decide.Known
	verdict decide.Verdict
	drift   []decide.FieldChange
	// looked: the verdict is of this version.
	looked bool
	// changed: it has changed since, and was not looked at.
	changed bool
}

// mark remembers a change, and says when to look at it.
func (s *session) mark(id decide.ID, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marked[id] = true
	return max(gather, s.rested.Sub(now))
}

// written drops what is not wanted any more, now that all of the wanted commit is applied.
func (s *session) written() {
	maps.DeleteFunc(s.known, func(id decide.ID, _ *object) bool { _, ok := s.index[id]; return !ok })
}

// drifted are the objects of which it is known that others have changed them, in the order of the wanted ones.
func (s *session) drifted() []decide.ID {
	var out []decide.ID
	for id, k := range s.known {
		if len(k.drift) > 0 {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b decide.ID) int {
		return cmp.Or(cmp.Compare(s.index[a], s.index[b]), strings.Compare(a.String(), b.String()))
	})
	return out
}

// suspect tells whether something that was in order may be so no more, or its turn to be put back has come.
func (s *session) suspect(corrects bool) bool {
	for _, k := range s.known {
		if !k.looked || k.changed || corrects && len(k.drift) > 0 {
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.marked {
		if s.known[id] != nil {
			return true
		}
	}
	return s.restored != [2]string{}
}

// again has an object looked at the next time.
func (s *session) again(id decide.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marked[id] = true
}

// rest has changes wait after a look, longer the longer that took: it goes through all objects, and when thousands start, one
// look after the other would take a processor for itself.
func (s *session) rest(began, ended time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rested = ended.Add(min(rests*ended.Sub(began), longestRest))
}

// take gives the objects that have changed since the last time.
func (s *session) take() map[decide.ID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.marked
	s.marked = map[decide.ID]bool{}
	return m
}

// problems are why nothing of a commit is applied.
type problems []string

func (p problems) Error() string { return some(p) }

// render makes a commit's objects the wanted ones.
func (r *Syncs) render(ctx context.Context, y *v1alpha1.Sync, s *session, set settings, commit string) error {
	if s.commit == commit && s.settings == set.digest {
		return nil
	}
	objects, err := r.objectsOf(ctx, y, s, set, commit, &s.cache)
	if err != nil {
		return err
	}
	var (
		found  problems
		wanted = make([]decide.Rendered, 0, len(objects))
		spots  = make([]spot, 0, len(objects))
	)
	for _, o := range objects {
		d := o.Made.(decide.Rendered)
		if why := beyond(y, d.ID); why != "" {
			found = append(found, place(o)+": "+why)
			continue
		}
		wanted, spots = append(wanted, d), append(spots, spot{o.File, o.Line})
	}
	if len(found) > 0 {
		return found
	}
	s.want(wanted)
	s.spots, s.commit, s.settings = spots, commit, set.digest
	if commit == s.state.Head || commit == s.state.Target() {
		// Others ask for no commit but these.
		r.claims.put(s.name, claim{source: y.Spec.SourceRef.In(y.Namespace), commit: commit, settings: set.digest, declares: s.index})
	}
	if s.restored == [2]string{commit, set.digest} {
		// What is otherwise by now, somebody has changed since.
		for _, w := range wanted {
			if s.known[w.ID] == nil {
				s.known[w.ID] = &object{Known: decide.Known{Digest: w.Digest}}
			}
		}
		s.restored = [2]string{}
	}
	return nil
}

// want makes objects the wanted ones. Mostly they are those that were wanted already, but for what some of them say: what is known
// of their order then stays.
func (s *session) want(wanted []decide.Rendered) {
	same := func(a, b decide.Rendered) bool {
		return a.ID == b.ID && a.Wave == b.Wave && a.APIVersion == b.APIVersion
	}
	if slices.EqualFunc(s.wanted, wanted, same) {
		s.wanted = wanted
		for _, wave := range s.waves {
			for i, o := range wave.Objects {
				wave.Objects[i] = wanted[s.index[o.ID]]
			}
		}
		return
	}
	s.wanted, s.waves, s.listed = wanted, decide.Order(wanted), decide.Inventory(wanted)
	s.index = make(map[decide.ID]int, len(wanted))
	for i, w := range wanted {
		s.index[w.ID] = i
	}
}

// beyond says why a Sync may not declare an object; empty if it may.
func beyond(y *v1alpha1.Sync, id decide.ID) string {
	switch {
	case y.Spec.ServiceAccount != "":
	case id.Namespace != y.Namespace:
		return fmt.Sprintf("%s is outside the namespace %s, which is all that a Sync may touch without spec.serviceAccount: set one that may", id, y.Namespace)
	case id.Group == "rbac.authorization.k8s.io":
		// Who may declare a Sync could give himself what he has not.
		return fmt.Sprintf("%s gives rights, which only a Sync with a service account may: set spec.serviceAccount", id)
	}
	return ""
}

func place(o render.Object) string { return spot{o.File, o.Line}.String() }

// spot is where an object is said.
type spot struct {
	file string
	// line is 0 where that cannot be told.
	line int
}

func (s spot) String() string {
	if s.line == 0 {
		return s.file
	}
	return fmt.Sprintf("%s:%d", s.file, s.line)
}

// place is where a wanted object is said; empty if it is not wanted.
func (s *session) place(id decide.ID) string {
	if i, wanted := s.index[id]; wanted {
		return s.spots[i].String()
	}
	return ""
}

// objectsOf renders a commit.
func (r *Syncs) objectsOf(ctx context.Context, y *v1alpha1.Sync, s *session, set settings, commit string, cache *render.Cache) ([]render.Object, error) {
	rev, gs, err := r.revision(ctx, y, commit)
	if err != nil {
		return nil, err
	}
	files, done, err := r.repos.Files(rev)
	if err != nil {
		return nil, err
	}
	defer done()
	return filesOf(y, gs, set, files, s.name, cache)
}

// prepared is what filesOf has made of objects for a Sync.
func prepared(objects []render.Object) []decide.Rendered {
	out := make([]decide.Rendered, len(objects))
	for i, o := range objects {
		out[i] = o.Made.(decide.Rendered)
	}
	return out
}

// filesOf renders the files of a commit, or of a working copy, and prepares what they come to for a Sync; for the empty one,
// objects stay what they are.
func filesOf(y *v1alpha1.Sync, gs *v1alpha1.GitSource, set settings, files fs.FS, sync string, cache *render.Cache) ([]render.Object, error) {
	if paths := gs.Spec.Paths; !source.Inside(paths, y.Spec.Path) {
		return nil, problems{fmt.Sprintf("spec.path %q is in none of the paths that gitsource %s/%s gives (%s): name one that is", y.Spec.Path, gs.Namespace, gs.Name, strings.Join(paths, ", "))}
	}
	var prepare func(*unstructured.Unstructured) (any, error)
	if sync != "" {
		prepare = func(u *unstructured.Unstructured) (any, error) { return decide.Prepare(u, sync) }
	}
	objects, wrong := render.Render(render.Input{Make: prepare, FS: files, Path: y.Spec.Path, Variables: set.variables, Secret: set.secret, Decrypt: set.keys,
		Namespace: y.Spec.TargetNamespace, Default: y.Namespace, Release: y.Release(), Helm: chartOf(y), Chart: set.charts, Cache: cache})
	if len(wrong) > 0 {
		var out problems
		passing := true
		for _, p := range wrong {
			out = append(out, p.String())
			passing = passing && p.Passing
		}
		if passing {
			return nil, errors.New(out.Error())
		}
		return nil, out
	}
	return objects, nil
}

// appliedIn is what an inventory names, which is mostly the same as the last time.
func (s *session) appliedIn(inventory []v1alpha1.InventoryGroup) map[decide.ID]string {
	if s.applied == nil || !slices.Equal(inventory, s.appliedOf) {
		s.applied, s.appliedOf = decide.Applied(inventory), inventory
	}
	return s.applied
}

// digests are those of what a commit comes to.
func (r *Syncs) digests(ctx context.Context, y *v1alpha1.Sync, s *session, set settings, commit string) (map[decide.ID]string, error) {
	objects, err := r.objectsOf(ctx, y, s, set, commit, nil)
	if err != nil {
		return nil, err
	}
	return decide.Digests(prepared(objects)), nil
}
