package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/api/why"
)

// printBalancer shows a LoadBalancer as network engineers want it: declaration, conditions, then tables.
func printBalancer(out io.Writer, s why.BalanceSnapshot, events bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	printDeclared(w, s.LoadBalancer)
	section(w, "Conditions", "TYPE\tSTATUS\tREASON\tSINCE\tMESSAGE", s.LoadBalancer.Status.Conditions, func(c metav1.Condition) string {
		return cells(c.Type, string(c.Status), c.Reason, duration.HumanDuration(s.Now.Sub(c.LastTransitionTime.Time)), c.Message)
	})
	if b := s.Balance; b == nil {
		fmt.Fprintf(w, "\nVIPs, directors and real servers: not known, %s\n", cmp.Or(s.Unknown, "the scheduler has not looked at it yet"))
	} else {
		fmt.Fprintf(w, "\nTables %d: %s\n", b.Number, why.BalanceSummary(s.LoadBalancer, b))
		printBalance(w, s.LoadBalancer, b)
	}
	if events {
		section(w, "Events", "LAST\tTYPE\tREASON\tOBJECT\tMESSAGE", s.Events, func(e why.Event) string {
			return cells(duration.HumanDuration(s.Now.Sub(e.Last)), e.Type, e.Reason, e.Object, e.Message)
		})
	}
	return w.Flush()
}

func printDeclared(w io.Writer, lb *v1alpha1.LoadBalancer) {
	spec := &lb.Spec
	say := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", name, value)
		}
	}
	say("Name", lb.Name)
	say("Namespace", lb.Namespace)
	var listeners []string
	for _, l := range spec.Listeners {
		text := fmt.Sprintf("%s %s %d", l.Name, cmp.Or(l.Protocol, v1alpha1.ProtocolTCP), l.Port)
		if l.EndPort > l.Port {
			text += "-" + strconv.Itoa(int(l.EndPort))
		}
		if len(l.SourceRanges) > 0 {
			text += " from " + strings.Join(l.SourceRanges, " ")
		}
		listeners = append(listeners, text)
	}
	say("Listeners", strings.Join(listeners, ", "))
	var backends []string
	for i, b := range spec.Backends {
		_, name, _ := strings.Cut(why.BackendName(lb, i), " ")
		switch {
		case b.Percent != nil:
			name += fmt.Sprintf(" %d %%", *b.Percent)
		case b.Weight != nil:
			name += fmt.Sprintf(" weight %d", *b.Weight)
		}
		backends = append(backends, name)
	}
	say("Backends", strings.Join(backends, ", "))
	say("Placed by", fmt.Sprintf("%s, %d slots, dataplane %s", spec.Scheduler, spec.TableSize, spec.Dataplane))
	say("Announced", announced(spec.BGP))
	say("Min servers", strconv.Itoa(int(spec.MinServers)))
	if spec.DrainTime != nil {
		say("Drain time", spec.DrainTime.Duration.String())
	}
	if spec.MaxConnections > 0 {
		say("Max connections", strconv.FormatInt(spec.MaxConnections, 10)+" of each real server, by each director")
	}
	if lb.DeletionTimestamp != nil {
		say("Deleted", lb.DeletionTimestamp.UTC().Format(time.RFC3339))
	}
}

// announced is how VIPs are announced.
func announced(a v1alpha1.Announcement) string {
	text := fmt.Sprintf("as AS %d to ", a.ASN)
	if len(a.Peers) == 0 {
		text += "all peers"
	} else {
		text += strings.Join(a.Peers, " ")
	}
	if len(a.Communities) > 0 {
		text += ", communities " + strings.Join(a.Communities, " ")
	}
	if a.LocalPreference > 0 {
		text += fmt.Sprintf(", local preference %d", a.LocalPreference)
	}
	if a.MED > 0 {
		text += fmt.Sprintf(", MED %d", a.MED)
	}
	return text
}

// section prints a table with a heading; nothing if it has no rows. Its columns are aligned by themselves, for the heading has none.
func section[E any](w io.Writer, title, header string, items []E, show func(E) string) {
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s:\n  %s\n", title, header)
	for _, e := range items {
		fmt.Fprintf(w, "  %s\n", show(e))
	}
}

func cells(texts ...string) string {
	for i := range texts {
		texts[i] = dash(texts[i])
	}
	return strings.Join(texts, "\t")
}

// because is why something is not as it should be.
func because(reason, message string) string {
	if reason == "" || message == "" {
		return reason + message
	}
	return reason + ": " + message
}

// peering and failure are of one director.
type peering struct {
	director string
	runtime.DirectorSession
}

type failure struct {
	director string
	runtime.ServerFailure
}

func printBalance(w io.Writer, lb *v1alpha1.LoadBalancer, b *runtime.Balance) {
	section(w, "VIPs", "ADDRESS\tPOOL\tANNOUNCED BY\tWHY NOT", b.VIPs, func(v runtime.BalanceVIP) string {
		return cells(v.Address, v.Pool, strings.Join(v.Announcing, " "), because(v.Reason, v.Message))
	})
	var sessions []peering
	var failures []failure
	for _, d := range b.Directors {
		for _, s := range d.Sessions {
			sessions = append(sessions, peering{d.Instance, s})
		}
		for _, f := range d.Failures {
			failures = append(failures, failure{d.Instance, f})
		}
	}
	section(w, "Routers", "PEER\tADDRESS\tDIRECTOR\tSESSION\tBFD\tWHY NOT", sessions, func(s peering) string {
		state := "down"
		if s.Established {
			state = "up"
		}
		return cells(s.Peer, s.Address, s.director, state, s.BFD, s.Message)
	})
	section(w, "Directors", "INSTANCE\tHOST\tADDRESS\tDATAPLANE\tTABLES\tANNOUNCES\tSTATE\tWHY", b.Directors, func(d runtime.BalanceDirector) string {
		state := d.Phase
		switch {
		case d.Draining:
			state = "Draining"
		case d.Ready:
			state = "Ready"
		}
		return cells(d.Instance, d.Host, d.Address, d.Dataplane, number(d.Number, b.Number), fmt.Sprintf("%d/%d", len(d.Announced), len(b.VIPs)), state, because(d.Reason, d.Message))
	})
	section(w, "Real servers", "INSTANCE\tHOST\tADDRESS\tSTATE\tWEIGHT\tSLOTS\tSHARE\tWHY", b.Servers, func(r runtime.BalanceServer) string {
		return cells(r.Instance, r.Host, r.Address, r.State, strconv.Itoa(int(r.Weight)), strconv.Itoa(int(r.Slots)), share(r.Slots, r.Table), because(r.Reason, r.Message))
	})
	section(w, "Not reached", "DIRECTOR\tREAL SERVER\tWHY", failures, func(f failure) string { return cells(f.director, f.Instance, f.Message) })
	section(w, "Hosts of real servers", "HOST\tTABLES\tRELAY\tWHY NOT", b.Hosts, func(h runtime.BalanceHost) string {
		relay := "yes"
		if h.Reason != "" {
			relay = "no"
		}
		return cells(h.Host, number(h.Number, b.Number), relay, because(h.Reason, h.Message))
	})
	section(w, "Backends without real servers", "BACKEND\tWHY", b.Backends, func(e runtime.BalanceBackend) string {
		return cells(why.BackendName(lb, e.Index), because(e.Reason, e.Message))
	})
}

// number is that of the tables somebody has, beside the newest if it is another.
func number(has, newest int64) string {
	switch has {
	case newest:
		return strconv.FormatInt(has, 10)
	case 0:
		return fmt.Sprintf("none of %d", newest)
	default:
		return fmt.Sprintf("%d of %d", has, newest)
	}
}

// share is a part of a table in percent.
func share(slots, table int32) string {
	if table == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", float64(slots)*100/float64(table))
}
