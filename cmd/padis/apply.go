package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/kubectl/pkg/cmd/apply"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/plan"
)

// newApplyCommand is kubectl's, which can also be given a plan.
func newApplyCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := apply.NewCmdApply("padis", f, streams)
	files, file := cmd.Run, ""
	cmd.Flags().StringVar(&file, "plan", "", "Plan of padis plan --out: apply its manifests, if what it was made of has not changed since.")
	cmd.Run = nil
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			files(cmd, args)
			return nil
		}
		if err := onlyPlan(cmd, args); err != nil {
			return err
		}
		return applyPlan(cmd, f, streams, file, func(manifests string, how *plan.ServerSide) error {
			set := map[string]string{"filename": manifests}
			if how != nil {
				set["server-side"], set["force-conflicts"], set["field-manager"] = "true", strconv.FormatBool(how.Force), how.FieldManager
			}
			for name, value := range set {
				if err := cmd.Flags().Set(name, value); err != nil {
					return err
				}
			}
			files(cmd, nil)
			return nil
		})
	}
	return cmd
}

// onlyPlan refuses what would make more, or something else, of a plan.
func onlyPlan(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected %q: a plan says all that there is to apply", args[0])
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "plan" && cmd.InheritedFlags().Lookup(f.Name) == nil {
			err = usagef("--%s does not go together with --plan: a plan says all that there is to apply, and how", f.Name)
		}
	})
	return err
}

// applyPlan applies what a plan was made for, and deletes then, if it still holds.
func applyPlan(cmd *cobra.Command, f cmdutil.Factory, streams genericiooptions.IOStreams, file string, apply func(manifests string, how *plan.ServerSide) error) error {
	was, err := readPlan(file)
	if err != nil {
		return err
	}
	again := func(changed ...string) error {
		return fmt.Errorf("nothing was applied: since %s was made, there has changed: %s; plan again, as you did then, with --out %s",
			file, strings.Join(changed, ", "), file)
	}
	list, err := asList(was.Manifests)
	if err != nil {
		return err
	}
	// Only this user may read it: there may be Secrets in it.
	dir, err := os.MkdirTemp("", "padis-plan-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	manifests := filepath.Join(dir, "manifests.json")
	if err := os.WriteFile(manifests, list, 0o600); err != nil {
		return err
	}
	w := wish{how: was.ServerSide}
	if len(was.Manifests) > 0 {
		if w.manifests, err = readManifests(f, &resource.FilenameOptions{Filenames: []string{manifests}}); err != nil {
			return err
		}
	}
	var gone []string
	if w.deletions, gone, err = findDeletions(f, was.Deletions); err != nil {
		return err
	} else if len(gone) > 0 {
		return again(gone...)
	}
	now, err := makePlan(cmd.Context(), f, w, streams)
	if err != nil {
		return err
	}
	if changed := was.Changed(now); len(changed) > 0 {
		fmt.Fprint(streams.ErrOut, "What would happen now:\n\n", plan.Text(now), "\n")
		return again(changed...)
	}
	if now.Refused() {
		return errors.New("nothing was applied: something would be refused; see padis plan")
	}
	if len(was.Manifests) > 0 {
		if err := apply(manifests, w.how); err != nil {
			return err
		}
	}
	return w.deletions.carryOut(streams)
}
