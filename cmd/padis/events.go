package main

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/events"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newEventsCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return events.NewCmdEvents(f, streams)
}
