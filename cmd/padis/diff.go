package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/diff"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newDiffCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return diff.NewCmdDiff(f, streams)
}
