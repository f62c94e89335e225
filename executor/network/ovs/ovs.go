// Package ovs plugs instances into Open vSwitches and keeps them to their own addresses there. Edge: talks to
// ovsdb-server and ovs-vswitchd by ovs-vsctl and ovs-ofctl.
//
// The tools come with the daemon, in its version, and wait until it has done what the database says. A library would
// bring a client of the database, a schema and an OpenFlow stack for six commands. To plug in, to guard and to take out
// again take some 60 ms together with them, of which much is the daemon's.
package ovs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"padis.io/padis/executor/network"
)

// Config tells where Open vSwitch is; what is empty is as Debian has it.
type Config struct {
	// Database is ovsdb-server's, "unix:/run/openvswitch/db.sock".
	Database string
	// RunDir has the sockets of the switches, "/run/openvswitch".
	RunDir string
	// Vsctl and Ofctl are the tools, looked for in PATH: "ovs-vsctl", "ovs-ofctl".
	Vsctl, Ofctl string
	// Timeout of one command, rounded down to seconds, at least one; 10 s.
	Timeout time.Duration
}

// Switches of one executor. Its methods may be called at the same time.
type Switches struct {
	tag string
	c   Config
}

// New touches nothing yet. Tag is that of the owner (network.OwnerTag).
func New(tag string, c Config) *Switches {
	c.RunDir = cmp.Or(c.RunDir, "/run/openvswitch")
	c.Database = cmp.Or(c.Database, "unix:"+filepath.Join(c.RunDir, "db.sock"))
	c.Vsctl, c.Ofctl = cmp.Or(c.Vsctl, "ovs-vsctl"), cmp.Or(c.Ofctl, "ovs-ofctl")
	c.Timeout = max(cmp.Or(c.Timeout, 10*time.Second), time.Second)
	return &Switches{tag: tag, c: c}
}

// ownerKey in external_ids of a port names the executor whose instance it is. Uplinks have none: they are everybody's.
const ownerKey = "padis-owner"

// Observe reads the switches of these names, all if names is nil, with their ports but the switch's own. What is not
// there is left out.
func (s *Switches) Observe(names []string) ([]network.Switch, error) {
	d, err := s.read()
	if err != nil {
		return nil, err
	}
	var out []network.Switch
	for _, b := range d.bridges {
		if names != nil && !slices.Contains(names, b.name) {
			continue
		}
		sw := network.Switch{Name: b.name, Datapath: b.datapath}
		for _, p := range b.ports {
			if p.name != b.name {
				sw.Ports = append(sw.Ports, network.SwitchPort{Name: p.name, VLAN: p.tag})
			}
		}
		out = append(out, sw)
	}
	return out, nil
}

// Apply carries out network.AddSwitch, AddSwitchPort, DelSwitchPort, and Guard and Unguard of a port. Repeating it changes
// nothing.
func (s *Switches) Apply(op network.Op) error {
	switch op := op.(type) {
	case network.AddSwitch:
		return s.addSwitch(op)
	case network.AddSwitchPort:
		return s.addPort(op)
	case network.DelSwitchPort:
		if err := check(op.Switch, op.Port); err != nil {
			return err
		}
		if _, err := s.vsctl("--if-exists", "del-port", op.Switch, op.Port); err != nil {
			return err
		}
		// Numbers of ports are used again, and flows go by numbers.
		return s.unguard(op.Port)
	case network.Guard:
		return s.guard(op.Port)
	case network.Unguard:
		return s.unguard(op.Link)
	}
	return fmt.Errorf("%T is no operation of an Open vSwitch", op)
}

// nameRule is narrower than the kernel's: a name must be neither an option nor a separator of the tools.
var nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)

func check(names ...string) error {
	for _, n := range names {
		if !nameRule.MatchString(n) {
			return fmt.Errorf("interface %q: a name on an Open vSwitch has 1 to 15 letters, digits, dots, dashes and underscores, and no dash first", n)
		}
	}
	return nil
}

func (s *Switches) addSwitch(op network.AddSwitch) error {
	if err := check(op.Name); err != nil {
		return err
	}
	datapath := cmp.Or(op.Datapath, "system")
	if datapath != "system" && datapath != "netdev" {
		return fmt.Errorf("switch %s: datapath %q is neither system nor netdev", op.Name, op.Datapath)
	}
	told, err := s.vsctl("--may-exist", "add-br", op.Name, "--",
		"set", "Bridge", op.Name, "datapath_type="+datapath, "fail_mode=standalone")
	if err != nil {
		return err
	}
	if broken := setup(told); broken != "" {
		if _, err := s.vsctl("--if-exists", "del-br", op.Name); err != nil {
			return fmt.Errorf("switch %s: %s; and it cannot be removed: %w", op.Name, broken, err)
		}
		return fmt.Errorf("switch %s: %s; load the kernel's module openvswitch, or choose datapath netdev", op.Name, broken)
	}
	return nil
}

func (s *Switches) addPort(op network.AddSwitchPort) error {
	port := op.Port.Name
	if err := check(op.Switch, port); err != nil {
		return err
	}
	if op.Port.VLAN < 0 || op.Port.VLAN > 4094 {
		return fmt.Errorf("port %s: VLAN %d is not within 1 to 4094, or 0 for a trunk", port, op.Port.VLAN)
	}
	args := []string{"--may-exist", "add-port", op.Switch, port, "--"}
	if op.Port.VLAN == 0 {
		args = append(args, "clear", "Port", port, "tag")
	} else {
		args = append(args, "set", "Port", port, fmt.Sprintf("tag=%d", op.Port.VLAN))
	}
	if tag, ours := network.ParseHostEnd(port); ours && tag == s.tag {
		args = append(args, "--", "set", "Port", port, "external_ids:"+ownerKey+"="+s.tag)
	}
	told, err := s.vsctl(args...)
	if err != nil {
		return err
	}
	if broken := setup(told); broken != "" {
		if _, err := s.vsctl("--if-exists", "del-port", op.Switch, port); err != nil {
			return fmt.Errorf("port %s of switch %s: %s; and it cannot be removed: %w", port, op.Switch, broken, err)
		}
		return fmt.Errorf("port %s of switch %s: %s; the link must exist and belong to nothing else", port, op.Switch, broken)
	}
	return nil
}

// setup finds what ovs-vsctl warns of: the database took it, the daemon could not do it.
func setup(told string) string {
	for line := range strings.Lines(told) {
		if _, what, ok := strings.Cut(line, "Error detected while setting up "); ok {
			what, _, _ = strings.Cut(what, ".  See ovs-vswitchd log")
			return "cannot be set up: " + strings.TrimSpace(what)
		}
	}
	return ""
}

// Sweep removes the ports of this owner and the flows that it set for ports, but those of the live links, and returns the
// names of the ports, sorted. It is for what an executor that died left behind.
func (s *Switches) Sweep(live []string) ([]string, error) {
	d, err := s.read()
	if err != nil {
		return nil, err
	}
	keep := map[uint64]bool{}
	for _, l := range live {
		keep[cookie(s.tag, l)] = true
	}
	var gone []string
	for _, b := range d.bridges {
		for _, p := range b.ports {
			if p.owner != s.tag || slices.Contains(live, p.name) {
				continue
			}
			if _, err := s.vsctl("--if-exists", "del-port", b.name, p.name); err != nil {
				return gone, err
			}
			gone = append(gone, p.name)
		}
		flows, err := s.flows(b.name)
		if err != nil {
			return gone, err
		}
		var stale []uint64
		for _, f := range flows {
			if !keep[f.cookie] {
				stale = append(stale, f.cookie)
			}
		}
		slices.Sort(stale)
		for _, c := range slices.Compact(stale) {
			if err := s.forget(b.name, c); err != nil {
				return gone, err
			}
		}
	}
	slices.Sort(gone)
	return gone, nil
}

// vsctl runs ovs-vsctl, and returns what it says beside its output.
func (s *Switches) vsctl(args ...string) (told string, err error) {
	_, told, err = s.run(s.c.Vsctl, "", append([]string{"--db=" + s.c.Database}, args...)...)
	return told, err
}

// ofctl runs ovs-ofctl. Version 1.4 is the first with bundles.
func (s *Switches) ofctl(stdin, command, bridge string, args ...string) (string, error) {
	out, _, err := s.run(s.c.Ofctl, stdin, append([]string{"--protocols=OpenFlow14", command, "unix:" + s.socket(bridge)}, args...)...)
	return out, err
}

func (s *Switches) socket(bridge string) string { return filepath.Join(s.c.RunDir, bridge+".mgmt") }

// absent tells that the daemon does not have a switch of the database, because it could not set it up; so it has no
// flows. It may be a stranger's, and must not be in our way.
func (s *Switches) absent(bridge string) bool {
	_, err := os.Stat(s.socket(bridge))
	return errors.Is(err, fs.ErrNotExist)
}

func (s *Switches) run(tool, stdin string, args ...string) (stdout, stderr string, err error) {
	// The tool ends itself; the context is for one that does not.
	ctx, cancel := context.WithTimeout(context.Background(), s.c.Timeout+5*time.Second)
	defer cancel()
	args = append([]string{fmt.Sprintf("--timeout=%d", int(s.c.Timeout.Seconds()))}, args...)
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	err = cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		err = fmt.Errorf("%w; install Open vSwitch (Debian: openvswitch-switch)", err)
	case err != nil:
		err = fmt.Errorf("%s: %w: %s; is Open vSwitch running (%s)?", strings.Join(cmd.Args, " "), err, strings.TrimSpace(told.String()), s.c.Database)
	}
	return out.String(), told.String(), err
}
