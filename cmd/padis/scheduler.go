package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// newSchedulerCommand runs the control plane.
func newSchedulerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scheduler",
		Short: "Run the control plane",
		RunE:  func(*cobra.Command, []string) error { return errors.New("wired later") },
	}
}
