package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Snapshot is what the answer is made of.
type Snapshot struct {
	Now time.Time
	// App is nil when an instance's App was deleted.
	App *v1alpha1.App
	// Instances of the App.
	Instances []runtime.Instance
	// DirectorOf is the name of the LoadBalancer whose directors the instances are; empty if they are of an App.
	DirectorOf string
	Pools      []v1alpha1.IPPool
	Agents     []runtime.Agent
	// Events of the App and its instances.
	Events []Event
}

// Event is an event of the API.
type Event struct {
	// Object is KIND/NAME.
	Object  string
	Type    string
	Reason  string
	Message string
	Count   int32
	Last    time.Time
}

// At most so many of one kind are shown one by one.
const maxShown = 10

// Phases of an instance.
const (
	phasePending     = "Pending"
	phaseBackOff     = "BackOff"
	phaseUnreachable = "Unreachable"
	phaseAdopting    = "Adopting"
)

// App explains an App: s.App is not nil.
func App(s Snapshot) Node {
	app := s.App
	root := Node{Text: headline(s), Tone: Good}
	if readyCount(s.Instances) < int(wanted(app)) {
		root.Tone = Waiting
	}
	if app.DeletionTimestamp != nil {
		root.Tone = Waiting
		root.add(Waiting, "it is being deleted since "+ago(s.Now, app.DeletionTimestamp.Time))
	}
	if app.Status.ObservedGeneration < app.Generation {
		root.add(Waiting, fmt.Sprintf("the newest change is not taken over yet: generation %d, observed %d", app.Generation, app.Status.ObservedGeneration)).
			add(Plain, "remedy: if this stays, see whether `padis scheduler` runs and what its log says")
	}
	for _, c := range app.Status.Conditions {
		text := fmt.Sprintf("%s: %s", c.Type, c.Status)
		if c.Reason != "" {
			text += " (" + c.Reason + ")"
		}
		node := root.add(conditionTone(c.Type, string(c.Status)), text+", since "+ago(s.Now, c.LastTransitionTime.Time))
		if c.Message != "" {
			node.add(Plain, c.Message)
		}
		if node.Tone == Bad {
			addRemedy(node, c.Reason)
		}
	}
	root.Children = append(root.Children, instances(s)...)
	if missing := int(wanted(app)) - len(s.Instances); missing > 0 && app.DeletionTimestamp == nil {
		root.add(Waiting, fmt.Sprintf("%s not created yet", plural(missing, "instance is", "instances are")))
	}
	addPools(&root, s, app.Spec.Networks)
	addAgents(&root, s)
	addEvents(&root, s, "")
	return root
}

// Instance explains one instance.
func Instance(s Snapshot, i runtime.Instance) Node {
	root := instance(s.Now, i)
	root.Text = "Instance " + i.Namespace + "/" + root.Text
	if i.Status.Ready {
		root.add(Plain, fmt.Sprintf("restarts: %d", i.Status.Restarts))
		if t := i.Status.ReadyAt; t != nil {
			root.add(Plain, "ready since "+ago(s.Now, t.Time))
		}
		addTermination(&root, s.Now, i)
	}
	addHistory(&root, s.Now, i)
	if i.Status.Container != "" {
		text := "container " + i.Status.Container
		if i.Status.ImageDigest != "" {
			text += ", image " + i.Status.ImageDigest
		}
		root.add(Dim, text)
	}
	if s.DirectorOf != "" {
		root.add(Dim, "it is a director: `padis why lb/"+s.DirectorOf+" -n "+i.Namespace+"` says how its LoadBalancer fares")
	} else if s.App == nil {
		root.add(Waiting, "its App "+i.Status.App+" does not exist any more: it is being removed")
	} else {
		root.add(Dim, "app/"+s.App.Name+": "+summary(s)+"; `padis why app/"+s.App.Name+" -n "+s.App.Namespace+"` shows the others")
		addPools(&root, s, s.App.Spec.Networks)
	}
	for _, a := range s.Agents {
		if i.Status.Agent != "" && a.Status.ID == i.Status.Agent {
			root.Children = append(root.Children, agent(a))
		}
	}
	if i.Status.Agent == "" {
		addAgents(&root, s)
	}
	addEvents(&root, s, "Instance/"+i.Name)
	return root
}

func headline(s Snapshot) string {
	return fmt.Sprintf("App %s/%s: %s", s.App.Namespace, s.App.Name, summary(s))
}

func summary(s Snapshot) string {
	text := fmt.Sprintf("%d of %d ready", readyCount(s.Instances), wanted(s.App))
	phases := map[string]int{}
	for _, i := range s.Instances {
		if !i.Status.Ready {
			phases[i.Status.Phase]++
		}
	}
	for _, phase := range sortedKeys(phases) {
		text += fmt.Sprintf(", %d %s", phases[phase], strings.ToLower(phase))
	}
	return text
}

// instances explains those that are not ready, equal ones together, and the ready ones in one line.
func instances(s Snapshot) []Node {
	var groups [][]runtime.Instance
	var ready, moving []runtime.Instance
	at := map[string]int{}
	all := slices.Clone(s.Instances)
	slices.SortFunc(all, func(a, b runtime.Instance) int { return cmp.Compare(a.Status.Slot, b.Status.Slot) })
	for _, i := range all {
		switch {
		case i.Status.Ready && remarkable(i.Status):
			moving = append(moving, i)
			continue
		case i.Status.Ready:
			ready = append(ready, i)
			continue
		}
		key := predicament(i.Status)
		n, known := at[key]
		if !known {
			n = len(groups)
			at[key] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], i)
	}
	var nodes []Node
	hidden := 0
	for n, g := range groups {
		switch {
		case n >= maxShown:
			hidden += len(g)
		case len(g) == 1:
			nodes = append(nodes, instance(s.Now, g[0]))
		default:
			nodes = append(nodes, group(g))
		}
	}
	if hidden > 0 {
		nodes = append(nodes, Node{Text: fmt.Sprintf("%d more are not ready; `padis get instances -n %s` lists them", hidden, s.App.Namespace), Tone: Waiting})
	}
	for _, i := range moving[:min(len(moving), maxShown)] {
		nodes = append(nodes, instance(s.Now, i))
	}
	if more := len(moving) - maxShown; more > 0 {
		nodes = append(nodes, Node{Text: fmt.Sprintf("%d more are ready and about to change", more), Tone: Waiting})
	}
	if len(ready) > 0 {
		nodes = append(nodes, readyInstances(ready))
	}
	return nodes
}

// remarkable tells whether there is something to say about an instance that is ready: its executor is being replaced, or
// the image that it is to run next is not there yet.
func remarkable(st runtime.InstanceStatus) bool {
	return st.Phase == phaseAdopting || st.Reason != "" && st.Reason != padisv1.ReasonReady && st.Reason != padisv1.ReasonRunning
}

// predicament is equal for instances about which the same is to be said, but for their names, hosts and addresses.
func predicament(st runtime.InstanceStatus) string {
	if st.LastTermination != nil || st.NotBefore != nil {
		return fmt.Sprintf("slot %d", st.Slot)
	}
	return fmt.Sprintf("%q %q %q %s", st.Phase, st.Reason, st.Message, refusals(st.Refusals))
}

// group explains instances of equal predicament.
func group(g []runtime.Instance) Node {
	st := g[0].Status
	node := Node{Text: fmt.Sprintf("%d instances: %s", len(g), state(st)), Tone: instanceTone(st)}
	var names []string
	for _, i := range g[:min(len(g), maxShown)] {
		names = append(names, i.Name)
	}
	text := strings.Join(names, " ")
	if len(g) > maxShown {
		text += fmt.Sprintf(" and %d more", len(g)-maxShown)
	}
	node.add(Plain, text)
	if st.Message != "" {
		node.add(Plain, st.Message)
	}
	addRefusals(&node, st)
	return node
}

func readyInstances(ready []runtime.Instance) Node {
	node := Node{Text: plural(len(ready), "instance is", "instances are") + " ready", Tone: Good}
	for _, i := range ready[:min(len(ready), maxShown)] {
		text := i.Name + " on " + orNone(i.Status.Host)
		if len(i.Status.Addresses) > 0 {
			text += ", " + strings.Join(i.Status.Addresses, " ")
		}
		node.add(Plain, text)
	}
	if len(ready) > maxShown {
		node.add(Plain, fmt.Sprintf("and %d more", len(ready)-maxShown))
	}
	return node
}

// instance explains one instance; the text begins with its name.
func instance(now time.Time, i runtime.Instance) Node {
	st := i.Status
	node := Node{Text: i.Name + ": " + state(st), Tone: instanceTone(st)}
	if st.Host != "" || len(st.Addresses) > 0 {
		node.add(Plain, fmt.Sprintf("host %s, address %s", orNone(st.Host), orNone(strings.Join(st.Addresses, " "))))
	}
	if st.Message != "" {
		node.add(Plain, st.Message)
	}
	if st.Ready {
		if remarkable(st) {
			addRemedy(&node, st.Reason)
		}
		return node
	}
	addTermination(&node, now, i)
	if t := st.NotBefore; t != nil && st.Phase == phaseBackOff {
		if left := t.Sub(now); left > 0 {
			node.add(Plain, "next attempt in "+span(left))
		} else {
			node.add(Plain, "next attempt is due")
		}
	}
	addRefusals(&node, st)
	return node
}

// state is the phase, and in brackets the reason where it says more.
func state(st runtime.InstanceStatus) string {
	switch {
	case st.Ready && remarkable(st) && st.Reason != st.Phase:
		return st.Phase + ", ready (" + orNone(st.Reason) + ")"
	case st.Ready:
		return st.Phase + ", ready"
	case st.Reason == "" || st.Reason == st.Phase:
		return st.Phase
	case st.Phase == "Running":
		return st.Phase + ", not ready (" + st.Reason + ")"
	default:
		return st.Phase + " (" + st.Reason + ")"
	}
}

// addRefusals says what to do: for each reason for which agents refused the instance, or, when none did, for the
// instance's own reason; for a delayed restart that is the reason of the failure before it.
func addRefusals(node *Node, st runtime.InstanceStatus) {
	if len(st.Refusals) > 0 {
		list := node.add(Plain, "agents refused it: "+refusals(st.Refusals))
		for _, reason := range byCount(st.Refusals) {
			if text := Remedy(reason); text != "" {
				list.add(Plain, reason+": "+text)
			}
		}
		return
	}
	reason := st.Reason
	if st.Phase == phaseBackOff && st.LastTermination != nil && Remedy(st.LastTermination.Reason) != "" {
		reason = st.LastTermination.Reason
	}
	addRemedy(node, reason)
}

func instanceTone(st runtime.InstanceStatus) Tone {
	switch {
	case st.Ready && remarkable(st):
		return Waiting
	case st.Ready:
		return Good
	case st.Phase == phasePending, st.Phase == phaseBackOff, st.Phase == phaseUnreachable:
		return Bad
	default:
		return Waiting
	}
}

func conditionTone(kind, status string) Tone {
	switch {
	case kind == v1alpha1.ConditionProgressing:
		return Plain
	case status == "True":
		return Good
	case status == "Unknown":
		return Waiting
	default:
		return Bad
	}
}

func addTermination(node *Node, now time.Time, i runtime.Instance) {
	t := i.Status.LastTermination
	if t == nil {
		return
	}
	last := node.add(Plain, "last run: "+ended(now, *t))
	if t.Message != "" && t.Message != i.Status.Message {
		last.add(Plain, t.Message)
	}
	if !i.Status.Ready {
		last.add(Dim, fmt.Sprintf("its output: padis logs %s -n %s --previous", i.Name, i.Namespace))
	}
}

// ended says how a run ended.
func ended(now time.Time, t runtime.Termination) string {
	var text string
	switch {
	case t.OOMKilled:
		text = "killed by the kernel, because it wanted more memory than its limit"
	case t.Signal != "":
		text = "ended by " + t.Signal
	default:
		text = fmt.Sprintf("exit status %d", t.ExitCode)
	}
	if t.Reason != "" {
		text += " (" + t.Reason + ")"
	}
	if t.Host != "" {
		text += " on " + t.Host
	}
	if t.FinishedAt != nil {
		text += ", " + ago(now, t.FinishedAt.Time) + " ago"
	}
	return text
}

// addHistory shows the runs before the last one.
func addHistory(node *Node, now time.Time, i runtime.Instance) {
	if len(i.Status.Terminations) < 2 {
		return
	}
	list := node.add(Dim, "runs before that, the newest first")
	for _, t := range i.Status.Terminations[1:min(len(i.Status.Terminations), maxShown)] {
		list.add(Dim, ended(now, t))
	}
}

func addRemedy(node *Node, reason string) {
	if text := Remedy(reason); text != "" {
		node.add(Plain, "remedy: "+text)
	}
}

func addPools(node *Node, s Snapshot, attachments []v1alpha1.NetworkAttachment) {
	var seen []string
	for _, attachment := range attachments {
		if attachment.Network != "" {
			node.add(Plain, "network "+attachment.Network+": that of the host")
			continue
		}
		if slices.Contains(seen, attachment.Pool) {
			continue
		}
		seen = append(seen, attachment.Pool)
		at := slices.IndexFunc(s.Pools, func(p v1alpha1.IPPool) bool { return p.Name == attachment.Pool })
		if at < 0 {
			node.add(Bad, "pool "+attachment.Pool+" does not exist").
				add(Plain, "remedy: apply an IPPool of this name, or name another in spec.networks; `padis get ippools` lists them")
			continue
		}
		pool := s.Pools[at]
		tone, text := Plain, fmt.Sprintf("pool %s: %s, %d addresses taken, %d free", pool.Name, pool.Spec.CIDR, pool.Status.Allocated, pool.Status.Free)
		if pool.Status.Cooling > 0 {
			text += fmt.Sprintf(", %d rest before they are given to others", pool.Status.Cooling)
		}
		if pool.Status.Free == 0 {
			tone = Bad
		}
		child := node.add(tone, text)
		for _, c := range pool.Status.Conditions {
			if foreign := c.Type == v1alpha1.ConditionForeignAddresses; foreign && c.Status == "True" {
				child.add(Waiting, c.Message)
			} else if !foreign && c.Status != "True" {
				child.Tone = Bad
				child.add(Bad, strings.TrimSpace(fmt.Sprintf("%s: %s (%s) %s", c.Type, c.Status, c.Reason, c.Message)))
			}
		}
	}
}

// addAgents shows what the agents have left, when an instance waits for one.
func addAgents(node *Node, s Snapshot) {
	if !slices.ContainsFunc(s.Instances, func(i runtime.Instance) bool { return i.Status.Phase == phasePending }) {
		return
	}
	if len(s.Agents) == 0 {
		node.add(Bad, "there are no agents").add(Plain, "remedy: see whether the Mesos agents run and have found the master")
		return
	}
	agents := slices.Clone(s.Agents)
	slices.SortFunc(agents, func(a, b runtime.Agent) int {
		return cmp.Or(cmp.Compare(a.Status.Hostname, b.Status.Hostname), cmp.Compare(a.Status.ID, b.Status.ID))
	})
	list := node.add(Plain, plural(len(agents), "agent", "agents"))
	for _, a := range agents[:min(len(agents), maxShown)] {
		list.Children = append(list.Children, agent(a))
	}
	if len(agents) > maxShown {
		list.add(Plain, fmt.Sprintf("and %d more", len(agents)-maxShown))
	}
}

func agent(a runtime.Agent) Node {
	st := a.Status
	text := fmt.Sprintf("agent %s: %s, free %s CPUs, %d MiB memory, %d MiB disk", st.Hostname, st.State,
		thousandths(st.Total.CPUMilli-st.Used.CPUMilli), st.Total.MemoryMiB-st.Used.MemoryMiB, st.Total.DiskMiB-st.Used.DiskMiB)
	var attributes []string
	for _, name := range sortedKeys(st.Attributes) {
		attributes = append(attributes, name+"="+st.Attributes[name])
	}
	if len(attributes) > 0 {
		text += "; " + strings.Join(attributes, " ")
	}
	tone := Plain
	if st.State != "Active" {
		tone = Bad
	}
	return Node{Text: text, Tone: tone}
}

// addEvents shows the newest events, the newest last; with an object those of it only.
func addEvents(node *Node, s Snapshot, object string) {
	var events []Event
	for _, e := range s.Events {
		if object == "" || e.Object == object {
			events = append(events, e)
		}
	}
	if len(events) == 0 {
		return
	}
	slices.SortStableFunc(events, func(a, b Event) int {
		return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Reason, b.Reason))
	})
	list := node.add(Dim, "events")
	for _, e := range events[max(0, len(events)-maxShown):] {
		text := fmt.Sprintf("%s ago  %s  %s", ago(s.Now, e.Last), e.Object, e.Reason)
		if e.Count > 1 {
			text += fmt.Sprintf(" x%d", e.Count)
		}
		tone := Dim
		if e.Type == "Warning" {
			tone = Waiting
		}
		list.add(tone, text+": "+e.Message)
	}
}
