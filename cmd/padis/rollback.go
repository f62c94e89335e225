package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// conflictTries is how often something is looked at and changed anew while others change it.
const conflictTries = 10

func newRollbackCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Go back to an earlier commit of a Sync, or to what an App was",
		Long: "Go back to an earlier commit of a Sync, or to what an App was. The repository stays as it is: a commit that says something else ends it, " +
			"as far as it says something else.\n\n" + exitHelp,
		Example: rollbackSyncExample + "\n\n" + rollbackAppExample,
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRollbackSyncCommand(f, streams), newRollbackAppCommand(f, streams))
	return cmd
}

// rollback is what goes back with the flags that were given.
type rollback interface {
	// check says which flags do not go together.
	check() error
	run(ctx context.Context, a reader, namespace, name string, out io.Writer) error
}

// rollbackOf is a command that has one object go back.
func rollbackOf(f cmdutil.Factory, streams genericiooptions.IOStreams, o rollback) *cobra.Command {
	return &cobra.Command{
		Args: exactArguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), a, namespace, args[0], streams.Out)
		},
	}
}
