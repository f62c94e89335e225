package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/edit"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newEditCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return edit.NewCmdEdit(f, streams)
}
