package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newAPIResourcesCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return apiresources.NewCmdAPIResources(f, streams)
}
