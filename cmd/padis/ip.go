package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	utilcomp "k8s.io/kubectl/pkg/util/completion"

	"padis.io/padis/api/v1alpha1"
)

const (
	ipListExample = `  # All addresses that are held, rest, are reserved, or are used by others
  padis ip list

  # Five addresses of the pool shop that nobody has, to give them to an App as fixed ones
  padis ip list --pool shop --free 5`

	ipReserveExample = `  # Keep an address of the pool shop for a load balancer
  padis ip reserve shop 10.44.1.100 --comment "load balancer"

  # Keep a range
  padis ip reserve shop 10.44.2.1-10.44.2.20`

	ipReleaseExample = `  # Let the pool shop hand the address out again
  padis ip release shop 10.44.1.100`

	ipShowExample = `  # Who has this address?
  padis ip show 10.44.1.7`
)

const (
	// ipManager owns the fields of the IPPools that these commands change.
	ipManager = "padis-ip"
	// patchAttempts bounds how often a change is made anew because somebody else changed the pool at the same time.
	patchAttempts = 5
)

func newIPCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ip",
		Short: "Show and reserve addresses of pools",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newIPListCommand(f, streams), newIPShowCommand(f, streams), newIPReserveCommand(f, streams), newIPReleaseCommand(f, streams))
	return cmd
}

func newIPListCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	pool, free := "", 0
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List addresses and who has them",
		Long:    "List the addresses of pools that are held, rest, are reserved or set aside, or are used by others; or some that are free.\n\n" + exitHelp,
		Example: ipListExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch changed := cmd.Flags().Changed("free"); {
			case changed && free < 1:
				return usagef("--free %d: ask for at least 1 address", free)
			case changed && pool == "":
				return usagef("--free needs --pool: say of which pool")
			}
			known, err := readAddresses(cmd.Context(), f)
			if err != nil {
				return err
			}
			if pool != "" {
				if err := known.only(pool); err != nil {
					return err
				}
			}
			if free > 0 {
				return printFree(streams.Out, known, free)
			}
			return printAddresses(streams.Out, known, time.Now())
		},
	}
	cmd.Flags().StringVar(&pool, "pool", "", "only this IPPool")
	cmd.Flags().IntVar(&free, "free", 0, "print up to so many addresses of --pool that nobody has, one to a line")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("pool", utilcomp.ResourceNameCompletionFunc(f, "ippools")))
	return cmd
}

func newIPShowCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:               "show ADDRESS",
		Short:             "Show everything that is known of an address",
		Long:              "Show the pool of an address, who has it and where, who wants it, and who else uses it.\n\n" + exitHelp,
		Example:           ipShowExample,
		Args:              exactArguments(1),
		ValidArgsFunction: utilcomp.ResourceNameCompletionFunc(f, "addresses"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := v1alpha1.ParseAddress(args[0])
			if err != nil {
				return usageError{err}
			}
			known, err := readAddresses(cmd.Context(), f)
			if err != nil {
				return err
			}
			return printStanding(streams.Out, known, a, time.Now())
		},
	}
}

func newIPReserveCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	comment := ""
	cmd := &cobra.Command{
		Use:   "reserve POOL (ADDRESS | FROM-TO)",
		Short: "Keep addresses of a pool from being handed out",
		Long: "Add an address or a range to spec.reserved of an IPPool, so that no instance is given it. Addresses that an instance has, or " +
			"that an App asks for, are refused.\n\n" + exitHelp,
		Example:           ipReserveExample,
		Args:              exactArguments(2),
		ValidArgsFunction: utilcomp.ResourceNameCompletionFunc(f, "ippools"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeReserved(cmd.Context(), f, args, streams.Out, func(known *addresses, p *v1alpha1.IPPool, r v1alpha1.AddressRange) (string, bool, error) {
				return reserve(known, p, r, comment)
			})
		},
	}
	cmd.Flags().StringVar(&comment, "comment", "", "what it is for, for people")
	return cmd
}

func newIPReleaseCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:   "release POOL (ADDRESS | FROM-TO)",
		Short: "Let a pool hand out addresses that were reserved",
		Long: "Take an address or a range out of spec.reserved of an IPPool. An address that an instance has is not freed by this: scale the App in, " +
			"or delete it.\n\n" + exitHelp,
		Example:           ipReleaseExample,
		Args:              exactArguments(2),
		ValidArgsFunction: utilcomp.ResourceNameCompletionFunc(f, "ippools"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeReserved(cmd.Context(), f, args, streams.Out, release)
		},
	}
}

// reserve adds the range to the pool; the text says what was done, and changed whether that is anything.
func reserve(known *addresses, p *v1alpha1.IPPool, r v1alpha1.AddressRange, comment string) (text string, changed bool, err error) {
	r.Comment = comment
	holders := known.holders(p, r)
	if !p.Spec.Reserve(r) {
		return fmt.Sprintf("%s is reserved already%s", r, keptBy(holders)), false, nil
	}
	var given []string
	for _, h := range holders {
		// Who has an address that the pool does not give anyway loses nothing.
		if reason, _ := known.pool(p.Name).Refusal(h.address); reason == "" {
			given = append(given, h.String())
		}
	}
	if len(given) > 0 {
		return "", false, fmt.Errorf("%s cannot be reserved: %s; scale the App in, delete it, or take the address out of its spec.networks first", r, strings.Join(given, ", "))
	}
	return fmt.Sprintf("%s is reserved%s", r, keptBy(holders)), true, nil
}

// release takes the range out of what is reserved.
func release(known *addresses, p *v1alpha1.IPPool, r v1alpha1.AddressRange) (text string, changed bool, err error) {
	holders := known.holders(p, r)
	if p.Spec.Unreserve(r) {
		return fmt.Sprintf("%s is not reserved any more%s", r, keptBy(holders)), true, nil
	}
	if len(holders) > 0 {
		return "", false, fmt.Errorf("%s is not reserved in pool %s: %s; an address that an instance has is free when its App is scaled in or deleted", r, p.Name, joined(holders))
	}
	return "", false, fmt.Errorf("%s is not reserved in pool %s; `padis ip list --pool %s` shows what is", r, p.Name, p.Name)
}

func keptBy(holders []holder) string {
	if len(holders) == 0 {
		return ""
	}
	return "; nothing changes for who has it: " + joined(holders)
}

// changeReserved changes spec.reserved of the pool in args, again if somebody else changed the pool at the same time.
func changeReserved(ctx context.Context, f cmdutil.Factory, args []string, out io.Writer, change func(*addresses, *v1alpha1.IPPool, v1alpha1.AddressRange) (string, bool, error)) error {
	r, err := v1alpha1.ParseRange(args[1])
	if err != nil {
		return usageError{err}
	}
	for attempt := 1; ; attempt++ {
		known, err := readAddresses(ctx, f)
		if err != nil {
			return err
		}
		if err := known.only(args[0]); err != nil {
			return err
		}
		p := known.pools[0].DeepCopy()
		if from := netip.MustParseAddr(r.From); !p.Contains(from) {
			return fmt.Errorf("%s is not within %s of pool %s: name the pool that it is of; `padis ip show %s` tells", r, p.Spec.CIDR, p.Name, r.From)
		}
		text, changed, err := change(known, p, r)
		if err == nil && changed {
			err = patchReserved(ctx, known.api, p)
		}
		switch {
		case apierrors.IsConflict(err) && attempt < patchAttempts:
			continue
		case err != nil:
			return err
		}
		fmt.Fprintf(out, "ippool/%s: %s\n", p.Name, text)
		return nil
	}
}

// patchReserved replaces spec.reserved, unless the pool was changed since it was read.
func patchReserved(ctx context.Context, a reader, p *v1alpha1.IPPool) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": p.ResourceVersion},
		"spec":     map[string]any{"reserved": p.Spec.Reserved},
	})
	if err != nil {
		return err
	}
	return a.client.Patch(types.MergePatchType).AbsPath(declaredPath("", "ippools", p.Name)).Param("fieldManager", ipManager).Body(body).Do(ctx).Error()
}
