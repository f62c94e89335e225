package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/describe"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	kubedescribe "k8s.io/kubectl/pkg/describe"

	"padis.io/padis/api/v1alpha1"
)

// newDescribeCommand is kubectl's, with texts of our own for LoadBalancers, Syncs and GitSources.
func newDescribeCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := describe.NewCmdDescribe("padis", f, streams)
	flags := describe.NewDescribeFlags(f, streams)
	cmd.ResetFlags()
	flags.AddFlags(cmd)
	cmd.Run = func(cmd *cobra.Command, args []string) {
		o, err := flags.ToOptions("padis", args)
		cmdutil.CheckErr(err)
		theirs := o.Describer
		o.Describer = func(mapping *meta.RESTMapping) (kubedescribe.ResourceDescriber, error) {
			if mapping.Resource.Group == v1alpha1.GroupVersion.Group {
				switch mapping.Resource.Resource {
				case "loadbalancers":
					return balancerDescriber{cmd.Context(), f}, nil
				case "syncs":
					return gitDescriber{cmd.Context(), f, target{sync: true}}, nil
				case "gitsources":
					return gitDescriber{cmd.Context(), f, target{source: true}}, nil
				}
			}
			return theirs(mapping)
		}
		cmdutil.CheckErr(o.Validate())
		cmdutil.CheckErr(o.Run())
	}
	return cmd
}

// balancerDescriber describes LoadBalancers.
type balancerDescriber struct {
	ctx context.Context
	f   cmdutil.Factory
}

// Describe implements kubectl's interface.
func (d balancerDescriber) Describe(namespace, name string, settings kubedescribe.DescriberSettings) (string, error) {
	a, _, err := connect(d.f)
	if err != nil {
		return "", err
	}
	s, err := readBalancer(d.ctx, a, namespace, name)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = printBalancer(&b, s, settings.ShowEvents)
	return b.String(), err
}
