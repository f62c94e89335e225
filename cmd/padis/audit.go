package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/server/audit/change"
)

const auditExample = `  # Who changed the App web, when, and what of it?
  padis audit app/web -n shop

  # All changes of the last hour; those of Secrets; those of one user
  padis audit --since 1h
  padis audit --kind secret
  padis audit --actor alice

  # The same for a program
  padis audit app/web -o json`

// auditLine is the longest line that the server sends.
const auditLine = 1 << 20

type auditOptions struct {
	since                     time.Duration
	kind, name, actor, output string
}

func newAuditCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "audit [KIND/NAME]",
		Short: "Say who changed what, when, and at whose word",
		Long: "Say who changed what is declared, when, from what to what; of changes that a Sync made, also the commit, its author and its " +
			"signer. Requests that were refused are shown with what was asked for. Contents of Secrets are never shown.\n\n" +
			"Each server has a log of its own; the one that is asked tells what went through it.\n\n" + exitHelp,
		Example: auditExample,
		Args:    betweenArguments(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := o.query(f, args, time.Now())
			if err != nil {
				return err
			}
			a, _, err := connect(f)
			if err != nil {
				return err
			}
			return showAudit(cmd.Context(), a, q, o.output, streams.Out)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.since, "since", 0, "only changes of this long ago or less, for example 90m")
	flags.StringVar(&o.kind, "kind", "", "only changes of this kind")
	flags.StringVar(&o.name, "name", "", "only changes of objects of this name")
	flags.StringVar(&o.actor, "actor", "", "only changes by this user, or by somebody who impersonated him")
	flags.StringVarP(&o.output, "output", "o", "", "json: a JSON object for each line")
	return cmd
}

// query is what the command line asks for. Without a namespace of its own, only a question for one object is about the
// current one.
func (o auditOptions) query(f cmdutil.Factory, args []string, now time.Time) (change.Query, error) {
	q := change.Query{Name: o.name, Actor: o.actor}
	kind := o.kind
	if len(args) > 0 {
		words := strings.Split(strings.Join(args, "/"), "/")
		if len(words) != 2 || words[0] == "" || words[1] == "" {
			return q, usagef("%q is no KIND/NAME, for example app/web", strings.Join(args, " "))
		}
		if o.kind != "" || o.name != "" {
			return q, usagef("%s says it all: leave --kind and --name away", strings.Join(args, "/"))
		}
		kind, q.Name = words[0], words[1]
	}
	switch {
	case o.since < 0:
		return q, usagef("--since %s: give a time that is past as a positive duration", o.since)
	case o.since > 0:
		q.Since = now.Add(-o.since)
	}
	if o.output != "" && o.output != "json" {
		return q, usagef("--output %q: use json, or leave it away", o.output)
	}
	namespace, given, err := f.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return q, err
	}
	if given {
		q.Namespace = namespace
	}
	if kind == "" {
		return q, nil
	}
	resource, namespaced, err := resourceOf(f, kind)
	if err != nil {
		return q, err
	}
	q.Resource = resource
	switch {
	case !namespaced:
		q.Namespace = ""
	case len(args) > 0:
		q.Namespace = namespace
	}
	return q, nil
}

// resourceOf finds what a kind is called in the API, also by its short name.
func resourceOf(f cmdutil.Factory, kind string) (resource string, namespaced bool, err error) {
	mapper, err := f.ToRESTMapper()
	if err != nil {
		return "", false, err
	}
	gvr, err := mapper.ResourceFor(schema.ParseGroupResource(strings.ToLower(kind)).WithVersion(""))
	if err != nil {
		return "", false, err
	}
	gvk, err := mapper.KindFor(gvr)
	if err != nil {
		return "", false, err
	}
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return "", false, err
	}
	return gvr.GroupResource().String(), mapping.Scope.Name() == meta.RESTScopeNameNamespace, nil
}

func showAudit(ctx context.Context, a reader, q change.Query, output string, out io.Writer) error {
	query := map[string]string{}
	for name, values := range q.Values() {
		query[name] = values[0]
	}
	answer, err := a.stream(ctx, "/audit", query)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	lines := bufio.NewScanner(answer)
	lines.Buffer(make([]byte, 64<<10), auditLine)
	for lines.Scan() {
		if output == "json" {
			if _, err := fmt.Fprintf(out, "%s\n", lines.Bytes()); err != nil {
				return err
			}
			continue
		}
		l, ok := change.Parse(lines.Bytes())
		if !ok {
			return fmt.Errorf("the server sent what is no line of its audit log: %.100q: is it of another version?", lines.Bytes())
		}
		if _, err := io.WriteString(out, auditText(l)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// auditText is a line for people. All that users may have chosen is quoted where it could be taken for something else.
func auditText(l change.Line) string {
	var b bytes.Buffer
	at := l.Time.UTC().Format(time.RFC3339)
	if l.Event == change.Lost {
		fmt.Fprintf(&b, "%s  %d lines before this one could not be written\n", at, l.Missing)
		return b.String()
	}
	what := l.Resource
	if l.Subresource != "" {
		what += "/" + l.Subresource
	}
	if l.Name != "" {
		what += " " + plain(l.Name)
	}
	if l.Namespace != "" {
		what += " in " + plain(l.Namespace)
	}
	fmt.Fprintf(&b, "%s  %s  %s  by %s", at, l.Verb, what, plain(l.User))
	if l.As != "" {
		fmt.Fprintf(&b, " as %s", plain(l.As))
	}
	if l.Manager != "" {
		fmt.Fprintf(&b, " with %s", plain(l.Manager))
	}
	if l.Code >= 400 {
		fmt.Fprintf(&b, "  refused: %d %s", l.Code, plain(l.Message))
	}
	b.WriteByte('\n')
	if l.Commit != "" {
		fmt.Fprintf(&b, "    commit %s", plain(l.Commit))
		if l.Author != "" {
			fmt.Fprintf(&b, "  author %s", plain(l.Author))
		}
		if l.Signer != "" {
			fmt.Fprintf(&b, "  signer %s", plain(l.Signer))
		}
		b.WriteByte('\n')
	}
	for _, f := range l.Fields {
		switch {
		case f.Before == nil:
			fmt.Fprintf(&b, "    %s: set to %s\n", plain(f.Path), f.After)
		case f.After == nil:
			fmt.Fprintf(&b, "    %s: removed, was %s\n", plain(f.Path), f.Before)
		default:
			fmt.Fprintf(&b, "    %s: %s -> %s\n", plain(f.Path), f.Before, f.After)
		}
	}
	if l.Omitted > 0 {
		fmt.Fprintf(&b, "    and %d more fields\n", l.Omitted)
	}
	return b.String()
}

// plain keeps control characters away from terminals.
func plain(s string) string {
	for _, c := range s {
		if !strconv.IsPrint(c) {
			return strconv.Quote(s)
		}
	}
	return s
}
