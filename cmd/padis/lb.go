package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	utilcomp "k8s.io/kubectl/pkg/util/completion"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/api/why"
)

const (
	lbShowExample = `  # VIPs, routers, directors and real servers of the LoadBalancer web
  padis lb show web -n shop`

	lbTraceExample = `  # Which instance has the connection from port 51234 of this client?
  padis lb trace 198.51.100.7:51234 192.0.2.10:443

  # Where would its next connections go?
  padis lb trace 198.51.100.7 192.0.2.10:443

  # The same of a UDP flow, of a LoadBalancer that is named
  padis lb trace 198.51.100.7:5353 192.0.2.10:53 dns -n shop --udp`
)

func newLBCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lb",
		Short: "Look into load balancers",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLBShowCommand(f, streams), newLBTraceCommand(f, streams))
	return cmd
}

func newLBShowCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show VIPs, routers, directors and real servers of a LoadBalancer",
		Long: "Show who announces which VIP to which router, which directors have which tables in force, and which real servers are in " +
			"rotation, with what share, or why not. `padis describe lb NAME` shows the events, too.\n\n" + exitHelp,
		Example:           lbShowExample,
		Args:              exactArguments(1),
		ValidArgsFunction: utilcomp.ResourceNameCompletionFunc(f, "loadbalancers"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			s, err := readBalancer(cmd.Context(), a, namespace, args[0])
			if err != nil {
				return err
			}
			return printBalancer(streams.Out, s, false)
		},
	}
}

func newLBTraceCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	udp := false
	cmd := &cobra.Command{
		Use:   "trace CLIENT[:PORT] VIP:PORT [NAME]",
		Short: "Say which real server a flow goes to",
		Long: "Say which real server a flow goes to, who had its slot before (an earlier connection may still be theirs), and which directors " +
			"take it. The LoadBalancer is that which has the VIP, unless it is named. Without the client's port some are tried. The answer " +
			"is that of the tables by which directors and hosts forward; round robin and least connection have none.\n\n" +
			exitHelp + "\nIt is an error if nobody takes the flow.",
		Example: lbTraceExample,
		Args:    betweenArguments(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := parseTrace(args, udp)
			if err != nil {
				return err
			}
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			if q.name == "" && !cmd.Flags().Changed("namespace") {
				namespace = ""
			}
			return traceFlow(cmd.Context(), a, namespace, q, streams.Out)
		},
	}
	cmd.Flags().BoolVar(&udp, "udp", false, "The flow is of UDP, not of TCP.")
	return cmd
}

// betweenArguments is cobra's check with our class of error.
func betweenArguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.RangeArgs(least, most)(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// readBalancer reads what there is to know of a LoadBalancer.
func readBalancer(ctx context.Context, a reader, namespace, name string) (why.BalanceSnapshot, error) {
	s := why.BalanceSnapshot{Now: time.Now(), LoadBalancer: &v1alpha1.LoadBalancer{}}
	if err := a.get(ctx, declaredPath(namespace, "loadbalancers", name), s.LoadBalancer); err != nil {
		return s, err
	}
	var balance runtime.BalanceObject
	err := a.get(ctx, runtimePath(namespace, "balances", name), &balance)
	switch {
	case err == nil:
		s.Balance = &balance.Status
		s.Balance.Namespace, s.Balance.Name = namespace, name
	case apierrors.IsNotFound(err):
	case apierrors.IsServiceUnavailable(err):
		s.Unknown = err.Error()
	default:
		return s, err
	}
	directors := directorsOf(name)
	if s.Directors, err = a.instancesOf(ctx, namespace, directors); err != nil {
		return s, err
	}
	s.Events, err = eventsOf(ctx, a, namespace, []string{"LoadBalancer/" + name}, s.Directors)
	return s, err
}

// directorsOf is the App name of the directors of a LoadBalancer.
func directorsOf(name string) string { return name + "-director" }

// balanceWith finds the LoadBalancer that has a VIP.
func balanceWith(ctx context.Context, a reader, namespace string, q traceQuestion) (runtime.BalanceObject, error) {
	if q.name != "" {
		var one runtime.BalanceObject
		err := a.get(ctx, runtimePath(namespace, "balances", q.name), &one)
		return one, err
	}
	var list runtime.BalanceObjectList
	if err := a.get(ctx, runtimePath(namespace, "balances"), &list); err != nil {
		return runtime.BalanceObject{}, err
	}
	want := q.vip.Addr().String()
	for _, o := range list.Items {
		if slices.ContainsFunc(o.Status.VIPs, func(v runtime.BalanceVIP) bool { return v.Address == want }) {
			return o, nil
		}
	}
	where := ""
	if namespace != "" {
		where = " of namespace " + namespace
	}
	return runtime.BalanceObject{}, fmt.Errorf("no LoadBalancer%s has the VIP %s; `padis get lb -A` lists them", where, want)
}

// traceFlow asks for the way of a flow, or of some of a client, and prints it.
func traceFlow(ctx context.Context, a reader, namespace string, q traceQuestion, out io.Writer) error {
	b, err := balanceWith(ctx, a, namespace, q)
	if err != nil {
		return err
	}
	var traces []flowTrace
	for _, client := range q.clients() {
		var answer runtime.TraceObject
		err := a.get(ctx, runtimePath(b.Namespace, "balances", b.Name, "trace"), &answer, "client", client.String(), "vip", q.vip.String(), "protocol", q.protocol)
		if err != nil {
			return err
		}
		traces = append(traces, flowTrace{client, answer.Status})
	}
	if err := printTraces(out, b, q, traces); err != nil {
		return err
	}
	if refusal := traces[0].Refusal; refusal != "" {
		return errors.New("nobody takes the flow: " + refusal)
	}
	return nil
}
