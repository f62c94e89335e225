package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/completion"
)

func newCompletionCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return completion.NewCmdCompletion(streams.Out, "")
}
