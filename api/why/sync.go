package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/api/v1alpha1"
)

// GitSnapshot is what the answer about a Sync or a GitSource is made of.
type GitSnapshot struct {
	Now time.Time
	// Syncs and Sources by NAMESPACE/NAME: the one that is asked for, and those that it waits for, or that use it.
	Syncs   map[string]*v1alpha1.Sync
	Sources map[string]*v1alpha1.GitSource
	// Unseen is why one of them could not be read, by KIND/NAMESPACE/NAME.
	Unseen map[string]string
	// Events of the one that is asked for.
	Events []Event
}

// Sync explains the Sync of that name, with what it waits for.
func Sync(s GitSnapshot, name string) Node {
	root := s.sync(name, map[string]bool{})
	addEvents(&root, Snapshot{Now: s.Now, Events: s.Events}, "")
	return root
}

// GitSource explains the GitSource of that name, and says who uses it.
func GitSource(s GitSnapshot, name string) Node {
	root := s.source(name)
	var users []string
	for _, k := range sortedKeys(s.Syncs) {
		if y := s.Syncs[k]; y.Spec.SourceRef.In(y.Namespace) == name {
			users = append(users, k)
		}
	}
	if len(users) > 0 {
		list := root.add(Plain, plural(len(users), "Sync uses it", "Syncs use it"))
		for _, k := range users[:min(len(users), maxShown)] {
			y := s.Syncs[k]
			tone, text := gitTone(y.Status.Conditions), "sync "+k+": "+SyncSummary(y)
			if tone != Good {
				text += "; `padis why sync/" + y.Name + " -n " + y.Namespace + "` says more"
			}
			list.add(tone, text)
		}
		if len(users) > maxShown {
			list.add(Plain, fmt.Sprintf("and %d more", len(users)-maxShown))
		}
	}
	addEvents(&root, Snapshot{Now: s.Now, Events: s.Events}, "")
	return root
}

// SyncSummary is how a Sync stands, in a line.
func SyncSummary(y *v1alpha1.Sync) string {
	text := "nothing is applied yet"
	if c := y.Status.LastAppliedCommit; c != "" {
		text = fmt.Sprintf("commit %s is applied, %s", short(c), plural(int(y.Status.Objects), "object", "objects"))
	}
	if ready := conditionOf(y.Status.Conditions, v1alpha1.ConditionReady); ready.Status != metav1.ConditionTrue && ready.Reason != "" {
		text += ", not ready (" + ready.Reason + ")"
	}
	return text
}

// sync explains one Sync. seen are those that have been explained above.
func (s GitSnapshot) sync(name string, seen map[string]bool) Node {
	y := s.Syncs[name]
	if y == nil {
		return s.unseen("sync", name)
	}
	root := Node{Text: "Sync " + name + ": " + SyncSummary(y), Tone: gitTone(y.Status.Conditions)}
	if seen[name] {
		root.add(root.Tone, "see above")
		return root
	}
	seen[name] = true
	addLife(&root, s.Now, y.ObjectMeta, y.Status.ObservedGeneration)
	addConditions(&root, s.Now, y.Status.Conditions)
	s.addCommits(&root, y)
	if text := PendingPrune(y); text != "" {
		root.add(Bad, text)
	}
	addFields(&root, "in conflict with others", y.Status.Conflicts, Bad, s.Now)
	addFields(&root, "changed by others", y.Status.Drift, Waiting, s.Now)
	addUnhealthy(&root, y)
	from := y.Spec.SourceRef.In(y.Namespace)
	source := s.source(from)
	switch {
	case source.Tone == Good:
		source.Children = nil
	case seen["source "+from]:
		source.Children = []Node{{Text: "see above", Tone: source.Tone}}
	}
	seen["source "+from] = true
	root.Children = append(root.Children, source)
	for _, on := range y.Spec.DependsOn {
		dep := s.sync(on.In(y.Namespace), seen)
		if dep.Tone == Good {
			dep.Children = nil
		}
		dep.Text = "dependsOn: " + dep.Text
		root.Children = append(root.Children, dep)
	}
	return root
}

func (s GitSnapshot) source(name string) Node {
	g := s.Sources[name]
	if g == nil {
		return s.unseen("gitsource", name)
	}
	st := g.Status
	text := "nothing is fetched yet"
	if st.Commit != "" {
		text = "commit " + short(st.Commit)
		if st.Ref != "" {
			text += " of " + st.Ref
		}
	}
	root := Node{Text: fmt.Sprintf("GitSource %s: %s: %s", name, g.Spec.URL, text), Tone: gitTone(st.Conditions)}
	addLife(&root, s.Now, g.ObjectMeta, st.ObservedGeneration)
	addConditions(&root, s.Now, st.Conditions)
	if st.Commit != "" {
		text := fmt.Sprintf("commit %s by %s: %s", st.Commit, orNone(st.Author), st.Subject)
		if st.Signer != nil {
			text += fmt.Sprintf(", signed by %s (%s %s)", st.Signer.Identity, st.Signer.Type, st.Signer.Key)
		}
		root.add(Plain, text)
	}
	if st.Refused != "" {
		root.add(Bad, "commit "+st.Refused+" is not believed")
	}
	if st.LastFetchTime != nil {
		root.add(Dim, "the server has answered "+ago(s.Now, st.LastFetchTime.Time)+" ago")
	}
	return root
}

func (s GitSnapshot) unseen(kind, name string) Node {
	if why := s.Unseen[kind+"/"+name]; why != "" {
		return Node{Text: kind + " " + name + " cannot be read: " + why, Tone: Bad}
	}
	return Node{Text: kind + " " + name + " does not exist: declare it, or correct the reference", Tone: Bad}
}

// addLife says that an object goes, or that its newest change was not seen.
func addLife(root *Node, now time.Time, m metav1.ObjectMeta, observed int64) {
	if m.DeletionTimestamp != nil {
		root.Tone = Waiting
		root.add(Waiting, "it is being deleted since "+ago(now, m.DeletionTimestamp.Time))
	}
	if observed < m.Generation {
		root.Tone = Waiting
		root.add(Waiting, fmt.Sprintf("the newest change is not taken over yet: generation %d, observed %d", m.Generation, observed)).
			add(Plain, "remedy: if this stays, see whether `padis scheduler` runs and what its log says")
	}
}

// addConditions shows Ready with its reason; the others where they say something that it does not.
func addConditions(root *Node, now time.Time, all []metav1.Condition) {
	ready := conditionOf(all, v1alpha1.ConditionReady)
	for _, c := range all {
		switch {
		case c.Type == v1alpha1.ConditionReady:
		case c.Type == v1alpha1.ConditionHealthy && c.Status != metav1.ConditionTrue && c.Message != ready.Message:
		default:
			continue
		}
		node := root.add(conditionTone(c.Type, string(c.Status)), fmt.Sprintf("%s: %s (%s), since %s", c.Type, c.Status, c.Reason, ago(now, c.LastTransitionTime.Time)))
		if c.Message != "" {
			node.add(Plain, c.Message)
		}
		if text := GitRemedy(c.Reason); text != "" && c.Status != metav1.ConditionTrue {
			node.add(Plain, "remedy: "+text)
		}
	}
	if conditionOf(all, v1alpha1.ConditionStalled).Status == metav1.ConditionTrue {
		root.add(Bad, "nothing is tried again before somebody changes something")
	}
}

// addCommits says which commit is tried, held back or gone back from.
func (s GitSnapshot) addCommits(root *Node, y *v1alpha1.Sync) {
	st := y.Status
	if st.SeenCommit != "" && st.SeenCommit != st.LastAppliedCommit {
		root.add(Waiting, "the newest commit is "+st.SeenCommit)
	}
	if st.Incomplete {
		root.add(Waiting, "nothing of commit "+st.LastAttemptedCommit+" is applied, or not all of it")
	}
	if text := RolledBack(y); text != "" {
		root.add(Waiting, text)
	}
	if st.Failures > 0 {
		text := plural(int(st.Failures), "attempt has", "attempts have") + " failed"
		if st.NextAttemptTime != nil {
			if left := st.NextAttemptTime.Sub(s.Now); left > 0 {
				text += ", the next is in " + span(left)
			} else {
				text += ", the next is due"
			}
		}
		root.add(Waiting, text)
	}
	for _, o := range st.Undone {
		root.add(Waiting, o+" is left as it is by spec.undo")
	}
}

// RolledBack says which commit a Sync was rolled back to, and what ends that; empty if it was not.
func RolledBack(y *v1alpha1.Sync) string {
	r, released := y.Spec.Rollback, y.Status.ReleasedRollback
	if r == nil {
		return ""
	}
	if released != nil && !r.Pinned && released.To == r.To && released.From == r.From {
		return "the rollback from " + short(r.From) + " to " + short(r.To) + " was ended by commit " + short(released.By)
	}
	text := "rolled back to commit " + r.To
	switch {
	case r.Pinned || r.From == "":
		return text + ", until spec.rollback is removed"
	default:
		return text + ", until a commit changes what " + short(r.From) + " has changed"
	}
}

// PendingPrune says how deletions that wait for confirmation are confirmed; empty if there are none.
func PendingPrune(y *v1alpha1.Sync) string {
	n := y.Status.PendingPrune
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s for confirmation: padis annotate sync %s -n %s --overwrite %s=%s", plural(int(n), "deletion waits", "deletions wait"),
		y.Name, y.Namespace, v1alpha1.AnnotationConfirmPrune, y.Status.LastAppliedCommit)
}

func addFields(root *Node, what string, fields []v1alpha1.FieldReport, tone Tone, now time.Time) {
	if len(fields) == 0 {
		return
	}
	list := root.add(tone, plural(len(fields), "field is ", "fields are ")+what)
	for _, f := range fields[:min(len(fields), maxShown)] {
		list.add(Plain, FieldText(f, now))
	}
	if len(fields) > maxShown {
		list.add(Plain, fmt.Sprintf("and %d more", len(fields)-maxShown))
	}
}

// FieldText is a field that is not as the repository says, as one line.
func FieldText(f v1alpha1.FieldReport, now time.Time) string {
	text := strings.TrimSpace(f.Object + " " + f.Path)
	switch {
	case f.Want != "" && f.Is != "":
		text += ": " + f.Is + " instead of " + f.Want
	case f.Want != "":
		text += ": not " + f.Want
	case f.Is != "":
		text += ": " + f.Is
	}
	if f.By != "" {
		text += ", by " + f.By
	}
	if f.At != nil {
		text += ", " + ago(now, f.At.Time) + " ago"
	}
	return text
}

func addUnhealthy(root *Node, y *v1alpha1.Sync) {
	ill := y.Status.Unhealthy
	if len(ill) == 0 {
		return
	}
	list := root.add(Bad, plural(len(ill), "object is", "objects are")+" not healthy")
	for _, o := range ill[:min(len(ill), maxShown)] {
		text := o.Object + ": " + o.Health
		if o.Reason != "" {
			text += " (" + o.Reason + ")"
		}
		if o.Message != "" {
			text += ": " + o.Message
		}
		node := list.add(Plain, text)
		if ask := whyOf(o.Object); ask != "" {
			node.add(Plain, "`"+ask+"` says more")
		}
	}
	if len(ill) > maxShown {
		list.add(Plain, fmt.Sprintf("and %d more", len(ill)-maxShown))
	}
}

// whyOf is the question to ask about an object, given as KIND/NAMESPACE/NAME; empty where there is none.
func whyOf(object string) string {
	parts := strings.Split(object, "/")
	kinds := map[string]string{"app": "app", "loadbalancer": "lb", "sync": "sync", "gitsource": "gitsource"}
	if len(parts) != 3 || kinds[parts[0]] == "" {
		return ""
	}
	return "padis why " + kinds[parts[0]] + "/" + parts[2] + " -n " + parts[1]
}

// gitTone is that of the conditions of a GitSource or Sync.
func gitTone(all []metav1.Condition) Tone {
	switch {
	case conditionOf(all, v1alpha1.ConditionReady).Status == metav1.ConditionTrue:
		return Good
	case conditionOf(all, v1alpha1.ConditionStalled).Status == metav1.ConditionTrue:
		return Bad
	}
	return Waiting
}

func conditionOf(all []metav1.Condition, kind string) metav1.Condition {
	if i := slices.IndexFunc(all, func(c metav1.Condition) bool { return c.Type == kind }); i >= 0 {
		return all[i]
	}
	return metav1.Condition{}
}

// short is the beginning of a commit, long enough to find it by.
func short(commit string) string { return commit[:min(len(commit), 12)] }
