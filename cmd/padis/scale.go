package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/scale"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newScaleCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return scale.NewCmdScale(f, streams)
}
