package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/annotate"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newAnnotateCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return annotate.NewCmdAnnotate("padis", f, streams)
}
