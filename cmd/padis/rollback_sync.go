package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/v1alpha1"
)

const rollbackSyncExample = `  # Back to the commit that was applied before the one in force, until a commit changes what that one has changed
  padis rollback sync shop

  # To another one, by the beginning of its hash, and wait until it is in force
  padis rollback sync shop --to 3f2a91 --wait

  # Stay there, whatever is pushed; and follow the source again
  padis rollback sync shop --pin
  padis rollback sync shop --resume`

const rollbackSyncLong = `Have an earlier commit of a Sync in force in place of the one that is. The repository stays as it is. The rollback ends by
itself when a commit arrives that changes what the bad one has changed; commits that change other things do not end it.

Without --to, it is the commit that was applied before the one in force; of one that was only begun with, the last one all of which
was applied. Commits from which a rollback went back are passed over. With --to, it is one of the applied commits of status.history, by as
many digits as tell it from the others, or any commit of the source by its whole hash.`

type rollbackSync struct {
	to                string
	pin, resume, wait bool
	timeout           time.Duration
}

func newRollbackSyncCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var o rollbackSync
	cmd := rollbackOf(f, streams, &o)
	cmd.Use, cmd.Short, cmd.Long, cmd.Example = "sync NAME", "Go back to an earlier commit of a Sync", rollbackSyncLong+"\n\n"+exitHelp, rollbackSyncExample
	flags := cmd.Flags()
	flags.StringVar(&o.to, "to", "", "commit to go back to; without it, the one before the one in force")
	flags.BoolVar(&o.pin, "pin", false, "stay there until --resume, whatever is pushed")
	flags.BoolVar(&o.resume, "resume", false, "end the rollback: follow the source again")
	flags.BoolVar(&o.wait, "wait", false, "wait until the commit is in force")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long to wait")
	return cmd
}

func (o *rollbackSync) check() error {
	if o.resume && (o.pin || o.to != "") {
		return usagef("--resume ends a rollback: leave --to and --pin away")
	}
	return nil
}

func (o *rollbackSync) run(ctx context.Context, a reader, namespace, name string, out io.Writer) error {
	path := declaredPath(namespace, "syncs", name)
	var wanted *v1alpha1.SyncRollback
	y, err := changeSync(ctx, a, path, func(y *v1alpha1.Sync) (map[string]any, error) {
		wanted = nil
		if o.resume {
			if y.Spec.Rollback == nil {
				return nil, nil
			}
			return map[string]any{"rollback": nil}, nil
		}
		var err error
		if wanted, err = chooseRollback(y, o.to, o.pin); err != nil {
			return nil, err
		}
		// Each field, since what a patch does not name stays.
		set := map[string]any{"to": wanted.To, "from": nil, "pinned": nil}
		if wanted.From != "" {
			set["from"] = wanted.From
		}
		if wanted.Pinned {
			set["pinned"] = true
		}
		return map[string]any{"rollback": set}, nil
	})
	if err != nil {
		return err
	}
	resume := fmt.Sprintf("padis rollback sync %s -n %s --resume", name, namespace)
	target := y.Status.SeenCommit
	switch {
	case o.resume:
		fmt.Fprintf(out, "sync %s/%s follows its source, which is at commit %s\n", namespace, name, target)
	case wanted.Pinned || wanted.From == "":
		target = wanted.To
		fmt.Fprintf(out, "sync %s/%s goes back to commit %s\nit stays there, whatever is pushed, until: %s\n", namespace, name, target, resume)
	default:
		target = wanted.To
		fmt.Fprintf(out, "sync %s/%s goes back from commit %s to %s\nit stays there until a commit changes what %s has changed, or until: %s\n",
			namespace, name, wanted.From, target, wanted.From, resume)
	}
	if !o.wait {
		return nil
	}
	return awaitSync(ctx, a, path, y.Generation, target, o.timeout, out)
}

// changeSync patches the spec of a Sync as change says, which is nil for nothing, and gives it as it is then. It is asked anew
// when somebody else has changed the Sync in between.
func changeSync(ctx context.Context, a reader, path string, change func(*v1alpha1.Sync) (map[string]any, error)) (*v1alpha1.Sync, error) {
	for n := 1; ; n++ {
		var y, after v1alpha1.Sync
		if err := a.get(ctx, path, &y); err != nil {
			return nil, err
		}
		spec, err := change(&y)
		if spec == nil || err != nil {
			return &y, err
		}
		patch := map[string]any{"metadata": map[string]any{"resourceVersion": y.ResourceVersion}, "spec": spec}
		if err = a.merge(ctx, v1alpha1.UndoManager, path, patch, &after); err == nil {
			return &after, nil
		}
		if n == conflictTries || !apierrors.IsConflict(err) {
			return nil, err
		}
	}
}

// commitInForce is the commit whose objects are there: the one that was begun with last, if all of it is not applied yet.
func commitInForce(st *v1alpha1.SyncStatus) string {
	if st.Incomplete && st.LastAttemptedCommit != "" {
		return st.LastAttemptedCommit
	}
	return st.LastAppliedCommit
}

// chooseRollback says where a Sync goes back to, and from where. One that is rolled back already goes back from the same bad
// commit: that is what the repository still says.
func chooseRollback(y *v1alpha1.Sync, to string, pin bool) (*v1alpha1.SyncRollback, error) {
	name := y.Namespace + "/" + y.Name
	bad, now := commitInForce(&y.Status), y.Spec.Rollback
	if now != nil && !ended(y) {
		bad = now.From
	}
	var err error
	if to == "" {
		to, err = commitBefore(y)
	} else {
		to, err = findCommit(y, to)
	}
	if err != nil {
		return nil, err
	}
	if to == bad {
		if now != nil && !ended(y) {
			return nil, fmt.Errorf("sync %s: commit %s is the one that it went back from: to have it in force again, end the rollback with --resume", name, to)
		}
		if !pin {
			return nil, fmt.Errorf("sync %s: commit %s is in force: name an earlier one with --to, or have it stay with --pin\n%s", name, to, historyText(y))
		}
		bad = ""
	}
	return &v1alpha1.SyncRollback{To: to, From: bad, Pinned: pin}, nil
}

// ended tells whether a commit has ended the rollback of a Sync.
func ended(y *v1alpha1.Sync) bool {
	rb, r := y.Spec.Rollback, y.Status.ReleasedRollback
	return rb != nil && !rb.Pinned && r != nil && r.To == rb.To && r.From == rb.From
}

// commitBefore is the commit that was applied before the one in force.
func commitBefore(y *v1alpha1.Sync) (string, error) {
	st := &y.Status
	inForce := commitInForce(st)
	if inForce == "" {
		return "", fmt.Errorf("sync %s/%s has applied nothing yet: there is nothing to go back from", y.Namespace, y.Name)
	}
	if inForce != st.LastAppliedCommit && st.LastAppliedCommit != "" {
		return st.LastAppliedCommit, nil
	}
	at := slices.IndexFunc(st.History, func(c v1alpha1.AppliedCommit) bool { return c.Commit == inForce })
	for _, c := range st.History[at+1:] {
		if !c.RolledBack {
			return c.Commit, nil
		}
	}
	return "", fmt.Errorf("sync %s/%s: no commit is known that was applied before %s: name one with --to\n%s", y.Namespace, y.Name, inForce, historyText(y))
}

// findCommit reads the beginning of a commit that was applied, or a whole hash.
func findCommit(y *v1alpha1.Sync, text string) (string, error) {
	text = strings.ToLower(text)
	var found []string
	for _, c := range y.Status.History {
		if strings.HasPrefix(c.Commit, text) {
			found = append(found, c.Commit)
		}
	}
	whole := (len(text) == 40 || len(text) == 64) && strings.Trim(text, "0123456789abcdef") == ""
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", usagef("--to %s: more than one commit begins so: write more of it\n%s", text, historyText(y))
	case whole:
		return text, nil
	}
	return "", usagef("--to %s: no applied commit begins so: take one of these, or write the whole hash of another one (git rev-parse)\n%s", text, historyText(y))
}

// historyText lists the applied commits, the newest first.
func historyText(y *v1alpha1.Sync) string {
	if len(y.Status.History) == 0 {
		return "no commit was applied yet"
	}
	lines := []string{"applied were:"}
	for _, c := range y.Status.History {
		line := "  " + c.Commit + "  " + c.Time.UTC().Format(time.RFC3339)
		if c.Author != "" {
			line += "  " + c.Author
		}
		switch {
		case c.Commit == y.Status.LastAppliedCommit:
			line += "  (in force)"
		case c.RolledBack:
			line += "  (rolled back)"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// awaitSync waits until all of a commit is applied.
func awaitSync(ctx context.Context, a reader, path string, generation int64, commit string, timeout time.Duration, out io.Writer) error {
	said := "the Sync was not looked at yet"
	return await(ctx, timeout, func() string { return said }, func(ctx context.Context) (bool, error) {
		var y v1alpha1.Sync
		if err := a.get(ctx, path, &y); err != nil {
			return false, err
		}
		if y.Status.ObservedGeneration < generation {
			return false, nil
		}
		ready := meta.FindStatusCondition(y.Status.Conditions, v1alpha1.ConditionReady)
		if ready != nil && ready.Message != said {
			said = ready.Message
			fmt.Fprintln(out, said)
		}
		if y.Status.LastAppliedCommit == commit && !y.Status.Incomplete {
			return true, nil
		}
		if meta.IsStatusConditionTrue(y.Status.Conditions, v1alpha1.ConditionStalled) {
			return false, errors.New(said)
		}
		return false, nil
	})
}
