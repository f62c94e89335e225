package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/cmd/padis/version"
)

const versionExample = `  # The version of this program
  padis version

  # and that of the API server
  padis version --server`

// versions is what `padis version -o json` prints.
type versions struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Server is the version of the API machinery that the server tells.
	Server string `json:"server,omitempty"`
}

func newVersionCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var askServer bool
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of padis",
		Long:    "Print the version of padis; with --server that of the API server, too.\n\n" + exitHelp,
		Example: versionExample,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			v := versions{Version: version.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if askServer {
				discovery, err := f.ToDiscoveryClient()
				if err != nil {
					return err
				}
				info, err := discovery.ServerVersion()
				if err != nil {
					return fmt.Errorf("ask the server: %w", err)
				}
				v.Server = info.GitVersion
			}
			return printVersion(streams, output, v)
		},
	}
	cmd.Flags().BoolVar(&askServer, "server", false, "Ask the API server for its version.")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Print as json.")
	return cmd
}

func printVersion(streams genericiooptions.IOStreams, output string, v versions) error {
	switch output {
	case "json":
		encoder := json.NewEncoder(streams.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(v)
	case "":
		if _, err := fmt.Fprintf(streams.Out, "padis %s (%s, %s)\n", v.Version, v.Go, v.Platform); err != nil {
			return err
		}
		if v.Server != "" {
			_, err := fmt.Fprintf(streams.Out, "server %s\n", v.Server)
			return err
		}
		return nil
	default:
		return usagef("output %q: only json is known", output)
	}
}
