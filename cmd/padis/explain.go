package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/explain"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newExplainCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return explain.NewCmdExplain("padis", f, streams)
}
