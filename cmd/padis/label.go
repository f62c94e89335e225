package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/label"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newLabelCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return label.NewCmdLabel(f, streams)
}
