package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/apply"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newApplyCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return apply.NewCmdApply("padis", f, streams)
}
