// Package instance decides one instance's life on its host: what arrives as a launch, what happens, and what is to be
// done next - (state, event) -> (state, actions). The executor carries the actions out and reports what came of them. Pure.
//
// The phases, in order; each failure, kill or end leads to Releasing, and from there to Ended:
//
//	Fetching -> Probing -> Creating -> Attaching -> Launching -> Running -> Stopping -> Killing -> Releasing -> Ended
//	files       addresses  name-       network      program      probes     signal     SIGKILL    network     reported
//	            silent?    spaces                                                                  silent
//
// The end is reported only after the network is silent, so that the addresses may be configured elsewhere at once.
package instance

import (
	"fmt"
	"path"
	"strings"

	"padis.io/padis/executor/network"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Limits of what a launch may ask for.
const (
	maxAttachments = 16
	maxChecks      = 64
	maxArtifacts   = 256
	maxTaskID      = 200
	// hostNameMax is Linux's limit (__NEW_UTS_LEN).
	hostNameMax = 64
)

// Failure is why something did not succeed: one of the Reason constants, and a sentence with its remedy.
type Failure struct{ Reason, Message string }

func (f *Failure) Error() string { return f.Reason + ": " + f.Message }

// Host is the executor's place: what instances are told of it.
type Host struct {
	// Owner names the executor: its framework and executor ids.
	Owner string
	// Name of the host, and the PATH in which programs are looked up.
	Name, Path string
	// Sandbox of the executor; instances have theirs below it.
	Sandbox string
}

// Plan is a launch that was understood: everything that is known of an instance before it begins.
type Plan struct {
	TaskID string
	Launch *padisv1.Launch
	Wanted network.Wanted
	Files  Files
	// Environment is NAME=value, complete.
	Environment []string
	Hostname    string
}

// Files are the instance's sandbox and what it contains from the start.
type Files struct {
	Dir, Hosts, ResolvConf string
}

// Signals that a program can be asked to end by.
var signals = [...]string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"}

// Understand reads the payload of a task. Whatever it is made of, the result is a plan or a *Failure.
func Understand(t mesos.Task, h Host) (Plan, *Failure) {
	invalid := func(format string, args ...any) (Plan, *Failure) {
		return Plan{}, &Failure{padisv1.ReasonInvalidLaunch, fmt.Sprintf(format, args...)}
	}
	if !fileName(t.ID) {
		return invalid("the task id %q cannot be the name of a directory; use letters, digits, dots and dashes", t.ID)
	}
	l := &padisv1.Launch{}
	if len(t.Data) == 0 {
		return invalid("the task has no launch payload; was it launched by another version of Padis?")
	}
	if err := padisv1.Decode(t.Data, l); err != nil {
		return invalid("the launch payload cannot be read (%v); was it launched by another version of Padis?", err)
	}
	if l.GetNamespace() == "" || l.GetApp() == "" || l.GetSlot() < 0 || l.GetTemplate() == nil {
		return invalid("the launch payload names no instance and template")
	}
	if err := checkTemplate(l.GetTemplate()); err != nil {
		return Plan{}, err
	}
	if len(l.GetAttachments()) > maxAttachments {
		return invalid("%d networks, more than %d", len(l.GetAttachments()), maxAttachments)
	}
	wanted, err := network.Want(h.Owner, t.ID, h.Name, l.GetAttachments())
	if err != nil {
		return Plan{}, &Failure{padisv1.ReasonNetworkFailed, err.Error()}
	}
	p := Plan{TaskID: t.ID, Launch: l, Wanted: wanted, Hostname: hostname(l)}
	if !hostName(p.Hostname) {
		return invalid("%q is not a host name of at most %d characters", p.Hostname, hostNameMax)
	}
	for _, s := range append(append([]string{}, l.GetDnsServers()...), l.GetDnsSearch()...) {
		if strings.ContainsAny(s, " \t\r\n\x00") {
			return invalid("%q cannot be in a resolv.conf", s)
		}
	}
	p.Files = Files{Dir: path.Join(h.Sandbox, "tasks", t.ID), Hosts: hostsFile(p), ResolvConf: resolvConf(l)}
	p.Environment = environment(p, h)
	return p, nil
}

func checkTemplate(t *padisv1.Template) *Failure {
	invalid := func(format string, args ...any) *Failure {
		return &Failure{padisv1.ReasonInvalidLaunch, fmt.Sprintf(format, args...)}
	}
	if t.GetImage() != "" {
		return &Failure{padisv1.ReasonRuntimeUnavailable, "this executor runs programs, not images; use template.command and template.artifacts"}
	}
	if len(t.GetCommand()) == 0 || t.GetCommand()[0] == "" {
		return &Failure{padisv1.ReasonCommandNotFound, "the template has no command; set template.command"}
	}
	words := append([]string{t.GetWorkingDir(), t.GetUser()}, t.GetCommand()...)
	for _, e := range t.GetEnv() {
		if e.GetName() == "" || strings.ContainsAny(e.GetName(), "=\x00") {
			return invalid("%q is not the name of an environment variable", e.GetName())
		}
		words = append(words, e.GetValue())
	}
	for _, w := range words {
		if strings.ContainsRune(w, 0) {
			return invalid("%q contains a zero byte", w)
		}
	}
	if s := t.GetStop().GetSignal(); s != "" && !known(s) {
		return invalid("there is no stop signal %q; use one of %s", s, strings.Join(signals[:], ", "))
	}
	if t.GetStop().GetGracePeriodMs() < 0 || len(t.GetArtifacts()) > maxArtifacts || len(t.GetHealthChecks()) > maxChecks {
		return invalid("a negative grace period, more than %d artifacts or more than %d health checks", maxArtifacts, maxChecks)
	}
	for i, h := range t.GetHealthChecks() {
		if msg := badCheck(h); msg != "" {
			return invalid("healthChecks[%d]: %s", i, msg)
		}
	}
	return nil
}

func badCheck(h *padisv1.HealthCheck) string {
	port, command := int32(1), []string{"x"}
	switch {
	case h.GetTcp() != nil:
		port = h.GetTcp().GetPort()
	case h.GetHttp() != nil:
		port = h.GetHttp().GetPort()
	case h.GetCommand() != nil:
		command = h.GetCommand().GetCommand()
	default:
		return "set one of tcp, http and command"
	}
	if port < 1 || port > 65535 {
		return fmt.Sprintf("port %d is not between 1 and 65535", port)
	}
	if len(command) == 0 || command[0] == "" || strings.ContainsRune(strings.Join(command, ""), 0) {
		return "the command is empty or contains a zero byte"
	}
	return ""
}

func known(signal string) bool {
	for _, s := range signals {
		if s == signal {
			return true
		}
	}
	return false
}

func fileName(s string) bool {
	return s != "" && len(s) <= maxTaskID && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	})
}

func hostName(s string) bool { return fileName(s) && len(s) <= hostNameMax }

func hostname(l *padisv1.Launch) string {
	if l.GetHostname() != "" {
		return l.GetHostname()
	}
	return name(l)
}

func name(l *padisv1.Launch) string { return fmt.Sprintf("%s-%d", l.GetApp(), l.GetSlot()) }

func hostsFile(p Plan) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	own := "127.0.1.1"
	if len(p.Wanted.Interfaces) > 0 {
		own = p.Wanted.Interfaces[0].Address.Addr().String()
	}
	fmt.Fprintf(&b, "%s\t%s\n", own, p.Hostname)
	return b.String()
}

func resolvConf(l *padisv1.Launch) string {
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

// environment is what every instance is told, under what its template says.
func environment(p Plan, h Host) []string {
	l := p.Launch
	addresses := p.addresses()
	first := ""
	if len(addresses) > 0 {
		first = addresses[0]
	}
	all := [][2]string{
		{"PATH", h.Path},
		{"HOME", path.Join(p.Files.Dir, "work")},
		{"PADIS_INSTANCE", name(l)},
		{"PADIS_APP", l.GetApp()},
		{"PADIS_NAMESPACE", l.GetNamespace()},
		{"PADIS_SLOT", fmt.Sprint(l.GetSlot())},
		{"PADIS_HOST", h.Name},
		{"PADIS_ADDRESS", first},
		{"PADIS_ADDRESSES", strings.Join(addresses, ",")},
	}
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

func (p Plan) addresses() []string {
	var out []string
	for _, i := range p.Wanted.Interfaces {
		out = append(out, i.Address.Addr().String())
	}
	return out
}
