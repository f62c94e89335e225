package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/wait"
)

func newWaitCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return wait.NewCmdWait(f, streams)
}
