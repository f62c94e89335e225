package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/v1alpha1"
)

const rollbackAppExample = `  # What was an App before it was changed, and who has changed it?
  padis rollback app web --list

  # Back to what it was before the last change; to what it was in a generation
  padis rollback app web
  padis rollback app web --to 3`

const rollbackAppLong = `Put back what the spec of an App was before it was changed; the number of instances stays. Without --to, it is what was before the
last change, so that a second rollback undoes the first.

If a Sync applies the App, it is told first to leave the App as it is, until a commit says of it something else than the commit
that is in force: see spec.undo and status.undone of the Sync. That needs the right to change Syncs.`

// maxUndo is how many entries spec.undo of a Sync may have.
const maxUndo = 64

type rollbackApp struct {
	to      int64
	list    bool
	timeout time.Duration
}

func newRollbackAppCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var o rollbackApp
	cmd := rollbackOf(f, streams, &o)
	cmd.Use, cmd.Short, cmd.Long, cmd.Example = "app NAME", "Put back what an App was", rollbackAppLong+"\n\n"+exitHelp, rollbackAppExample
	flags := cmd.Flags()
	flags.Int64Var(&o.to, "to", 0, "generation whose spec is put back; without it, the one before the last change")
	flags.BoolVar(&o.list, "list", false, "list what the App was, and change nothing")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long to wait for the Sync of the App")
	return cmd
}

func (o *rollbackApp) check() error {
	if o.list && o.to != 0 {
		return usagef("--list changes nothing: leave --to away")
	}
	return nil
}

func (o *rollbackApp) run(ctx context.Context, a reader, namespace, name string, out io.Writer) error {
	path := declaredPath(namespace, "apps", name)
	app := &unstructured.Unstructured{}
	if err := a.get(ctx, path, app); err != nil {
		return err
	}
	var all v1alpha1.AppRevisionList
	if err := a.get(ctx, declaredPath(namespace, "apprevisions"), &all, "labelSelector", v1alpha1.LabelApp+"="+name); err != nil {
		return err
	}
	past := pastOf(app, all.Items)
	if o.list {
		return listRevisions(out, past)
	}
	r, err := chooseRevision(app, past, o.to)
	if err != nil {
		return err
	}
	next, err := restored(app, r)
	if err != nil {
		return err
	}
	fields := plan.Diff(app.Object, next.Object)
	if len(fields) == 0 {
		fmt.Fprintf(out, "app %s/%s is as it was in generation %d: nothing is changed\n", namespace, name, r.Spec.Generation)
		return nil
	}
	sync, err := o.undo(ctx, a, app)
	if err != nil {
		return err
	}
	if err := replaceApp(ctx, a, path, app, next); err != nil {
		return err
	}
	fmt.Fprintf(out, "app %s/%s is as it was in generation %d, %s; its number of instances stays:\n%s",
		namespace, name, r.Spec.Generation, replacement(r), plan.FieldsText(fields))
	if sync != "" {
		fmt.Fprintf(out, "sync %s leaves it as it is until a commit says something else of it\n", sync)
	}
	return nil
}

// pastOf are the revisions of this very App, the newest first. A write that was refused after all has left one of the spec that
// is still in force.
func pastOf(app *unstructured.Unstructured, all []v1alpha1.AppRevision) []v1alpha1.AppRevision {
	out := slices.DeleteFunc(all, func(r v1alpha1.AppRevision) bool {
		return r.Spec.Generation >= app.GetGeneration() || len(r.OwnerReferences) != 1 || r.OwnerReferences[0].UID != app.GetUID()
	})
	v1alpha1.SortRevisions(out)
	return out
}

func listRevisions(out io.Writer, past []v1alpha1.AppRevision) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "GENERATION\tREPLACED\tBY\tCOMMIT")
	for _, r := range past {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", r.Spec.Generation, r.Spec.ReplacedAt.UTC().Format(time.RFC3339), r.Spec.ReplacedBy, r.Spec.Commit)
	}
	return w.Flush()
}

// replacement says when and by whom a spec was replaced.
func replacement(r *v1alpha1.AppRevision) string {
	s := "which " + r.Spec.ReplacedBy + " has replaced at " + r.Spec.ReplacedAt.UTC().Format(time.RFC3339)
	if r.Spec.Commit != "" {
		s += " by commit " + r.Spec.Commit
	}
	return s
}

func chooseRevision(app *unstructured.Unstructured, past []v1alpha1.AppRevision, generation int64) (*v1alpha1.AppRevision, error) {
	name := app.GetNamespace() + "/" + app.GetName()
	if len(past) == 0 {
		return nil, fmt.Errorf("app %s: nothing is known of what it was: it was not changed, but for its number of instances", name)
	}
	if generation == 0 {
		return &past[0], nil
	}
	var known []string
	for i := range past {
		if past[i].Spec.Generation == generation {
			return &past[i], nil
		}
		known = append(known, fmt.Sprint(past[i].Spec.Generation))
	}
	return nil, usagef("--to %d: of app %s the generations %s are known: take one of these (padis rollback app %s --list)", generation, name, strings.Join(known, ", "), app.GetName())
}

// restored is the App with the spec of a revision, and as many instances as it has now.
func restored(app *unstructured.Unstructured, r *v1alpha1.AppRevision) (*unstructured.Unstructured, error) {
	var spec map[string]any
	if err := json.Unmarshal(r.Spec.Spec.Raw, &spec); err != nil {
		return nil, fmt.Errorf("apprevision %s/%s: spec: %w", r.Namespace, r.Name, err)
	}
	now, _ := app.Object["spec"].(map[string]any)
	delete(spec, "replicas")
	if n, set := now["replicas"]; set {
		spec["replicas"] = n
	}
	next := &unstructured.Unstructured{Object: maps.Clone(app.Object)}
	next.Object["spec"] = spec
	return next, nil
}

// undo has the Sync of an App leave it alone, and gives its name; empty if the App is of none.
func (o *rollbackApp) undo(ctx context.Context, a reader, app *unstructured.Unstructured) (string, error) {
	sync := app.GetAnnotations()[v1alpha1.AnnotationSync]
	namespace, name, ok := strings.Cut(sync, "/")
	if !ok {
		return "", nil
	}
	path := declaredPath(namespace, "syncs", name)
	y, err := changeSync(ctx, a, path, func(y *v1alpha1.Sync) (map[string]any, error) {
		list := undoWith(y, app.GetNamespace(), app.GetName())
		if reflect.DeepEqual(list, y.Spec.Undo) {
			return nil, nil
		}
		if len(list) > maxUndo {
			return nil, fmt.Errorf("sync %s leaves %d objects as they are, and cannot be told of more: remove entries of its spec.undo that are not needed", sync, len(y.Spec.Undo))
		}
		return map[string]any{"undo": list}, nil
	})
	switch {
	case apierrors.IsNotFound(err):
		// Nobody would apply it again.
		return "", nil
	case apierrors.IsForbidden(err):
		return "", fmt.Errorf("the App is applied by sync %s, which must be told first to leave it as it is: change it in the repository, or ask somebody who may change the Sync: %w", sync, err)
	case err != nil:
		return "", err
	}
	said := "the Sync was not looked at yet"
	err = await(ctx, o.timeout, func() string { return "sync " + sync + " does not leave the App alone yet: " + said }, func(ctx context.Context) (bool, error) {
		var now v1alpha1.Sync
		if err := a.get(ctx, path, &now); err != nil {
			return false, err
		}
		if c := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			said = c.Message
		}
		return now.Status.ObservedGeneration >= y.Generation, nil
	})
	return sync, err
}

// undoWith is spec.undo of a Sync with an App in it, from the commit in force. When there are too many, those that a commit has
// ended already go.
func undoWith(y *v1alpha1.Sync, namespace, name string) []v1alpha1.SyncUndo {
	from := commitInForce(&y.Status)
	if from == "" {
		return y.Spec.Undo
	}
	entry := v1alpha1.SyncUndo{Group: v1alpha1.GroupVersion.Group, Kind: "App", Namespace: namespace, Name: name, From: from}
	if slices.Contains(y.Spec.Undo, entry) {
		return y.Spec.Undo
	}
	out := slices.DeleteFunc(slices.Clone(y.Spec.Undo), func(u v1alpha1.SyncUndo) bool {
		return u.Group == entry.Group && u.Kind == entry.Kind && u.Namespace == namespace && u.Name == name
	})
	if len(out) >= maxUndo && y.Status.ObservedGeneration == y.Generation {
		out = slices.DeleteFunc(out, func(u v1alpha1.SyncUndo) bool {
			object := strings.ToLower(u.Kind) + "/" + u.Namespace + "/" + u.Name
			return u.Namespace != "" && !slices.Contains(y.Status.Undone, object)
		})
	}
	return append(out, entry)
}

// replaceApp writes an App unless somebody has changed its spec since it was read; statuses may have changed.
func replaceApp(ctx context.Context, a reader, path string, was, next *unstructured.Unstructured) error {
	for n := 1; ; n++ {
		now := &unstructured.Unstructured{}
		if err := a.get(ctx, path, now); err != nil {
			return err
		}
		if now.GetUID() != was.GetUID() || now.GetGeneration() != was.GetGeneration() {
			return errors.New("the App was changed in between, and nothing is put back: look at it again with the same command")
		}
		now.Object["spec"] = next.Object["spec"]
		err := a.replace(ctx, v1alpha1.UndoManager, path, now)
		if err == nil || n == conflictTries || !apierrors.IsConflict(err) {
			return err
		}
	}
}
