package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/plan"
)

const (
	planLong = `Say what would happen if manifests were applied, and change nothing: what of each object would change or be refused, which
instances would be started, replaced, moved or stopped, on which hosts and why, in which batches, which addresses would be
leased or given back, and what would wait and for what.

The very code that acts decides it, on what is declared and running now. Only what you may apply can be planned. Contents of
Secrets are shown as digests only; the file of --out holds them as they are given, and is for its owner only.`

	planExit = `Exit status:
  0  nothing would happen
  1  an error, or something would be refused
  2  something would happen`

	planExample = `  # What would happen if I applied this?
  padis plan -f shop.yaml

  # Look at it, have it looked at, then apply just that, or be told what has changed since
  padis plan -f shop.yaml --out plan.json
  padis apply --plan plan.json

  # All manifests of a directory and those below it, for a program
  padis plan -f manifests/ -R -o json`

	// planTries is how often it is asked anew while objects keep changing.
	planTries = 4
)

// outcome is an exit status that needs no message.
type outcome int

func (o outcome) Error() string { return fmt.Sprintf("exit status %d", int(o)) }

func newPlanCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var files resource.FilenameOptions
	var file, output string
	cmd := &cobra.Command{
		Use:     "plan -f FILENAME",
		Short:   "Say what would happen if manifests were applied",
		Long:    planLong + "\n\n" + planExit,
		Example: planExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := files.RequireFilenameOrKustomize(); err != nil {
				return usageError{err}
			}
			if output != "" && output != "json" {
				return usagef("--output %q: use json, or leave it away", output)
			}
			local, err := readManifests(f, &files)
			if err != nil {
				return err
			}
			p, err := makePlan(cmd.Context(), f, local, streams)
			if err != nil {
				return err
			}
			if err := showPlan(streams.Out, p, output); err != nil {
				return err
			}
			if file != "" && !p.Refused() {
				p.Manifests = local.manifests()
				if err := writePlan(file, p); err != nil {
					return err
				}
			}
			if code := p.ExitCode(); code != exitOK {
				return outcome(code)
			}
			return nil
		},
	}
	cmdutil.AddFilenameOptionFlags(cmd, &files, "that contain the manifests.")
	cmd.Flags().StringVar(&file, "out", "", "File to write the plan to, for padis apply --plan; not if something would be refused.")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Output format: json, or nothing for people.")
	return cmd
}

// makePlan asks what would happen. Objects that change in between are looked at again.
func makePlan(ctx context.Context, f cmdutil.Factory, local manifests, streams genericiooptions.IOStreams) (*plan.Plan, error) {
	a, _, err := connect(f)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		proposals, err := propose(f, local, streams)
		if err != nil {
			return nil, err
		}
		p, err := askPlan(ctx, a, proposals)
		if n < planTries && apierrors.IsConflict(err) {
			continue
		}
		return p, err
	}
}

func askPlan(ctx context.Context, a reader, proposals []plan.Proposal) (*plan.Plan, error) {
	body, err := plan.EncodeQuestion(proposals)
	if err != nil {
		return nil, err
	}
	result := a.client.Post().AbsPath("/plan").SetHeader("Content-Type", "application/json").Body(body).Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	answer, err := result.Raw()
	if err != nil {
		return nil, err
	}
	return plan.Decode(answer)
}

func showPlan(out io.Writer, p *plan.Plan, output string) error {
	if output == "" {
		_, err := io.WriteString(out, plan.Text(p))
		return err
	}
	b, err := plan.Encode(p)
	if err == nil {
		_, err = out.Write(b)
	}
	return err
}

// writePlan replaces a file at once, readable by its owner only: there may be Secrets in it.
func writePlan(path string, p *plan.Plan) error {
	b, err := plan.Encode(p)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // It is gone if all went well.
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}

// readPlan reads what writePlan wrote.
func readPlan(path string) (*plan.Plan, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--plan: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, plan.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("--plan: %w", err)
	}
	p, err := plan.Decode(b)
	if err == nil && len(p.Manifests) == 0 {
		err = errors.New("plan: there are no manifests in it: give the file that padis plan --out wrote")
	}
	if err != nil {
		return nil, fmt.Errorf("--plan %s: %w", path, err)
	}
	return p, nil
}

// asList is a List of manifests, as padis apply reads it.
func asList(all []json.RawMessage) ([]byte, error) {
	return json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": all})
}
