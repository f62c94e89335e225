package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
)

// BalanceSnapshot is what the answer about a LoadBalancer is made of.
type BalanceSnapshot struct {
	Now          time.Time
	LoadBalancer *v1alpha1.LoadBalancer
	// Balance is nil when the server does not know how it stands; Unknown says why.
	Balance *runtime.Balance
	Unknown string
	// Directors are their instances.
	Directors []runtime.Instance
	// Events of the LoadBalancer and its directors.
	Events []Event
}

// serving is the state of a real server in rotation.
const serving = "serving"

// LoadBalancer explains a LoadBalancer: s.LoadBalancer is not nil.
func LoadBalancer(s BalanceSnapshot) Node {
	lb := s.LoadBalancer
	root := Node{Text: fmt.Sprintf("LoadBalancer %s/%s", lb.Namespace, lb.Name), Tone: Good}
	if lb.DeletionTimestamp != nil {
		root.Tone = Waiting
		root.add(Waiting, "it is being deleted since "+ago(s.Now, lb.DeletionTimestamp.Time))
	}
	if lb.Status.ObservedGeneration < lb.Generation {
		root.add(Waiting, fmt.Sprintf("the newest change is not taken over yet: generation %d, observed %d", lb.Generation, lb.Status.ObservedGeneration)).
			add(Plain, "remedy: if this stays, see whether `padis scheduler` runs and what its log says")
	}
	for _, c := range lb.Status.Conditions {
		text := fmt.Sprintf("%s: %s", c.Type, c.Status)
		if c.Reason != "" {
			text += " (" + c.Reason + ")"
		}
		node := root.add(conditionTone(c.Type, string(c.Status)), text+", since "+ago(s.Now, c.LastTransitionTime.Time))
		if c.Message != "" {
			node.add(Plain, c.Message)
		}
		if node.Tone == Bad {
			root.Tone = Waiting
			addRemedy(node, c.Reason)
		}
	}
	if b := s.Balance; b == nil {
		root.Tone = Waiting
		root.add(Waiting, "how it stands is not known: "+cmp.Or(s.Unknown, "the scheduler has not looked at it yet"))
	} else {
		root.Text += ": " + BalanceSummary(lb, b)
		addVIPs(&root, b)
		addServers(&root, b)
		addHosts(&root, b)
		addBackends(&root, lb, b)
	}
	addDirectors(&root, s)
	addEvents(&root, Snapshot{Now: s.Now, Events: s.Events}, "")
	return root
}

// BalanceSummary is how it stands, in a line.
func BalanceSummary(lb *v1alpha1.LoadBalancer, b *runtime.Balance) string {
	announced, inRotation, up, all := 0, 0, 0, 0
	for _, v := range b.VIPs {
		if len(v.Announcing) > 0 {
			announced++
		}
	}
	for _, r := range b.Servers {
		if r.State == serving {
			inRotation++
		}
	}
	ready := 0
	for _, d := range b.Directors {
		if d.Ready {
			ready++
		}
		for _, session := range d.Sessions {
			if all++; session.Established {
				up++
			}
		}
	}
	wanted := len(b.Directors)
	if lb.Spec.Directors.Replicas != nil {
		wanted = int(*lb.Spec.Directors.Replicas)
	}
	return fmt.Sprintf("%d of %s announced, %d of %s in rotation, %d of %s ready, %d of %s up", announced, plural(len(b.VIPs), "VIP", "VIPs"),
		inRotation, plural(len(b.Servers), "real server", "real servers"), ready, plural(wanted, "director", "directors"), up, plural(all, "session", "sessions"))
}

func addVIPs(root *Node, b *runtime.Balance) {
	for n, v := range b.VIPs {
		if n == maxShown {
			root.add(Plain, fmt.Sprintf("and %d more VIPs", len(b.VIPs)-maxShown))
			return
		}
		name := "VIP " + cmp.Or(v.Address, "of pool "+v.Pool)
		switch {
		case v.Reason != "":
			node := root.add(Bad, fmt.Sprintf("%s: has no address (%s)", name, v.Reason))
			addMessage(node, v.Message)
			addRemedy(node, v.Reason)
		case len(v.Announcing) == 0:
			root.add(Bad, name+": nobody announces it")
		case len(v.Announcing) < len(b.Directors):
			root.add(Waiting, fmt.Sprintf("%s: announced by %s only", name, strings.Join(v.Announcing, " ")))
		default:
			root.add(Good, fmt.Sprintf("%s: announced by %s", name, plural(len(v.Announcing), "director", "directors")))
		}
	}
}

// addServers explains those out of rotation, equal ones together, and those in rotation in one line.
func addServers(root *Node, b *runtime.Balance) {
	var in []string
	var groups [][]runtime.BalanceServer
	at := map[[3]string]int{}
	for _, r := range b.Servers {
		if r.State == serving && r.Reason == "" {
			in = append(in, r.Instance)
			continue
		}
		key := [3]string{r.State, r.Reason, r.Message}
		n, known := at[key]
		if !known {
			n = len(groups)
			at[key] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], r)
	}
	for n, g := range groups {
		if n == maxShown {
			root.add(Waiting, fmt.Sprintf("more real servers are out of rotation; `padis describe lb %s -n %s` lists them", b.Name, b.Namespace))
			break
		}
		first := g[0]
		text := first.State
		if first.Reason != "" {
			text += " (" + first.Reason + ")"
		}
		var names []string
		for _, r := range g {
			names = append(names, r.Instance)
		}
		node := root.add(Waiting, fmt.Sprintf("%s: %s", plural(len(g), "real server", "real servers"), text))
		node.add(Plain, listed(names))
		addMessage(node, first.Message)
		addRemedy(node, first.Reason)
	}
	if len(in) > 0 {
		root.add(Good, plural(len(in), "real server is", "real servers are")+" in rotation").add(Plain, listed(in))
	}
}

func listed(names []string) string {
	text := strings.Join(names[:min(len(names), maxShown)], " ")
	if more := len(names) - maxShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// addHosts says which hosts of real servers lag behind, or cannot relay.
func addHosts(root *Node, b *runtime.Balance) {
	for _, h := range b.Hosts {
		switch {
		case h.Reason != "":
			node := root.add(Bad, fmt.Sprintf("host %s of real servers (%s)", h.Host, h.Reason))
			addMessage(node, h.Message)
			addRemedy(node, h.Reason)
		case h.Number < b.Number:
			root.add(Waiting, fmt.Sprintf("host %s of real servers has tables %d, the newest are %d", h.Host, h.Number, b.Number))
		}
	}
}

func addBackends(root *Node, lb *v1alpha1.LoadBalancer, b *runtime.Balance) {
	for _, backend := range b.Backends {
		if backend.Reason == "" {
			continue
		}
		node := root.add(Bad, fmt.Sprintf("%s: no real server (%s)", BackendName(lb, backend.Index), backend.Reason))
		addMessage(node, backend.Message)
		addRemedy(node, backend.Reason)
	}
}

// BackendName is what people call a backend.
func BackendName(lb *v1alpha1.LoadBalancer, index int) string {
	name := fmt.Sprintf("backends[%d]", index)
	if index < 0 || index >= len(lb.Spec.Backends) {
		return name
	}
	switch backend := lb.Spec.Backends[index]; {
	case backend.App != "":
		return name + " app/" + backend.App
	case backend.Selector != nil:
		var parts []string
		for _, k := range sortedKeys(backend.Selector.MatchLabels) {
			parts = append(parts, k+"="+backend.Selector.MatchLabels[k])
		}
		return name + " " + strings.Join(parts, ",")
	default:
		return name
	}
}

// addDirectors explains directors that are not as they should be: as instances, and in what they do.
func addDirectors(root *Node, s BalanceSnapshot) {
	explained := map[string]bool{}
	for _, i := range s.Directors {
		if !i.Status.Ready || remarkable(i.Status) {
			root.Children = append(root.Children, instance(s.Now, i))
			explained[i.Name] = true
		}
	}
	if s.Balance == nil {
		return
	}
	var fine []string
	for _, d := range s.Balance.Directors {
		node := Node{Text: "director " + d.Instance + " on " + orNone(d.Host), Tone: Waiting}
		if d.Reason != "" {
			node.Text += " (" + d.Reason + ")"
			addMessage(&node, d.Message)
			addRemedy(&node, d.Reason)
		}
		if d.Draining {
			node.add(Waiting, "it has told routers to send nothing more, and ends when nothing comes")
		}
		if d.Number < s.Balance.Number {
			node.add(Waiting, fmt.Sprintf("has tables %d in force, the newest are %d", d.Number, s.Balance.Number))
		}
		for _, session := range d.Sessions {
			if !session.Established {
				node.add(Bad, fmt.Sprintf("no session with %s at %s: %s", session.Peer, session.Address, cmp.Or(session.Message, "not said why")))
			} else if session.BFD == "down" {
				node.add(Waiting, fmt.Sprintf("session with %s at %s is up without BFD: set it up on the router, or take bfd out of the BGPPeer", session.Peer, session.Address))
			}
		}
		for n, f := range d.Failures {
			if n == maxShown {
				node.add(Bad, fmt.Sprintf("does not reach %d more real servers", len(d.Failures)-maxShown))
				break
			}
			node.add(Bad, fmt.Sprintf("does not reach %s: %s", f.Instance, f.Message))
		}
		switch {
		case len(node.Children) > 0 || d.Reason != "":
			root.Children = append(root.Children, node)
		case !explained[d.Instance]:
			fine = append(fine, d.Instance)
		}
	}
	if len(fine) > 0 {
		slices.Sort(fine)
		root.add(Good, plural(len(fine), "director is", "directors are")+" as wanted").add(Plain, listed(fine))
	}
}

func addMessage(node *Node, message string) {
	if message != "" {
		node.add(Plain, message)
	}
}
