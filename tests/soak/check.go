package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/guard"
	"padis.io/padis/scheduler/ledger"
)

// patience is how long the kernel may take to remove what ended.
const patience = 2 * time.Minute

// check returns what is there although nothing should be.
func (r *run) check() ([]string, error) {
	var found []string
	pins, err := os.ReadDir(r.pins())
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		found = append(found, "network namespace "+p.Name())
	}
	for _, name := range hostnames {
		if err := r.inHost(name, func() error {
			guarded, err := guards()
			for _, g := range guarded {
				found = append(found, fmt.Sprintf("guard of %s on %s", g, name))
			}
			return err
		}); err != nil {
			return nil, err
		}
		// A pair goes with the namespace that its inner end is in: while its host end is there, so is the namespace.
		var ends []string
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			if err := r.inHost(name, func() (err error) { ends, err = hostEnds(); return err }); err != nil {
				return nil, err
			}
			if len(ends) == 0 || time.Now().After(deadline) {
				break
			}
		}
		for _, e := range ends {
			found = append(found, fmt.Sprintf("interface %s on %s, with its network namespace", e, name))
		}
	}
	leases, err := r.leases()
	return append(found, leases...), err
}

func hostEnds() ([]string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if _, ok := network.ParseHostEnd(l.Name); ok {
			out = append(out, l.Name)
		}
	}
	return out, nil
}

func guards() ([]string, error) {
	g, err := guard.New(network.OwnerTag(owner))
	if err != nil {
		return nil, err
	}
	defer g.Close()
	ports, _, err := g.Observe(nil)
	var out []string
	for link := range ports {
		out = append(out, link)
	}
	slices.Sort(out)
	return out, err
}

// leases and instances that the ledger has.
func (r *run) leases() ([]string, error) {
	ctx := context.Background()
	l, err := ledger.Open(ctx, ledger.Config{Endpoints: []string{r.endpoint()}, StandBy: true, DialTimeout: time.Minute})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	s, err := l.Load(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, x := range s.Leases {
		out = append(out, fmt.Sprintf("lease of %s by slot %d", x.GetAddress(), x.GetSlot()))
	}
	for _, x := range s.Instances {
		out = append(out, "instance "+x.GetTaskId())
	}
	return out, nil
}
