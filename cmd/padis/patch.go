package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/patch"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newPatchCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return patch.NewCmdPatch(f, streams)
}
