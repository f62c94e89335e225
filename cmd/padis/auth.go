package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/auth"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// newAuthCommand is kubectl's auth.
func newAuthCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return auth.NewCmdAuth(f, streams)
}
