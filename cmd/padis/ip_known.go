package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// addresses is all that is known of addresses.
type addresses struct {
	api   reader
	pools []v1alpha1.IPPool
	// shown are those that are held, rest, or are used by others, by their value.
	shown map[netip.Addr]runtime.Address
	// wanted are those that Apps ask for by name, and loopback those that they have on their loopback.
	wanted, loopback map[netip.Addr]string
}

func readAddresses(ctx context.Context, f cmdutil.Factory) (*addresses, error) {
	a, _, err := connect(f)
	if err != nil {
		return nil, err
	}
	var (
		pools v1alpha1.IPPoolList
		apps  v1alpha1.AppList
		list  runtime.AddressList
	)
	if err := a.get(ctx, declaredPath("", "ippools"), &pools); err != nil {
		return nil, err
	}
	if err := a.get(ctx, declaredPath("", "apps"), &apps); err != nil {
		return nil, err
	}
	if err := a.get(ctx, runtimePath("", "addresses"), &list); err != nil {
		return nil, err
	}
	known := knownAddresses(pools.Items, apps.Items, list.Items)
	known.api = a
	return known, nil
}

func knownAddresses(pools []v1alpha1.IPPool, apps []v1alpha1.App, list []runtime.Address) *addresses {
	known := &addresses{pools: pools, shown: map[netip.Addr]runtime.Address{}, wanted: map[netip.Addr]string{}, loopback: map[netip.Addr]string{}}
	slices.SortFunc(known.pools, func(a, b v1alpha1.IPPool) int { return cmp.Compare(a.Name, b.Name) })
	for _, x := range list {
		if a, err := v1alpha1.ParseAddress(x.Status.Address); err == nil {
			known.shown[a] = x
		}
	}
	for i := range apps {
		app := &apps[i]
		for _, fixed := range v1alpha1.FixedAddresses(app) {
			if a, err := v1alpha1.ParseAddress(fixed.Address); err == nil {
				known.wanted[a] = fmt.Sprintf("%s/%s-%d", app.Namespace, app.Name, fixed.Slot)
			}
		}
		for _, text := range app.Spec.LoopbackAddresses {
			if a, err := v1alpha1.ParseAddress(text); err == nil {
				known.loopback[a] = strings.TrimPrefix(known.loopback[a]+", "+app.Namespace+"/"+app.Name, ", ")
			}
		}
	}
	return known
}

// only leaves out all pools but one.
func (k *addresses) only(pool string) error {
	p := k.pool(pool)
	if p == nil {
		return fmt.Errorf("there is no IPPool %q: `padis get ippools` lists them", pool)
	}
	k.pools = []v1alpha1.IPPool{*p}
	return nil
}

func (k *addresses) pool(name string) *v1alpha1.IPPool {
	for i := range k.pools {
		if k.pools[i].Name == name {
			return &k.pools[i]
		}
	}
	return nil
}

// holder is who has an address, or asks for it.
type holder struct {
	address netip.Addr
	text    string
}

func (h holder) String() string { return h.address.String() + " " + h.text }

func joined(holders []holder) string {
	var parts []string
	for _, h := range holders {
		parts = append(parts, h.String())
	}
	return strings.Join(parts, ", ")
}

// holders lists who has, or asks for, addresses of a range of a pool.
func (k *addresses) holders(p *v1alpha1.IPPool, r v1alpha1.AddressRange) []holder {
	var out []holder
	for a, x := range k.shown {
		if r.Has(a) && x.Status.Pool == p.Name && x.Status.Held() {
			text := "is held by " + x.Status.Namespace + "/" + x.Status.Instance
			if x.Status.Host != "" {
				text += " on " + x.Status.Host
			}
			out = append(out, holder{a, text})
		}
	}
	for a, who := range k.wanted {
		if x, ok := k.shown[a]; r.Has(a) && p.Contains(a) && (!ok || !x.Status.Held()) {
			out = append(out, holder{a, "is set aside for " + who})
		}
	}
	slices.SortFunc(out, func(a, b holder) int { return a.address.Compare(b.address) })
	return out
}

// States of addresses that the API does not show one by one.
const (
	stateReserved = "Reserved"
	stateAside    = "SetAside"
	stateFree     = "Free"
	stateNone     = "NotHandedOut"
)

// row is one address, or one range that is reserved.
type row struct {
	from                            netip.Addr
	text, state, holder, host, note string
	since                           string
}

func printAddresses(out io.Writer, known *addresses, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "POOL\tADDRESS\tSTATE\tINSTANCE\tHOST\tSINCE\tNOTE")
	for i := range known.pools {
		p := &known.pools[i]
		for _, r := range known.rows(p, now) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, r.text, r.state, dash(r.holder), dash(r.host), dash(r.since), r.note)
		}
	}
	return w.Flush()
}

// rows lists what there is to say of a pool, by address.
func (k *addresses) rows(p *v1alpha1.IPPool, now time.Time) []row {
	var out []row
	for _, r := range p.Spec.Reserved {
		if from, err := v1alpha1.ParseAddress(r.From); err == nil {
			out = append(out, row{from: from, text: r.String(), state: stateReserved, note: r.Comment})
		}
	}
	if g, err := v1alpha1.ParseAddress(p.Spec.Gateway); err == nil {
		out = append(out, row{from: g, text: g.String(), state: stateReserved, note: "gateway"})
	}
	for a, x := range k.shown {
		if x.Status.Pool == p.Name {
			out = append(out, shownRow(a, &x.Status, now))
		}
	}
	for a, who := range k.wanted {
		if _, shown := k.shown[a]; !shown && p.Contains(a) {
			if reason, _ := p.Refusal(a); reason == "" {
				out = append(out, row{from: a, text: a.String(), state: stateAside, holder: who, note: "its App asks for it"})
			}
		}
	}
	slices.SortFunc(out, func(a, b row) int { return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.state, b.state)) })
	return out
}

func shownRow(a netip.Addr, s *runtime.AddressStatus, now time.Time) row {
	r := row{from: a, text: a.String(), state: s.State, host: s.Host}
	if s.Instance != "" {
		r.holder = s.Namespace + "/" + s.Instance
	}
	if s.Since != nil {
		r.since = duration.HumanDuration(now.Sub(s.Since.Time))
	}
	switch {
	case s.Conflict != "":
		r.note = "used by " + s.Conflict
	case s.Former != "":
		r.note = "was of " + s.Former
	}
	return r
}

// free gives addresses of a pool that nobody has, asks for or uses.
func (k *addresses) free(p *v1alpha1.IPPool, n int) []netip.Addr {
	return p.FreeAddresses(n, func(a netip.Addr) bool {
		_, shown := k.shown[a]
		return shown || k.wanted[a] != "" || k.loopback[a] != ""
	})
}

func printFree(out io.Writer, known *addresses, n int) error {
	p := &known.pools[0]
	free := known.free(p, n)
	if len(free) == 0 {
		return fmt.Errorf("pool %s has no free address: extend its spec.ranges, or scale an App in; `padis ip list --pool %s` shows who has what", p.Name, p.Name)
	}
	for _, a := range free {
		fmt.Fprintln(out, a)
	}
	return nil
}

// printStanding says everything about one address.
func printStanding(out io.Writer, known *addresses, a netip.Addr, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	say := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, value)
		}
	}
	say("Address", a.String())
	x, shown := known.shown[a]
	pools := known.poolsOf(a)
	for _, p := range pools {
		say("Pool", fmt.Sprintf("%s, %s on network %s", p.Name, p.Spec.CIDR, p.Spec.Network))
	}
	if shown {
		r := shownRow(a, &x.Status, now)
		say("State", r.state)
		say("Instance", r.holder)
		say("Host", r.host)
		if r.since != "" {
			say("Since", fmt.Sprintf("%s, %s ago", x.Status.Since.UTC().Format(time.RFC3339), r.since))
		}
		say("Was of", x.Status.Former)
		say("Used by", x.Status.Conflict)
	} else {
		say("State", known.state(a, pools))
	}
	say("Asked for by", known.wanted[a])
	say("On the loopback of", known.loopback[a])
	for _, p := range pools {
		if _, why := p.Refusal(a); why != "" {
			say("Not handed out", "it "+why)
		}
		for _, r := range p.Spec.Reserved {
			if r.Has(a) {
				say("Comment", r.Comment)
			}
		}
	}
	return w.Flush()
}

// poolsOf gives the pools that hand out an address, or, if none does, those in whose subnet it is.
func (k *addresses) poolsOf(a netip.Addr) []*v1alpha1.IPPool {
	var giving, containing []*v1alpha1.IPPool
	for i := range k.pools {
		p := &k.pools[i]
		if !p.Contains(a) {
			continue
		}
		containing = append(containing, p)
		if reason, _ := p.Refusal(a); reason == "" {
			giving = append(giving, p)
		}
	}
	if len(giving) > 0 {
		return giving
	}
	return containing
}

// state is that of an address that nobody has, rests for or uses.
func (k *addresses) state(a netip.Addr, pools []*v1alpha1.IPPool) string {
	if len(pools) == 0 {
		return "of no pool; `padis get ippools` lists them"
	}
	for _, p := range pools {
		switch reason, _ := p.Refusal(a); {
		case reason == padisv1.ReasonAddressReserved:
			return stateReserved
		case reason == "" && k.wanted[a] != "":
			return stateAside
		case reason == "":
			return stateFree
		}
	}
	return stateNone
}

func dash(s string) string { return cmp.Or(s, "-") }
