package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	kubedescribe "k8s.io/kubectl/pkg/describe"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/api/why"
)

// maxFollowed is how many Syncs are read to say what one waits for.
const maxFollowed = 100

// readGit reads a Sync with all that it waits for, or a GitSource with the Syncs of its namespace.
func readGit(ctx context.Context, a reader, namespace string, t target) (why.GitSnapshot, error) {
	s := why.GitSnapshot{Now: time.Now(), Syncs: map[string]*v1alpha1.Sync{}, Sources: map[string]*v1alpha1.GitSource{}, Unseen: map[string]string{}}
	name, kind := namespace+"/"+t.name, "Sync"
	if t.source {
		kind = "GitSource"
		if err := readSource(ctx, a, &s, name); err != nil {
			return s, err
		}
		var all v1alpha1.SyncList
		if err := a.get(ctx, declaredPath(namespace, "syncs"), &all); err != nil {
			return s, err
		}
		for i := range all.Items {
			s.Syncs[namespace+"/"+all.Items[i].Name] = &all.Items[i]
		}
	} else if err := followSync(ctx, a, &s, name); err != nil {
		return s, err
	}
	var err error
	s.Events, err = eventsOf(ctx, a, namespace, []string{kind + "/" + t.name}, nil)
	return s, err
}

// followSync reads a Sync, its source and what it waits for. What of these cannot be read is noted.
func followSync(ctx context.Context, a reader, s *why.GitSnapshot, first string) error {
	for next := []string{first}; len(next) > 0 && len(s.Syncs) < maxFollowed; next = next[1:] {
		name := next[0]
		if s.Syncs[name] != nil {
			continue
		}
		y := &v1alpha1.Sync{}
		namespace, plain, _ := strings.Cut(name, "/")
		err := a.get(ctx, declaredPath(namespace, "syncs", plain), y)
		switch {
		case err != nil && name == first:
			return err
		case err != nil:
			note(s, "sync/"+name, err)
			continue
		}
		s.Syncs[name] = y
		source := y.Spec.SourceRef.In(y.Namespace)
		if err := readSource(ctx, a, s, source); err != nil {
			note(s, "gitsource/"+source, err)
		}
		for _, d := range y.Spec.DependsOn {
			next = append(next, d.In(y.Namespace))
		}
	}
	return nil
}

func readSource(ctx context.Context, a reader, s *why.GitSnapshot, name string) error {
	g := &v1alpha1.GitSource{}
	namespace, plain, _ := strings.Cut(name, "/")
	err := a.get(ctx, declaredPath(namespace, "gitsources", plain), g)
	if err == nil {
		s.Sources[name] = g
	}
	return err
}

// note keeps why something cannot be read. That it is not there is said by its absence.
func note(s *why.GitSnapshot, what string, err error) {
	if !apierrors.IsNotFound(err) {
		s.Unseen[what] = err.Error()
	}
}

// askGit explains a Sync or GitSource.
func askGit(ctx context.Context, a reader, namespace string, t target) (why.Node, error) {
	s, err := readGit(ctx, a, namespace, t)
	switch {
	case err != nil:
		return why.Node{}, err
	case t.source:
		return why.GitSource(s, namespace+"/"+t.name), nil
	}
	return why.Sync(s, namespace+"/"+t.name), nil
}

// gitDescriber describes Syncs, or GitSources.
type gitDescriber struct {
	ctx context.Context
	f   cmdutil.Factory
	of  target
}

// Describe implements kubectl's interface.
func (d gitDescriber) Describe(namespace, name string, settings kubedescribe.DescriberSettings) (string, error) {
	a, _, err := connect(d.f)
	if err != nil {
		return "", err
	}
	d.of.name = name
	s, err := readGit(d.ctx, a, namespace, d.of)
	if err != nil {
		return "", err
	}
	if !settings.ShowEvents {
		s.Events = nil
	}
	var b strings.Builder
	if d.of.source {
		err = printSource(&b, s, namespace+"/"+name)
	} else {
		err = printSync(&b, s, namespace+"/"+name)
	}
	return b.String(), err
}

// printSync shows a Sync: what is wanted, what is in force and since when, then tables.
func printSync(out io.Writer, s why.GitSnapshot, name string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	y := s.Syncs[name]
	spec, st := &y.Spec, &y.Status
	say := sayer(w)
	say("Name", y.Name)
	say("Namespace", y.Namespace)
	from := y.Spec.SourceRef.In(y.Namespace)
	if g := s.Sources[from]; g != nil {
		from += " (" + g.Spec.URL + ")"
	}
	say("Source", from)
	say("Path", cmp.Or(spec.Path, "all of it"))
	say("Target namespace", spec.TargetNamespace)
	say("Rights of", cmp.Or(spec.ServiceAccount, "nobody: only namespace "+y.Namespace+" is touched"))
	say("Prune", prunes(spec))
	say("Drift", cmp.Or(spec.Drift, v1alpha1.DriftCorrect))
	var on []string
	for _, d := range spec.DependsOn {
		on = append(on, d.In(y.Namespace))
	}
	say("Depends on", strings.Join(on, " "))
	say("Windows", windows(spec.Windows))
	if y.DeletionTimestamp != nil {
		say("Deleted", y.DeletionTimestamp.UTC().Format(time.RFC3339))
	}
	fmt.Fprintln(w)
	if st.LastAppliedCommit == "" {
		say("In force", "nothing yet")
	} else {
		say("In force", st.LastAppliedCommit)
		say("  Since", since(s.Now, st.LastAppliedTime))
		say("  Author", st.Author)
		say("  Signed by", signer(st.Signer))
	}
	if st.SeenCommit != st.LastAppliedCommit {
		say("Newest commit", st.SeenCommit)
	}
	if st.Incomplete {
		say("Not all of", st.LastAttemptedCommit)
	}
	say("Rollback", why.RolledBack(y))
	if st.Failures > 0 {
		say("Failures", strconv.Itoa(int(st.Failures)))
	}
	if st.NextAttemptTime != nil {
		say("Next attempt", st.NextAttemptTime.UTC().Format(time.RFC3339))
	}
	say("Undone", strings.Join(st.Undone, " "))
	say("Pending", why.PendingPrune(y))
	printConditions(w, s.Now, st.Conditions)
	section(w, "Objects", "KIND\tNAMESPACE\tCOUNT\tNAMES", st.Inventory, func(g v1alpha1.InventoryGroup) string {
		names := g.List()
		return cells(g.Kind, g.Namespace, strconv.Itoa(len(names)), few(names))
	})
	section(w, "History", "COMMIT\tAPPLIED\tAUTHOR\tGIVEN UP", st.History, func(c v1alpha1.AppliedCommit) string {
		up := ""
		if c.RolledBack {
			up = "by a rollback"
		}
		return cells(c.Commit, since(s.Now, &c.Time), c.Author, up)
	})
	fields := func(title string, all []v1alpha1.FieldReport) {
		section(w, title, "OBJECT\tFIELD\tWANTED\tIS\tBY\tWHEN", all, func(f v1alpha1.FieldReport) string {
			return cells(f.Object, f.Path, f.Want, f.Is, f.By, since(s.Now, f.At))
		})
	}
	fields("Conflicts", st.Conflicts)
	fields("Drifted", st.Drift)
	section(w, "Contested", "OBJECT\tFIELD\tWHY", slices.DeleteFunc(slices.Clone(st.Drift), func(f v1alpha1.FieldReport) bool { return f.Contest == "" }), func(f v1alpha1.FieldReport) string {
		return cells(f.Object, f.Path, f.Contest)
	})
	section(w, "Not healthy", "OBJECT\tHEALTH\tWHY", st.Unhealthy, func(o v1alpha1.ObjectReport) string {
		return cells(o.Object, o.Health, because(o.Reason, o.Message))
	})
	printEvents(w, s)
	return w.Flush()
}

// printSource shows a GitSource: what is wanted, what came, and who uses it.
func printSource(out io.Writer, s why.GitSnapshot, name string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	g := s.Sources[name]
	spec, st := &g.Spec, &g.Status
	say := sayer(w)
	say("Name", g.Name)
	say("Namespace", g.Namespace)
	say("URL", spec.URL)
	say("Wanted", wantedRef(spec.Ref))
	say("Paths", strings.Join(spec.Paths, " "))
	interval, _ := spec.Times()
	say("Asked every", interval.String())
	if spec.Webhook != nil {
		say("Webhook", cmp.Or(st.WebhookPath, "not known yet")+" ("+spec.Webhook.Type+")")
	}
	say("Must be signed", spec.Mode())
	fmt.Fprintln(w)
	say("Commit", cmp.Or(st.Commit, "none yet"))
	if st.Commit != "" {
		say("  Of", st.Ref)
		say("  Author", st.Author)
		say("  Subject", st.Subject)
		say("  Made", since(s.Now, st.CommitTime))
		say("  Signed by", signer(st.Signer))
	}
	say("Not believed", st.Refused)
	say("Last answer", since(s.Now, st.LastFetchTime))
	printConditions(w, s.Now, st.Conditions)
	if spec.Verify != nil {
		section(w, "Signers", "TYPE\tKEYS\tIDENTITIES\tMAY CHANGE", spec.Verify.Signers, func(v v1alpha1.GitSigner) string {
			keys := ""
			switch {
			case v.SecretKeyRef != nil:
				keys = "secret/" + v.SecretKeyRef.Name + " " + v.SecretKeyRef.Key
			case v.ConfigMapKeyRef != nil:
				keys = "configmap/" + v.ConfigMapKeyRef.Name + " " + v.ConfigMapKeyRef.Key
			}
			return cells(v.Type, keys, cmp.Or(strings.Join(v.Identities, " "), "all"), cmp.Or(strings.Join(v.Paths, " "), "all"))
		})
	}
	section(w, "Used by", "SYNC\tPATH\tSTATE", users(s, name), func(y *v1alpha1.Sync) string {
		return cells(y.Name, y.Spec.Path, why.SyncSummary(y))
	})
	printEvents(w, s)
	return w.Flush()
}

func users(s why.GitSnapshot, source string) []*v1alpha1.Sync {
	var out []*v1alpha1.Sync
	for _, name := range slices.Sorted(maps.Keys(s.Syncs)) {
		if y := s.Syncs[name]; y.Spec.SourceRef.In(y.Namespace) == source {
			out = append(out, y)
		}
	}
	return out
}

// sayer prints what is not empty.
func sayer(w io.Writer) func(name, value string) {
	return func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, value)
		}
	}
}

func printConditions(w io.Writer, now time.Time, all []metav1.Condition) {
	section(w, "Conditions", "TYPE\tSTATUS\tREASON\tSINCE\tMESSAGE", all, func(c metav1.Condition) string {
		return cells(c.Type, string(c.Status), c.Reason, duration.HumanDuration(now.Sub(c.LastTransitionTime.Time)), c.Message)
	})
}

func printEvents(w io.Writer, s why.GitSnapshot) {
	section(w, "Events", "LAST\tTYPE\tREASON\tMESSAGE", s.Events, func(e why.Event) string {
		return cells(duration.HumanDuration(s.Now.Sub(e.Last)), e.Type, e.Reason, e.Message)
	})
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func prunes(spec *v1alpha1.SyncSpec) string {
	if !spec.Prune {
		return "no: what leaves the repository stays"
	}
	text := "yes"
	if l := spec.PruneLimit; l != nil && l.Count != nil {
		text += ", at most " + plural(int(*l.Count), "object", "objects")
	}
	if l := spec.PruneLimit; l != nil && l.Percent != nil {
		text += fmt.Sprintf(", at most %d %%", *l.Percent)
	}
	return text
}

func windows(all []v1alpha1.ChangeWindow) string {
	var out []string
	for _, c := range all {
		out = append(out, fmt.Sprintf("%s %s %s-%s %s", cmp.Or(c.Action, v1alpha1.WindowAllow), cmp.Or(strings.Join(c.Days, ","), "every day"), c.From, c.To, cmp.Or(c.TimeZone, "UTC")))
	}
	return strings.Join(out, "; ")
}

func wantedRef(r v1alpha1.GitRef) string {
	var out []string
	for _, p := range [][2]string{{"branch", r.Branch}, {"tag", r.Tag}, {"version", r.Semver}, {"commit", r.Commit}} {
		if p[1] != "" {
			out = append(out, p[0]+" "+p[1])
		}
	}
	return cmp.Or(strings.Join(out, ", "), "the default branch")
}

func signer(s *v1alpha1.Signer) string {
	if s == nil {
		return ""
	}
	return s.Identity + " (" + s.Type + " " + s.Key + ")"
}

// since is a time and how long it is ago.
func since(now time.Time, t *metav1.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " (" + duration.HumanDuration(now.Sub(t.Time)) + " ago)"
}

// few are the first of some names.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return strings.Join(names[:most], " ") + " ..."
}
