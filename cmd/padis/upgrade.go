package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/v1alpha1"
)

const upgradeExample = `  # After the scheduler was upgraded: bring all executors to its version, one host after the other
  padis upgrade executors

  # Faster, and without waiting for the end
  padis upgrade executors --max-parallel 10 --wait=false

  # Stop where it is, and go on later
  padis upgrade executors --pause
  padis upgrade executors --resume

  # Bring executors to the scheduler's version now and whenever it changes
  padis upgrade executors --keep`

// upgradeManager owns the fields of the ExecutorUpgrade that this command sets.
const upgradeManager = "padis-upgrade"

type upgradeOptions struct {
	maxParallel                          int32
	pause, resume, keep, wait, processes bool
	timeout                              time.Duration
}

func newUpgradeCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Upgrade parts of Padis while everything runs on",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var o upgradeOptions
	executors := &cobra.Command{
		Use:   "executors",
		Short: "Replace executors of an older version; their containers run on",
		Long: "Replace the executors that run an older version than the scheduler offers, host by host. Containers run on and are taken over " +
			"by the next executor. Executors that run plain processes are left alone, since these end with their executor, unless " +
			"--restart-processes is set.\n\n" + exitHelp,
		Example: upgradeExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.pause && o.resume {
				return usagef("--pause and --resume contradict each other: give one of them")
			}
			a, _, err := connect(f)
			if err != nil {
				return err
			}
			return upgradeExecutors(cmd.Context(), a, o, streams.Out)
		},
	}
	flags := executors.Flags()
	flags.Int32Var(&o.maxParallel, "max-parallel", 1, "hosts at the same time")
	flags.BoolVar(&o.pause, "pause", false, "replace no further executors")
	flags.BoolVar(&o.resume, "resume", false, "go on after --pause")
	flags.BoolVar(&o.keep, "keep", false, "leave the ExecutorUpgrade in force: later versions follow by themselves")
	flags.BoolVar(&o.processes, "restart-processes", false, "also executors that run plain processes, which then start again")
	flags.BoolVar(&o.wait, "wait", true, "wait for the end and show how far it is")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Minute, "how long to wait")
	cmd.AddCommand(executors)
	return cmd
}

func upgradeExecutors(ctx context.Context, a reader, o upgradeOptions, out io.Writer) error {
	path := declaredPath("", "executorupgrades", v1alpha1.UpgradeName)
	var before v1alpha1.ExecutorUpgrade
	err := a.get(ctx, path, &before)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	// Who declared it, by hand or from git, keeps it.
	remove := !o.keep && (err != nil || onlyBy(before.ManagedFields, upgradeManager))
	spec := map[string]any{"paused": o.pause, "maxParallel": o.maxParallel, "restartProcesses": o.processes}
	if err := a.declare(ctx, upgradeManager, path, map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ExecutorUpgrade",
		"metadata": map[string]any{"name": v1alpha1.UpgradeName}, "spec": spec,
	}); err != nil {
		return err
	}
	if o.pause {
		fmt.Fprintln(out, "paused; what was begun is finished")
		return nil
	}
	if !o.wait {
		fmt.Fprintf(out, "begun; see `padis get executorupgrade %s`\n", v1alpha1.UpgradeName)
		return nil
	}
	if err := awaitUpgrade(ctx, a, path, o.timeout, out); err != nil || !remove {
		return err
	}
	return a.remove(ctx, path)
}

func awaitUpgrade(ctx context.Context, a reader, path string, timeout time.Duration, out io.Writer) error {
	said := ""
	return await(ctx, timeout, func() string { return said }, func(ctx context.Context) (bool, error) {
		var u v1alpha1.ExecutorUpgrade
		if err := a.get(ctx, path, &u); err != nil {
			return false, err
		}
		if u.Status.ObservedGeneration != u.Generation {
			return false, nil
		}
		now := fmt.Sprintf("%d of %d executors up to date", u.Status.Updated, u.Status.Total)
		if u.Status.Upgrading > 0 {
			now += fmt.Sprintf(", %d being replaced", u.Status.Upgrading)
		}
		if u.Status.Skipped > 0 {
			now += fmt.Sprintf(", %d left alone because they run plain processes", u.Status.Skipped)
		}
		if c := meta.FindStatusCondition(u.Status.Conditions, v1alpha1.ConditionProgressing); c != nil && c.Message != "" {
			now += ": " + c.Message
		}
		if now != said {
			fmt.Fprintln(out, now)
			said = now
		}
		return u.Status.Upgrading == 0 && u.Status.Updated+u.Status.Skipped >= u.Status.Total, nil
	})
}
