package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// world is a host and one instance on it. It carries operations out as the kernel would, refusing what the kernel
// refuses, and keeps the commands as text.
type world struct {
	host, inside []Link
	gateway      netip.Addr
	log          []string
}

func (w *world) observed() Observed {
	return Observed{Host: clone(w.host), Inside: clone(w.inside), Default: w.gateway}
}

func clone(in []Link) []Link {
	out := slices.Clone(in)
	for i := range out {
		out[i].Addresses = slices.Clone(out[i].Addresses)
		m := map[string]string{}
		for k, v := range out[i].Settings {
			m[k] = v
		}
		out[i].Settings = m
	}
	return out
}

func (w *world) apply(ops []Op) error {
	for _, op := range ops {
		w.log = append(w.log, op.String())
		if err := w.one(op); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return nil
}

func (w *world) String() string { return strings.Join(w.log, "\n") + "\n" }

func (w *world) one(op Op) error {
	need := func(links []Link, name string) (*Link, error) {
		if l := find(links, name); l != nil {
			return l, nil
		}
		return nil, fmt.Errorf("Cannot find device %q", name)
	}
	switch op := op.(type) {
	case AddBridge:
		if find(w.host, op.Bridge.Name) != nil {
			return fmt.Errorf("File exists")
		}
		w.host = append(w.host, Link{Name: op.Bridge.Name, Kind: "bridge", Up: true, MAC: op.Bridge.MAC, MTU: op.Bridge.MTU})
	case SetMaster:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		if b, err := need(w.host, op.Bridge); err != nil || b.Kind != "bridge" {
			return fmt.Errorf("Operation not supported")
		}
		l.Master = op.Bridge
	case SetUp:
		links := w.host
		if op.Inside {
			links = w.inside
		}
		l, err := need(links, op.Link)
		if err != nil {
			return err
		}
		l.Up = true
	case SetDown:
		l, err := need(w.host, op.Link)
		if err != nil {
			return err
		}
		l.Up = false
	case DelLink:
		if _, err := need(w.host, op.Link); err != nil {
			return err
		}
		for _, l := range w.host {
			if l.Name == op.Link && l.Kind == "veth" {
				w.inside = slices.DeleteFunc(w.inside, func(p Link) bool { return p.Kind == "veth" && p.Master == op.Link })
			}
		}
		w.host = slices.DeleteFunc(w.host, func(l Link) bool { return l.Name == op.Link })
	case AddVeth:
		i := op.Interface
		if find(w.host, i.Host) != nil || find(w.inside, i.Inside) != nil {
			return fmt.Errorf("File exists")
		}
		if b := find(w.host, i.Bridge); b == nil || b.Kind != "bridge" {
			return fmt.Errorf("no bridge")
		}
		w.host = append(w.host, Link{Name: i.Host, Kind: "veth", Up: true, MTU: i.MTU, Master: i.Bridge})
		// Master of the inner end stands for the peer in this model.
		w.inside = append(w.inside, Link{Name: i.Inside, Kind: "veth", MAC: i.MAC, MTU: i.MTU, Master: i.Host, Settings: map[string]string{}})
	case Set:
		l, err := need(w.inside, op.Link)
		if err != nil {
			return err
		}
		l.Settings[op.Key] = op.Value
	case AddAddress:
		l, err := need(w.inside, op.Link)
		if err != nil {
			return err
		}
		if slices.Contains(l.Addresses, op.Address) {
			return fmt.Errorf("File exists")
		}
		l.Addresses = append(l.Addresses, op.Address)
	case AddDefault:
		l, err := need(w.inside, op.Link)
		if err != nil {
			return err
		}
		if !l.Up || !slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(op.Gateway) }) {
			return fmt.Errorf("Network is unreachable")
		}
		w.gateway = op.Gateway
	default:
		return fmt.Errorf("unknown operation %T", op)
	}
	return nil
}
