package executor

import (
	"errors"
	"sync"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// overlays are the VXLAN networks of this host, and what the scheduler said last of their other hosts. What it says of a
// network that is not here is kept until it is.
type overlays struct {
	network networker
	mu      sync.Mutex
	// here are the networks that instances were attached to. told has what was said; done: the kernel has it.
	here map[string]network.Segment
	told map[string][]network.Remote
	done map[string]bool
}

func newOverlays(n networker) *overlays {
	return &overlays{network: n, here: map[string]network.Segment{}, told: map[string][]network.Remote{}, done: map[string]bool{}}
}

// tell takes the overlays in that the scheduler speaks of; others are left alone. The newest word counts, also if it
// could not be carried out.
func (o *overlays) tell(all []*padisv1.Overlay) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var failed []error
	for _, x := range all {
		remotes, err := network.Remotes(x)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		o.told[x.GetNetwork()], o.done[x.GetNetwork()] = remotes, false
		if segment, ok := o.here[x.GetNetwork()]; ok {
			failed = append(failed, o.set(segment))
		}
	}
	return errors.Join(failed...)
}

// join is called before an instance is attached: it finds all others from its first packet on.
func (o *overlays) join(segments []network.Segment) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range segments {
		if s.Driver != network.DriverVXLAN {
			continue
		}
		o.here[s.Network] = s
		if _, told := o.told[s.Network]; told && !o.done[s.Network] {
			if err := o.set(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *overlays) set(s network.Segment) error {
	err := o.network.SetOverlay(s, o.told[s.Network])
	o.done[s.Network] = err == nil
	return err
}
