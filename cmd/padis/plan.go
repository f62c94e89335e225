package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/plan"
)

const (
	planLong = `Say what would happen, and change nothing: what of each object would change or be refused, which instances would be started,
replaced, moved or stopped, on which hosts and why, in which batches, which addresses would be leased or given back, and what
would wait and for what.

* -f FILE|DIR|-: if padis apply applied these manifests; with --server-side, if it did so by server-side apply.
* --delete TYPE/NAME, or --prune -l SELECTOR: if these objects were deleted; also together with -f.
* --git URL|DIR: if what a repository declares were applied. Your own settings of git are not used.
* --sync NAME: what a Sync would do with the newest commit of its GitSource, with --ref BRANCH|TAG|COMMIT, or with the working
  copy -f DIR before it is pushed: what it would write, delete and keep, and what stands against it.

The very code that acts decides it, on what is declared and running now. Only what you may apply and delete can be planned.
Contents of Secrets are shown as digests only; the file of --out holds them as they are given, and is for its owner only.`

	planExit = `Exit status:
  0  nothing would happen
  1  an error, or something would be refused
  2  something would happen`

	planExample = `  # What would happen if I applied this?
  padis plan -f shop.yaml

  # Look at it, have it looked at, then apply just that, or be told what has changed since
  padis plan -f shop.yaml --out plan.json
  padis apply --plan plan.json

  # All manifests of a directory and those below it, for a program
  padis plan -f manifests/ -R -o json

  # What would end, and which addresses would be free, without the App web?
  padis plan --delete app/web -n shop

  # What would the Sync do if I pushed this working copy, or merged that branch?
  padis plan --sync shop -n shop -f .
  padis plan --sync shop -n shop --ref more-replicas

  # What is in a repository, with variables, if it were applied by hand?
  padis plan --git https://git.example.com/shop.git --ref v1.4.0 --path clusters/berlin --var REPLICAS=3`

	// planTries is how often it is asked anew while objects keep changing.
	planTries = 4
)

// outcome is an exit status that needs no message.
type outcome int

func (o outcome) Error() string { return fmt.Sprintf("exit status %d", int(o)) }

// planFlags are those of padis plan.
type planFlags struct {
	files       resource.FilenameOptions
	doomed      doomed
	serverSide  bool
	force       bool
	manager     string
	sync        string
	repository  repository
	out, output string
}

func newPlanCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var o planFlags
	cmd := &cobra.Command{
		Use:     "plan (-f FILENAME | --delete TYPE/NAME | --git URL | --sync NAME)",
		Short:   "Say what would happen if manifests were applied, or a commit",
		Long:    planLong + "\n\n" + planExit,
		Example: planExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			p, err := o.plan(cmd.Context(), f, streams)
			if err != nil {
				return err
			}
			shown := *p
			shown.Manifests = nil
			if err := showPlan(streams.Out, &shown, o.output); err != nil {
				return err
			}
			if o.out != "" && !p.Refused() {
				if err := writePlan(o.out, p); err != nil {
					return err
				}
			}
			if code := p.ExitCode(); code != exitOK {
				return outcome(code)
			}
			return nil
		},
	}
	cmdutil.AddFilenameOptionFlags(cmd, &o.files, "that contain the manifests; with --sync, the working copy.")
	flags := cmd.Flags()
	flags.StringArrayVar(&o.doomed.names, "delete", nil, "Object to delete, as TYPE/NAME; may be given several times.")
	flags.BoolVar(&o.doomed.prune, "prune", false, "Delete what --selector selects, padis apply has applied, and the manifests do not have.")
	flags.StringVarP(&o.doomed.selector, "selector", "l", "", "Labels of what --prune may delete, for example app=shop.")
	flags.BoolVar(&o.serverSide, "server-side", false, "As padis apply --server-side would do it.")
	flags.BoolVar(&o.force, "force-conflicts", false, "Take over fields of others, as padis apply --server-side --force-conflicts does.")
	flags.StringVar(&o.manager, "field-manager", "", "Name to own fields by; needs --server-side. Default is kubectl, as that of padis apply.")
	flags.StringVar(&o.sync, "sync", "", "Sync of which it is told what it would do.")
	flags.StringVar(&o.repository.url, "git", "", "Repository, by its URL or directory, whose commit would be applied.")
	flags.StringVar(&o.repository.ref, "ref", "", "Branch, tag or whole hash of a commit; with --git or --sync.")
	flags.StringVar(&o.repository.path, "path", "", "Directory or file in the repository; with --git.")
	flags.StringArrayVar(&o.repository.variables, "var", nil, "Variable NAME=VALUE for ${NAME} in the files; with --git.")
	flags.StringVar(&o.repository.keys, "age-keys", "", "File with the age keys that decrypt files of sops; with --git.")
	flags.StringVar(&o.out, "out", "", "File to write the plan to, for padis apply --plan; not if something would be refused.")
	flags.StringVarP(&o.output, "output", "o", "", "Output format: json, or nothing for people.")
	return cmd
}

// check refuses what does not go together.
func (o *planFlags) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	files := given("filename") || given("kustomize")
	only := func(with string, names ...string) error {
		for _, n := range names {
			if given(n) && !given(with) {
				return usagef("--%s: it goes together with --%s only", n, with)
			}
		}
		return nil
	}
	without := func(with string, names ...string) error {
		for _, n := range names {
			if given(n) && given(with) {
				return usagef("--%s does not go together with --%s: leave one of them away", n, with)
			}
		}
		return nil
	}
	switch {
	case o.output != "" && o.output != "json":
		return usagef("--output %q: use json, or leave it away", o.output)
	case !files && !given("delete") && !given("sync") && !given("git"):
		return usagef("nothing is given to plan: name files with -f, objects with --delete, a repository with --git, or a Sync with --sync")
	case given("sync") && (given("kustomize") || len(o.files.Filenames) > 1):
		return usagef("--sync: give one working copy with -f DIR, the directory that holds the whole repository")
	case given("ref") && !given("git") && !given("sync"):
		return usagef("--ref: it goes together with --git or --sync only")
	case given("ref") && given("sync") && files:
		return usagef("--ref does not go together with --sync and -f: a working copy is what it is")
	case o.doomed.prune != (o.doomed.selector != ""):
		return usagef("--prune and --selector go together: a selector says which objects belong to the manifests")
	case o.doomed.prune && !files && !given("git"):
		return usagef("--prune: give all the manifests that are to stay, with -f or --git")
	}
	return errors.Join(
		only("server-side", "force-conflicts", "field-manager"), only("git", "path", "var", "age-keys"),
		without("git", "filename", "kustomize", "sync"), without("sync", "delete", "prune", "server-side"),
	)
}

// plan asks for what was given.
func (o *planFlags) plan(ctx context.Context, f cmdutil.Factory, streams genericiooptions.IOStreams) (*plan.Plan, error) {
	if o.sync != "" {
		return planSync(ctx, f, o)
	}
	w := wish{}
	if o.serverSide {
		w.how = &plan.ServerSide{FieldManager: cmp.Or(o.manager, "kubectl"), Force: o.force}
	}
	var err error
	if o.repository.url != "" {
		var clean func()
		if clean, err = o.repository.fetch(ctx, f, streams, &o.files); err != nil {
			return nil, err
		}
		defer clean()
	}
	if len(o.files.Filenames) > 0 || o.files.Kustomize != "" {
		if w.manifests, err = readManifests(f, &o.files); err != nil {
			return nil, err
		}
	}
	if w.deletions, err = o.doomed.find(f, w.manifests); err != nil {
		return nil, err
	}
	p, err := makePlan(ctx, f, w, streams)
	if err != nil {
		return nil, err
	}
	p.Manifests, p.ServerSide = w.manifests.manifests(), w.how
	for i := range w.deletions {
		p.Deletions = append(p.Deletions, w.deletions[i].deletion())
	}
	return p, nil
}

// wish is what shall be applied and deleted, and how.
type wish struct {
	manifests manifests
	deletions deletions
	how       *plan.ServerSide
}

// makePlan asks what would happen. Objects that change in between are looked at again.
func makePlan(ctx context.Context, f cmdutil.Factory, w wish, streams genericiooptions.IOStreams) (*plan.Plan, error) {
	return askAgain(ctx, f, func() ([]plan.Proposal, error) {
		proposals, err := propose(f, w, streams)
		if err != nil {
			return nil, err
		}
		for i := range w.deletions {
			p, err := w.deletions[i].propose()
			if err != nil {
				return nil, err
			}
			proposals = append(proposals, p)
		}
		return proposals, nil
	})
}

// askAgain asks for what is proposed, anew while objects change in between.
func askAgain(ctx context.Context, f cmdutil.Factory, propose func() ([]plan.Proposal, error)) (*plan.Plan, error) {
	a, _, err := connect(f)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		proposals, err := propose()
		if err != nil {
			return nil, err
		}
		p, err := askPlan(ctx, a, proposals)
		if n < planTries && apierrors.IsConflict(err) {
			continue
		}
		return p, err
	}
}

func askPlan(ctx context.Context, a reader, proposals []plan.Proposal) (*plan.Plan, error) {
	body, err := plan.EncodeQuestion(proposals)
	if err != nil {
		return nil, err
	}
	result := a.client.Post().AbsPath("/plan").SetHeader("Content-Type", "application/json").Body(body).Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	answer, err := result.Raw()
	if err != nil {
		return nil, err
	}
	return plan.Decode(answer)
}

func showPlan(out io.Writer, p *plan.Plan, output string) error {
	if output == "" {
		_, err := io.WriteString(out, plan.Text(p))
		return err
	}
	b, err := plan.Encode(p)
	if err == nil {
		_, err = out.Write(b)
	}
	return err
}

// writePlan replaces a file at once, readable by its owner only: there may be Secrets in it.
func writePlan(path string, p *plan.Plan) error {
	b, err := plan.Encode(p)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // It is gone if all went well.
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}

// readPlan reads what writePlan wrote.
func readPlan(path string) (*plan.Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--plan: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, plan.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("--plan: %w", err)
	}
	p, err := plan.Decode(b)
	switch {
	case err != nil:
	case p.Sync != nil:
		err = fmt.Errorf("plan: it is of the Sync %s/%s, which applies it by itself: push the commit", p.Sync.Namespace, p.Sync.Name)
	case len(p.Manifests)+len(p.Deletions) == 0:
		err = errors.New("plan: there are no manifests in it: give the file that padis plan --out wrote")
	}
	if err != nil {
		return nil, fmt.Errorf("--plan %s: %w", path, err)
	}
	return p, nil
}

// asList is a List of manifests, as padis apply reads it.
func asList(all []json.RawMessage) ([]byte, error) {
	return json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": all})
}
