package kernel

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"padis.io/padis/executor/network"
)

// Attach makes the wanted network of an instance whose network namespace is open as ns. On an error nothing answers for
// the addresses. A refusal of the plan is returned as it is; it says what to do.
func (n *Network) Attach(ns int, w network.Wanted) error {
	if err := n.Adjust(ns, w); err != nil {
		return errors.Join(err, n.Detach(ns, w))
	}
	return nil
}

// Adjust changes of a live instance what differs from the wanted: bandwidths, loopback addresses, settings, what is
// missing. On an error the instance goes on with what it has.
func (n *Network) Adjust(ns int, w network.Wanted) error {
	if w.Hosted {
		return nil
	}
	err := n.session(ns, func(s *session) error {
		s.ports(w)
		o, err := s.observe(w)
		if err != nil {
			return err
		}
		made, err := s.ensure(w.Segments, o)
		if err != nil {
			return err
		}
		if made {
			if o, err = s.observe(w); err != nil {
				return err
			}
		}
		ops, err := network.PlanInside(w, o)
		if err != nil {
			return err
		}
		if err := s.apply(ops); err != nil {
			return err
		}
		return s.connected(w, ops)
	})
	if err == nil {
		n.register(w)
	}
	return err
}

// connected has the kernel take notice now of those host ends whose other ends have come up, and pass frames through them:
// by itself it does so when a worker of its gets round to it, which on a busy host takes milliseconds. Newer kernels do it
// before they tell of a link (seen with 6.18); older ones only tell.
func (s *session) connected(w network.Wanted, ops []network.Op) error {
	var requests []*request
	for _, i := range w.Interfaces {
		if i.Driver != network.DriverMACVLAN && slices.Contains(ops, network.Op(network.SetUp{Link: i.Inside, Inside: true})) {
			r := getLink(i.Host, 0, func(link) {})
			r.what = question(i.Host)
			requests = append(requests, r)
		}
	}
	return s.n.host.do(requests...)
}

// Check returns the operations that Adjust would carry out. ns may be -1: then all that an instance needs beyond its
// segments is among them.
func (n *Network) Check(ns int, w network.Wanted) (ops []network.Op, err error) {
	err = n.session(ns, func(s *session) error {
		s.full = true
		o, err := s.observe(w)
		if err != nil {
			return err
		}
		ops, err = network.Plan(w, o)
		return err
	})
	return ops, err
}

// ensure makes the segments; made tells whether there was anything to do. Another instance may be at it: then it waits
// and looks again.
func (s *session) ensure(segments []network.Segment, o network.Observed) (made bool, err error) {
	ops, err := network.PlanSegments(segments, o)
	if err == nil && len(ops) == 0 {
		return false, nil
	}
	s.n.segments.Lock()
	defer s.n.segments.Unlock()
	if o, err = s.observe(network.Wanted{Segments: segments}); err != nil {
		return true, err
	}
	if ops, err = network.PlanSegments(segments, o); err != nil {
		return true, err
	}
	return true, s.apply(ops)
}

// segmentsOnly makes the segments without an instance.
func (n *Network) segmentsOnly(segments []network.Segment) error {
	return n.session(-1, func(s *session) error {
		o, err := s.observe(network.Wanted{Segments: segments})
		if err != nil {
			return err
		}
		_, err = s.ensure(segments, o)
		return err
	})
}

// Detach silences the instance: when it returns nil, nobody answers for its addresses any more. ns is its network
// namespace, or -1 if that is gone, and with it all that is only inside.
func (n *Network) Detach(ns int, w network.Wanted) error {
	if w.Hosted {
		return nil
	}
	err := n.session(ns, func(s *session) error {
		s.ports(w)
		o, err := s.observeEnds(w)
		if err != nil {
			return err
		}
		return s.applyEach(network.Silence(w, o))
	})
	if err == nil {
		n.unregister(w)
	}
	return err
}

// observeEnds reads what Silence needs: little, because many end at once when a host is drained. What may be guarded
// counts as guarded.
func (s *session) observeEnds(w network.Wanted) (network.Observed, error) {
	w.Segments = slices.DeleteFunc(slices.Clone(w.Segments), func(g network.Segment) bool { return g.Driver != network.DriverOVS })
	var o network.Observed
	if err := s.observeHost(network.Wanted{Interfaces: w.Interfaces}, &o); err != nil {
		return o, fmt.Errorf("look at the host's network: %w", err)
	}
	if s.ns >= 0 && slices.ContainsFunc(w.Interfaces, func(i network.Interface) bool { return i.Driver == network.DriverMACVLAN }) {
		if _, err := s.observeInside(w, &o); err != nil {
			return o, fmt.Errorf("look into the instance's network: %w", err)
		}
	}
	o.Guarded = map[string]network.GuardedPort{}
	for _, i := range w.Interfaces {
		part := s.n.parts.Guard != nil
		if i.Driver == network.DriverOVS {
			part = s.n.parts.Switches != nil
		}
		if i.Guarded && part {
			o.Guarded[i.Host] = network.GuardedPort{Link: i.Host, Driver: i.Driver}
		}
	}
	if names := w.Switches(); len(names) > 0 && s.n.parts.Switches != nil {
		if err := s.enter(false); err != nil {
			return o, err
		}
		var err error
		if o.Switches, err = s.n.parts.Switches.Observe(names); err != nil {
			return o, err
		}
	}
	return o, nil
}

// applyEach carries out all operations, whatever becomes of one. A link may have gone with its namespace in between.
// Those of the guard are one, behind the others before them.
func (s *session) applyEach(ops []network.Op) error {
	var failed []error
	for len(ops) > 0 {
		count := 1
		for s.isGuard(ops[0]) && count < len(ops) && s.isGuard(ops[count]) {
			count++
		}
		if err := s.apply(ops[:count]); err != nil && !gone(err) {
			failed = append(failed, err)
		}
		ops = ops[count:]
	}
	return errors.Join(failed...)
}

// Sweep removes what this owner's instances that are not in live have on the host: host ends, by name, and what guards
// them. It returns the names of the host ends; all of them are silent when it returns.
func (n *Network) Sweep(live map[string]bool) ([]string, error) {
	var removed []string
	err := n.session(-1, func(s *session) error {
		links, err := n.host.links()
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		var o network.Observed
		for _, l := range links {
			o.Host = append(o.Host, l.Link)
		}
		if err := s.enter(false); err != nil {
			return err
		}
		failed := s.observeAll(&o)
		ops := network.Sweep(o, n.owner, live)
		for _, op := range ops {
			if d, ok := op.(network.DelLink); ok {
				removed = append(removed, d.Link)
			}
		}
		return errors.Join(failed, s.applyEach(ops))
	})
	return removed, err
}

// observeAll asks the parts for all that they have. What one does not tell is left for the next time.
func (s *session) observeAll(o *network.Observed) error {
	var failed []error
	o.Guarded = map[string]network.GuardedPort{}
	if g := s.n.parts.Guard; g != nil {
		guarded, _, err := g.Observe(nil)
		failed = append(failed, err)
		maps.Copy(o.Guarded, guarded)
	}
	if w := s.n.parts.Switches; w != nil {
		var err error
		o.Switches, err = w.Observe(nil)
		failed = append(failed, err)
		guarded, err := w.Guarded(nil)
		failed = append(failed, err)
		maps.Copy(o.Guarded, guarded)
		for name := range guarded {
			s.switchPorts[name] = true
		}
	}
	return errors.Join(failed...)
}

// Renew lets the addresses of an instance stay for w.Valid from now. ErrExpired: some are gone already; they must be
// probed for and attached again.
func (n *Network) Renew(ns int, w network.Wanted) error {
	if w.Hosted {
		return nil
	}
	return n.session(ns, func(s *session) error {
		var o network.Observed
		if _, err := s.observeInside(w, &o); err != nil {
			return fmt.Errorf("look into the instance's network: %w", err)
		}
		wanted := 0
		for _, i := range w.Interfaces {
			wanted += len(i.Addresses)
		}
		ops := network.Renew(w, o)
		if err := s.apply(ops); err != nil {
			return err
		}
		if len(ops) < wanted {
			return ErrExpired
		}
		return nil
	})
}

// ErrExpired tells that the kernel has taken addresses away whose lease was not renewed in time.
var ErrExpired = errors.New("the lease of an address ran out; the instance must be attached again")

// SetOverlay makes the tunnel of a vxlan segment, if it is not there, and what it knows of other hosts exactly the
// remotes.
func (n *Network) SetOverlay(segment network.Segment, remotes []network.Remote) error {
	return n.session(-1, func(s *session) error {
		o, err := s.observe(network.Wanted{Segments: []network.Segment{segment}})
		if err != nil {
			return err
		}
		if _, err := s.ensure([]network.Segment{segment}, o); err != nil {
			return err
		}
		n.segments.Lock()
		defer n.segments.Unlock()
		tunnel, bridge, err := s.overlayLinks(segment)
		if err != nil {
			return err
		}
		return s.apply(network.PlanOverlay(segment, remotes, tunnel, bridge))
	})
}

// RemoveSurplus takes gateways away that this host has on bridges of ours and that none of the segments, which are those
// of all instances here, wants any more.
func (n *Network) RemoveSurplus(segments []network.Segment) error {
	return n.session(-1, func(s *session) error {
		n.segments.Lock()
		defer n.segments.Unlock()
		s.full = true
		o, err := s.observe(network.Wanted{Segments: segments})
		if err != nil {
			return err
		}
		return s.apply(network.Surplus(segments, o))
	})
}

// pollInterval is how often a link is looked at that shall come up.
const pollInterval = 10 * time.Millisecond
