package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
		return applyPlan(cmd, f, streams, file, func(manifests string) error {
			if err := cmd.Flags().Set("filename", manifests); err != nil {
				return err
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

// applyPlan applies what a plan was made for, if it still holds.
func applyPlan(cmd *cobra.Command, f cmdutil.Factory, streams genericiooptions.IOStreams, file string, apply func(manifests string) error) error {
	was, err := readPlan(file)
	if err != nil {
		return err
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
	local, err := readManifests(f, &resource.FilenameOptions{Filenames: []string{manifests}})
	if err != nil {
		return err
	}
	now, err := makePlan(cmd.Context(), f, local, streams)
	if err != nil {
		return err
	}
	if changed := was.Changed(now); len(changed) > 0 {
		fmt.Fprint(streams.ErrOut, "What would happen now:\n\n", plan.Text(now), "\n")
		return fmt.Errorf("nothing was applied: since %s was made, there has changed: %s; plan again with padis plan -f FILENAME --out %s",
			file, strings.Join(changed, ", "), file)
	}
	if now.Refused() {
		return errors.New("nothing was applied: something would be refused; see padis plan")
	}
	return apply(manifests)
}
