package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/create"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// newCreateCommand is kubectl's create without the kinds that only Kubernetes has.
func newCreateCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := create.NewCmdCreate(f, streams)
	keepCommands(cmd, "namespace", "configmap", "secret", "serviceaccount", "token", "role", "rolebinding", "clusterrole", "clusterrolebinding")
	return cmd
}

// keepCommands removes all sub-commands but those named.
func keepCommands(cmd *cobra.Command, names ...string) {
	keep := map[string]bool{}
	for _, name := range names {
		keep[name] = true
	}
	for _, sub := range cmd.Commands() {
		if !keep[sub.Name()] {
			cmd.RemoveCommand(sub)
		}
	}
}
