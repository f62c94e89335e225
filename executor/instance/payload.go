// Package instance decides one instance's life on its host: what arrives as a launch, what happens, and what is to be
// done next - (state, event) -> (state, actions). The executor carries the actions out and reports what came of them. Pure.
//
// The phases, in order; each failure, kill or end leads to Releasing, and from there to Ended:
//
//	Fetching -> Pulling -> Probing -> Creating -> Attaching -> Launching -> Running -> Stopping -> Killing -> Releasing -> Ended
//	files       image      addresses  name-       network      program      probes     signal     SIGKILL    network     reported
//	            if any     silent?    spaces                                                                 silent
//
// What load balancers send clients to goes from Running to Draining first, if it is to be stopped: it is not ready any more, and
// keeps the connections that it has, before it gets its signal.
//
// A container that an earlier executor made is adopted instead: Adopting -> Attaching -> Running. Only the word that there
// is no such container lets the task fail; whatever else goes wrong is tried again, because the container may well serve.
//
// The end is reported only after the network is silent, so that the addresses may be configured elsewhere at once.
package instance

import (
	"fmt"
	"net/netip"
	"path"
	"strings"

	"padis.io/padis/executor/network"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Failure is why something did not succeed: one of the Reason constants, and a sentence with its remedy.
type Failure struct{ Reason, Message string }

func (f *Failure) Error() string { return f.Reason + ": " + f.Message }

// Host is the executor's place: what instances are told of it.
type Host struct {
	// Owner of what instances have on the host: the framework, because the next executor takes containers over.
	Owner string
	// Name of the host, and the PATH in which programs are looked up.
	Name, Path string
	// Sandbox of the executor; programs have theirs below it, and end with it.
	Sandbox string
	// State is a directory that outlives the executor; containers have theirs below it.
	State string
	// Addresses of the host, the first of all first: those of instances with the host's network.
	Addresses []netip.Addr
}

// Plan is a launch that was understood: everything that is known of an instance before it begins.
type Plan struct {
	TaskID string
	// Container is what the instance is called on the host: the id of the task that made it.
	Container string
	// Image to be run; empty is a plain program of the host.
	Image  string
	Launch *padisv1.Launch
	Wanted network.Wanted
	// Addresses of all interfaces, in order, or those of the host.
	Addresses []string
	Files     Files
	// Environment is NAME=value: complete for a program, put over the image's for a container.
	Environment []string
	Hostname    string
}

// Files are the instance's sandbox and what it contains from the start. An empty ResolvConf is the host's own.
type Files struct {
	Dir, Hosts, ResolvConf string
}

// Understand reads the payload of a task. Whatever it is made of, the result is a plan or a *Failure.
func Understand(t mesos.Task, h Host) (Plan, *Failure) {
	if !fileName(t.ID) {
		return Plan{}, invalid("the task id %q cannot be the name of a directory; use letters, digits, dots and dashes", t.ID)
	}
	l := &padisv1.Launch{}
	if len(t.Data) == 0 {
		return Plan{}, invalid("the task has no launch payload; was it launched by another version of Padis?")
	}
	if err := padisv1.Decode(t.Data, l); err != nil {
		return Plan{}, invalid("the launch payload cannot be read (%v); was it launched by another version of Padis?", err)
	}
	if l.GetNamespace() == "" || l.GetApp() == "" || l.GetSlot() < 0 || l.GetTemplate() == nil {
		return Plan{}, invalid("the launch payload names no instance and template")
	}
	p, f := place(t.ID, l, h)
	if f == nil {
		f = check(p, h)
	}
	if f != nil {
		return Plan{}, f
	}
	if !hostName(p.Hostname) {
		return Plan{}, invalid("%q is not a host name of at most %d characters", p.Hostname, hostNameMax)
	}
	for _, s := range append(append([]string{}, l.GetDnsServers()...), l.GetDnsSearch()...) {
		if strings.ContainsAny(s, " \t\r\n\x00") {
			return Plan{}, invalid("%q cannot be in a resolv.conf", s)
		}
	}
	p.Files.Hosts, p.Files.ResolvConf = hostsFile(p), resolvConf(p)
	p.Environment = environment(p, h)
	return p, nil
}

// Recall understands the launch that made a container without a task, as far as its place on the host is concerned: what
// is there can be silenced and removed.
func Recall(container string, l *padisv1.Launch, h Host) (Plan, *Failure) {
	return place(container, l, h)
}

// place is where an instance lives on the host. It depends on nothing that is another at the adoption of a container.
func place(task string, l *padisv1.Launch, h Host) (Plan, *Failure) {
	p := Plan{TaskID: task, Container: l.GetContainer(), Image: l.GetTemplate().GetImage(), Launch: l, Hostname: hostname(l)}
	if p.Container == "" {
		p.Container = task
	}
	switch {
	case p.Image == "" && (l.GetAdopt() || p.Container != task):
		return Plan{}, invalid("only containers can be adopted, and the template has no image")
	case !fileName(p.Container):
		return Plan{}, invalid("the container name %q cannot be the name of a directory; use letters, digits, dots and dashes", p.Container)
	case len(l.GetAttachments()) > MaxAttachments:
		return Plan{}, invalid("%d networks, more than %d", len(l.GetAttachments()), MaxAttachments)
	}
	var err error
	if p.Wanted, err = network.Want(h.Owner, p.Container, h.Name, l); err != nil {
		return Plan{}, &Failure{padisv1.ReasonNetworkFailed, err.Error()}
	}
	p.Addresses = addresses(p.Wanted, h)
	p.Files.Dir = path.Join(h.Sandbox, "tasks", p.Container)
	if p.Image != "" {
		p.Files.Dir = Directory(h.State, p.Container)
	}
	return p, nil
}

// Directory of a container, which outlives its executor.
func Directory(state, container string) string { return path.Join(state, "instances", container) }

func hostname(l *padisv1.Launch) string {
	if l.GetHostname() != "" {
		return l.GetHostname()
	}
	return name(l)
}

// Name of the instance, as people know it.
func (p Plan) Name() string { return name(p.Launch) }

func name(l *padisv1.Launch) string { return fmt.Sprintf("%s-%d", l.GetApp(), l.GetSlot()) }

func hostsFile(p Plan) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	const own = "127.0.1.1"
	addresses := p.Addresses
	if len(addresses) == 0 {
		addresses = []string{own}
	}
	for _, a := range addresses {
		fmt.Fprintf(&b, "%s\t%s\n", a, p.Hostname)
	}
	return b.String()
}

func resolvConf(p Plan) string {
	l := p.Launch
	if len(l.GetDnsServers()) == 0 && p.Wanted.Hosted {
		return ""
	}
	if len(l.GetDnsServers()) == 0 {
		return "# no name servers: set dnsServers of the IPPool\n"
	}
	var b strings.Builder
	for _, s := range l.GetDnsServers() {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(l.GetDnsSearch()) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(l.GetDnsSearch(), " "))
	}
	return b.String()
}

// environment is what every instance is told, under what its template says. An image has a PATH and a HOME of its own.
func environment(p Plan, h Host) []string {
	l := p.Launch
	first := ""
	if len(p.Addresses) > 0 {
		first = p.Addresses[0]
	}
	var all [][2]string
	if p.Image == "" {
		all = [][2]string{{"PATH", h.Path}, {"HOME", path.Join(p.Files.Dir, "work")}}
	}
	all = append(all, [][2]string{
		{"PADIS_INSTANCE", name(l)},
		{"PADIS_APP", l.GetApp()},
		{"PADIS_NAMESPACE", l.GetNamespace()},
		{"PADIS_SLOT", fmt.Sprint(l.GetSlot())},
		{"PADIS_HOST", h.Name},
		{"PADIS_ADDRESS", first},
		{"PADIS_ADDRESSES", strings.Join(p.Addresses, ",")},
	}...)
	for _, e := range l.GetTemplate().GetEnv() {
		all = append(all, [2]string{e.GetName(), e.GetValue()})
	}
	// The last of a name counts.
	at := map[string]int{}
	var out []string
	for _, e := range all {
		if i, ok := at[e[0]]; ok {
			out[i] = e[0] + "=" + e[1]
			continue
		}
		at[e[0]] = len(out)
		out = append(out, e[0]+"="+e[1])
	}
	return out
}

func addresses(w network.Wanted, h Host) []string {
	var out []string
	if w.Hosted {
		for _, a := range h.Addresses {
			out = append(out, a.String())
		}
	}
	for _, i := range w.Interfaces {
		for _, a := range i.Addresses {
			out = append(out, a.Addr().String())
		}
	}
	return out
}
