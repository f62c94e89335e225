package main

import (
	"flag"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/cmd/options"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	utilcomp "k8s.io/kubectl/pkg/util/completion"
	"k8s.io/kubectl/pkg/util/templates"
)

const rootLong = `padis runs applications, each instance with its own routable address, on Apache Mesos.

Start everything on this machine with "padis up"; then "padis apply -f FILE", "padis get apps,instances".

` + exitHelp

func standardStreams() genericiooptions.IOStreams {
	return genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
}

// newRoot builds the command line. kubectl's commands are its own; the others are ours.
func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	root := &cobra.Command{
		Use:           "padis",
		Short:         "padis runs applications with routable addresses on Apache Mesos",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			rest.SetDefaultWarningHandler(rest.NewWarningWriter(streams.ErrOut, rest.WarningWriterOptions{Deduplicate: true, Color: colourful(streams.ErrOut)}))
		},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	addVerbosity(root)

	config := genericclioptions.NewConfigFlags(true).WithDiscoveryBurst(300).WithDiscoveryQPS(50)
	*config.KubeConfig = defaultKubeconfig(os.Getenv, fileExists)
	config.AddFlags(root.PersistentFlags())
	matching := cmdutil.NewMatchVersionFlags(config)
	f := cmdutil.NewFactory(matching)

	groups := templates.CommandGroups{
		{Message: "Applications:", Commands: []*cobra.Command{
			newPlanCommand(f, streams), newApplyCommand(f, streams), newGetCommand(f, streams), newDescribeCommand(f, streams), newScaleCommand(f, streams),
			newEditCommand(f, streams), newDiffCommand(f, streams), newRollbackCommand(f, streams), newDeleteCommand(f, streams), newWaitCommand(f, streams),
		}},
		{Message: "What is going on:", Commands: []*cobra.Command{
			newWhyCommand(f, streams), newLogsCommand(f, streams), newEventsCommand(f, streams), newTopCommand(f, streams),
			newIPCommand(f, streams), newLBCommand(f, streams), newAuditCommand(f, streams),
		}},
		{Message: "Inside instances:", Commands: []*cobra.Command{
			newExecCommand(f, streams), newCpCommand(f, streams), newPortForwardCommand(f, streams),
		}},
		{Message: "Running Padis:", Commands: []*cobra.Command{
			newUpCommand(streams), newOnCommand(), newSchedulerCommand(), newUpgradeCommand(f, streams), newImageCommand(f, streams),
		}},
		{Message: "More of the API:", Commands: []*cobra.Command{
			newCreateCommand(f, streams), newPatchCommand(f, streams), newLabelCommand(f, streams), newAnnotateCommand(f, streams),
			newExplainCommand(f, streams), newAPIResourcesCommand(f, streams), newAuthCommand(f, streams),
		}},
	}
	groups.Add(root)
	templates.ActsAsRootCommand(root, []string{"options"}, groups...)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newCompletionCommand(streams), newVersionCommand(f, streams), options.NewCmdOptions(streams.Out))
	utilcomp.SetFactoryForCompletion(f)
	sayPadis(root)
	return root
}

// addVerbosity gives the log of kubectl's packages its usual flag.
func addVerbosity(root *cobra.Command) {
	all := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(all)
	root.PersistentFlags().AddGoFlag(all.Lookup("v"))
}

// sayPadis puts our name into the texts of kubectl's commands.
func sayPadis(cmd *cobra.Command) {
	ours := strings.NewReplacer("kubectl ", "padis ", "kubectl\n", "padis\n")
	cmd.Example = ours.Replace(cmd.Example)
	cmd.Long = ours.Replace(cmd.Long)
	cmd.Use = ours.Replace(cmd.Use)
	for _, sub := range cmd.Commands() {
		sayPadis(sub)
	}
}
