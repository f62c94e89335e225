package routers

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Neighbour is a host as the router knows it. The router is 10.0.0.1 to it, or fd00::1 if its address is IPv6.
type Neighbour struct {
	Address string
	ASN     int
	// Empty is without.
	Password string
	// 10.255.0.1, over several hops.
	Multihop bool
	// The router watches it by BFD, 100 ms and a multiplier of 3, and has a hold time of 60 s besides.
	BFD bool
}

func (n Neighbour) local() string {
	switch {
	case n.Multihop:
		return "10.255.0.1"
	case strings.Contains(n.Address, ":"):
		return "fd00::1"
	}
	return "10.0.0.1"
}

// Daemon is a running router.
type Daemon struct {
	l       *Lab
	kind    string
	dir     string
	running []*exec.Cmd
}

// Kinds names the routers that a test should pass with.
func Kinds() []string { return []string{"bird", "frr"} }

// Start runs a router of a kind. It is told before it starts, as it is in real life.
func (l *Lab) Start(kind string, neighbours ...Neighbour) *Daemon {
	l.t.Helper()
	d := &Daemon{l: l, kind: kind, dir: filepath.Join(l.dir, kind)}
	l.must(os.MkdirAll(d.dir, 0o777))
	if kind == "bird" {
		d.bird(neighbours)
	} else {
		d.frr(neighbours)
	}
	l.t.Cleanup(d.Stop)
	return d
}

// Stop kills the router.
func (d *Daemon) Stop() {
	for _, c := range d.running {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	d.running = nil
}

func (d *Daemon) spawn(args ...string) {
	d.l.t.Helper()
	log, err := os.Create(filepath.Join(d.dir, filepath.Base(args[0])+".out"))
	d.l.must(err)
	defer log.Close()
	cmd := exec.Command("ip", append([]string{"netns", "exec", router}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.l.must(cmd.Start())
	d.running = append(d.running, cmd)
}

func (d *Daemon) bird(neighbours []Neighbour) {
	var b strings.Builder
	fmt.Fprintf(&b, `log "%s/bird.log" all;
router id 10.0.0.1;
protocol device { scan time 10; }
protocol direct { ipv4; ipv6; }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; merge paths yes limit 8; }
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; merge paths yes limit 8; }
protocol bfd { interface "*" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }
`, d.dir)
	for i, n := range neighbours {
		hops, password := "direct;", ""
		if n.Multihop {
			hops = "multihop;"
		}
		if n.Password != "" {
			password = fmt.Sprintf("password %q;", n.Password)
		}
		bfd := ""
		if n.BFD {
			bfd = "bfd on; hold time 60;"
		}
		fmt.Fprintf(&b, `protocol bgp n%d {
  local %s as %d; neighbor %s as %d; %s %s %s
  error wait time 1, 2; error forget time 5; connect delay time 1; connect retry time 2;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
}
`, i, n.local(), ASN, n.Address, n.ASN, hops, password, bfd)
	}
	conf := filepath.Join(d.dir, "bird.conf")
	d.l.must(os.WriteFile(conf, []byte(b.String()), 0o644))
	d.spawn("bird", "-f", "-c", conf, "-s", filepath.Join(d.dir, "ctl"), "-P", filepath.Join(d.dir, "pid"))
	d.await()
}

func (d *Daemon) frr(neighbours []Neighbour) {
	u, err := user.Lookup("frr")
	d.l.must(err)
	uid, err := strconv.Atoi(u.Uid)
	d.l.must(err)
	d.l.must(os.Chown(d.dir, uid, -1))
	var b, v4, v6 strings.Builder
	fmt.Fprintf(&b, `frr defaults datacenter
log file %s/bgpd.log debugging
router bgp %d
 bgp router-id 10.0.0.1
 no bgp ebgp-requires-policy
 no bgp suppress-fib-pending
 bgp bestpath as-path multipath-relax
`, d.dir, ASN)
	for _, n := range neighbours {
		fmt.Fprintf(&b, " neighbor %s remote-as %d\n neighbor %s update-source %s\n neighbor %s advertisement-interval 0\n neighbor %s timers connect 2\n",
			n.Address, n.ASN, n.Address, n.local(), n.Address, n.Address)
		if n.Password != "" {
			fmt.Fprintf(&b, " neighbor %s password %s\n", n.Address, n.Password)
		}
		if n.Multihop {
			fmt.Fprintf(&b, " neighbor %s ebgp-multihop\n", n.Address)
		}
		if n.BFD {
			fmt.Fprintf(&b, " neighbor %s bfd profile fast\n neighbor %s timers 20 60\n", n.Address, n.Address)
		}
		if strings.Contains(n.Address, ":") {
			fmt.Fprintf(&v4, "  no neighbor %s activate\n", n.Address)
		}
		fmt.Fprintf(&v6, "  neighbor %s activate\n", n.Address)
	}
	fmt.Fprintf(&b, " address-family ipv4 unicast\n  maximum-paths 8\n%s exit-address-family\n address-family ipv6 unicast\n  maximum-paths 8\n%s exit-address-family\n", v4.String(), v6.String())
	conf, zebra := filepath.Join(d.dir, "bgpd.conf"), filepath.Join(d.dir, "zebra.conf")
	d.l.must(os.WriteFile(conf, []byte(b.String()), 0o644))
	d.l.must(os.WriteFile(zebra, nil, 0o644))
	// What a router that was killed left must not look like the new one: its daemons would try zebra again after a minute only.
	for _, socket := range []string{"zserv", "bfdd.vty"} {
		_ = os.Remove(filepath.Join(d.dir, socket))
	}
	watch := filepath.Join(d.dir, "bfdd.conf")
	d.l.must(os.WriteFile(watch, []byte("bfd\n profile fast\n  receive-interval 100\n  transmit-interval 100\n  detect-multiplier 3\n"), 0o644))
	common := []string{"-z", filepath.Join(d.dir, "zserv"), "--vty_socket", d.dir, "-u", "frr", "-g", "frr"}
	d.spawn(append([]string{"/usr/lib/frr/zebra", "-f", zebra, "-i", filepath.Join(d.dir, "zebra.pid")}, common...)...)
	d.l.Until("zebra is there", func() bool { _, err := os.Stat(filepath.Join(d.dir, "zserv")); return err == nil }, d.Output)
	if slices.ContainsFunc(neighbours, func(n Neighbour) bool { return n.BFD }) {
		d.spawn(append([]string{"/usr/lib/frr/bfdd", "-f", watch, "-i", filepath.Join(d.dir, "bfdd.pid"), "--bfdctl", filepath.Join(d.dir, "bfdctl")}, common...)...)
		d.l.Until("bfdd is there", func() bool { _, err := os.Stat(filepath.Join(d.dir, "bfdd.vty")); return err == nil }, d.Output)
	}
	d.spawn(append([]string{"/usr/lib/frr/bgpd", "-f", conf, "-i", filepath.Join(d.dir, "bgpd.pid")}, common...)...)
	d.await()
}

// await waits until the router answers.
func (d *Daemon) await() {
	d.l.t.Helper()
	d.l.Until(d.kind+" answers", func() bool { _, err := d.ask("show version"); return err == nil }, d.Output)
}

func (d *Daemon) ask(command string) (string, error) {
	cmd := exec.Command("birdc", "-s", filepath.Join(d.dir, "ctl"), command)
	if d.kind == "bird" && command == "show version" {
		cmd.Args[len(cmd.Args)-1] = "show status"
	}
	if d.kind == "frr" {
		daemon := "bgpd"
		if strings.HasPrefix(command, "show bfd") {
			daemon = "bfdd"
		}
		cmd = exec.Command("vtysh", "--vty_socket", d.dir, "-d", daemon, "-c", command)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Ask gives the router a command of its own and returns the answer.
func (d *Daemon) Ask(command string) string {
	d.l.t.Helper()
	out, err := d.ask(command)
	if err != nil {
		d.l.t.Fatalf("%s: %s: %v: %s", d.kind, command, err, out)
	}
	return out
}

// Route is all that the router knows of a prefix.
func (d *Daemon) Route(prefix string) string {
	d.l.t.Helper()
	if d.kind == "bird" {
		return d.Ask("show route all for " + prefix)
	}
	if strings.Contains(prefix, ":") {
		return d.Ask("show bgp ipv6 unicast " + prefix)
	}
	return d.Ask("show bgp ipv4 unicast " + prefix)
}

// BFD is the state of the router's BFD session with a host, in lower case; empty if there is none.
func (d *Daemon) BFD(host string) string {
	d.l.t.Helper()
	command, address, state := "show bfd sessions", 0, 2
	if d.kind == "frr" {
		command, address, state = "show bfd peers brief", 2, 3
	}
	for _, line := range strings.Split(d.Ask(command), "\n") {
		if f := strings.Fields(line); len(f) > state && f[address] == host {
			return strings.ToLower(f[state])
		}
	}
	return ""
}

// Output is what the router logged.
func (d *Daemon) Output() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(d.dir, "*.out"))
	logs, _ := filepath.Glob(filepath.Join(d.dir, "*.log"))
	for _, f := range append(files, logs...) {
		text, _ := os.ReadFile(f)
		fmt.Fprintf(&b, "%s:\n%s\n", f, text)
	}
	return b.String()
}
