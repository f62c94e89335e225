package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
)

const topExample = `  # What uses most
  padis top instances -A

  # Apps of a namespace, all their instances together
  padis top apps -n shop`

func newTopCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:       "top (instances | apps)",
		Short:     "Show what instances or Apps use",
		Long:      "Show what instances, or Apps with all their instances, use now. Those that use most CPU come first.\n\n" + exitHelp,
		Example:   topExample,
		ValidArgs: []string{"instances", "apps"},
		Args:      exactArguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apps := false
			switch args[0] {
			case "apps", "app":
				apps = true
			case "instances", "instance", "inst":
			default:
				return usagef("%q: use instances or apps", args[0])
			}
			a, namespace, err := connect(f)
			if err != nil {
				return err
			}
			if all {
				namespace = ""
			}
			return printTop(cmd.Context(), a, streams, namespace, apps)
		},
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "Those of all namespaces.")
	return cmd
}

func printTop(ctx context.Context, a reader, streams genericiooptions.IOStreams, namespace string, apps bool) error {
	var list runtime.UsageList
	if err := a.get(ctx, runtimePath(namespace, "usages"), &list); err != nil {
		return err
	}
	for _, host := range slices.Sorted(maps.Keys(list.Unreachable)) {
		fmt.Fprintf(streams.ErrOut, "host %s does not answer, its instances are missing: %s\n", host, list.Unreachable[host])
	}
	items := list.Items
	if apps {
		items = sumByApp(items)
	}
	slices.SortStableFunc(items, func(a, b runtime.Usage) int { return cmp.Compare(b.Status.CPUMilli, a.Status.CPUMilli) })
	w := tabwriter.NewWriter(streams.Out, 0, 8, 3, ' ', 0)
	if namespace == "" {
		fmt.Fprint(w, "NAMESPACE\t")
	}
	fmt.Fprintln(w, "NAME\tCPU\tMEMORY\tRECEIVED\tSENT\tREAD\tWRITTEN\tPROCESSES\tCONNECTIONS")
	for _, u := range items {
		if namespace == "" {
			fmt.Fprint(w, u.Namespace, "\t")
		}
		s := u.Status
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", u.Name, strconv.FormatFloat(float64(s.CPUMilli)/1000, 'f', -1, 64), live.Bytes(s.MemoryBytes),
			live.Bytes(s.RxBytes), live.Bytes(s.TxBytes), live.Bytes(s.ReadBytes), live.Bytes(s.WriteBytes), s.Processes, s.TCPEstablished)
	}
	return w.Flush()
}

// sumByApp adds up what the instances of each App use.
func sumByApp(items []runtime.Usage) []runtime.Usage {
	var out []runtime.Usage
	at := map[[2]string]int{}
	for _, u := range items {
		key := [2]string{u.Namespace, u.Status.App}
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, runtime.Usage{})
			out[i].Namespace, out[i].Name = key[0], key[1]
		}
		sum, s := &out[i].Status, u.Status
		sum.CPUMilli += s.CPUMilli
		sum.MemoryBytes += s.MemoryBytes
		sum.RxBytes += s.RxBytes
		sum.TxBytes += s.TxBytes
		sum.ReadBytes += s.ReadBytes
		sum.WriteBytes += s.WriteBytes
		sum.Processes += s.Processes
		sum.TCPEstablished += s.TCPEstablished
	}
	return out
}
