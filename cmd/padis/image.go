package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/v1alpha1"
)

const prepullExample = `  # Bring an image to all hosts that run instances, before it is needed
  padis image prepull registry.example.com/shop:1.5

  # To the hosts of two racks, with the credentials of a Secret
  padis image prepull registry.example.com/shop:1.5 --agents rack=r1 --agents rack=r2 --pull-secret registry -n shop`

// prepullManager owns the fields of the ImagePrepulls that this command makes.
const prepullManager = "padis-image"

type prepullOptions struct {
	agents, secrets []string
	keep, wait      bool
	timeout         time.Duration
}

func newImageCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Bring images to hosts",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var o prepullOptions
	prepull := &cobra.Command{
		Use:   "prepull IMAGE...",
		Short: "Pull images to hosts before they are needed",
		Long: "Pull images to the hosts that have an executor, before an App needs them. A host without any instance of Padis has none: " +
			"it pulls when its first instance starts.\n\n" + exitHelp,
		Example: prepullExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no image is named")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			object, err := o.object(args)
			if err != nil {
				return err
			}
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			return prepullImages(cmd.Context(), a, namespace, object, o, streams.Out)
		},
	}
	flags := prepull.Flags()
	flags.StringArrayVar(&o.agents, "agents", nil, "only agents with this ATTRIBUTE=VALUE; several are alternatives")
	flags.StringArrayVar(&o.secrets, "pull-secret", nil, "Secret of the namespace with the registry's credentials")
	flags.BoolVar(&o.keep, "keep", false, "leave the ImagePrepull in force: agents that come later pull, too")
	flags.BoolVar(&o.wait, "wait", true, "wait until the images are there and show how far it is")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long to wait")
	cmd.AddCommand(prepull)
	return cmd
}

// object is the ImagePrepull that the arguments ask for. The same arguments give the same name.
func (o prepullOptions) object(images []string) (map[string]any, error) {
	spec := map[string]any{"images": images}
	var agents, secrets []any
	for _, s := range o.agents {
		attribute, value, ok := strings.Cut(s, "=")
		if !ok || attribute == "" {
			return nil, usagef("--agents %q: write ATTRIBUTE=VALUE, for example rack=r1", s)
		}
		agents = append(agents, map[string]any{"attribute": attribute, "value": value})
	}
	for _, s := range o.secrets {
		secrets = append(secrets, map[string]any{"name": s})
	}
	if agents != nil {
		spec["agents"] = agents
	}
	if secrets != nil {
		spec["imagePullSecrets"] = secrets
	}
	sum := sha256.Sum256(fmt.Append(nil, images, o.agents, o.secrets))
	return map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "ImagePrepull",
		"metadata": map[string]any{"name": "prepull-" + hex.EncodeToString(sum[:5])}, "spec": spec,
	}, nil
}

func prepullImages(ctx context.Context, a reader, namespace string, object map[string]any, o prepullOptions, out io.Writer) error {
	path := declaredPath(namespace, "imageprepulls", object["metadata"].(map[string]any)["name"].(string))
	if err := a.declare(ctx, prepullManager, path, object); err != nil {
		return err
	}
	if !o.wait {
		fmt.Fprintf(out, "begun; see `padis get imageprepulls -n %s`\n", namespace)
		return nil
	}
	if err := awaitPrepull(ctx, a, path, o.timeout, out); err != nil || o.keep {
		return err
	}
	return a.remove(ctx, path)
}

func awaitPrepull(ctx context.Context, a reader, path string, timeout time.Duration, out io.Writer) error {
	said := ""
	return await(ctx, timeout, func() string { return said }, func(ctx context.Context) (bool, error) {
		var p v1alpha1.ImagePrepull
		if err := a.get(ctx, path, &p); err != nil {
			return false, err
		}
		if p.Status.ObservedGeneration != p.Generation {
			return false, nil
		}
		now := fmt.Sprintf("%d of %d there", p.Status.Present, p.Status.Wanted)
		for _, agent := range p.Status.Agents {
			if agent.Message != "" {
				now += fmt.Sprintf("\n  %s: %s", agent.Host, agent.Message)
			}
		}
		if now != said {
			fmt.Fprintln(out, now)
			said = now
		}
		return p.Status.Present >= p.Status.Wanted, nil
	})
}
