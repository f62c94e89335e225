package main

import (
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
