package network

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Remotes reads what the control plane says of other hosts. Each of OverlayHost.addresses is one interface: its address,
// or its two addresses with a comma between, "10.0.0.5,fd00::5".
func Remotes(o *padisv1.Overlay) ([]Remote, error) {
	var out []Remote
	for _, h := range o.GetHosts() {
		end, err := netip.ParseAddr(h.GetEndpoint())
		if err != nil || end.IsUnspecified() || end.IsMulticast() || end.Is4In6() {
			return nil, fmt.Errorf("network %s: %q is not an address where a tunnel can end; the scheduler must send the overlay again", o.GetNetwork(), h.GetEndpoint())
		}
		r := Remote{Endpoint: end}
		for _, s := range h.GetAddresses() {
			var itf []netip.Addr
			for _, part := range strings.Split(s, ",") {
				a, err := netip.ParseAddr(part)
				if err != nil || !usable(a) {
					return nil, fmt.Errorf("network %s: %q is not an address that an instance can have; the scheduler must send the overlay again", o.GetNetwork(), part)
				}
				itf = append(itf, a)
			}
			slices.SortFunc(itf, netip.Addr.Compare)
			r.Interfaces = append(r.Interfaces, itf)
		}
		out = append(out, r)
	}
	return out, nil
}

// PlanOverlay orders the operations after which the tunnel of the segment knows exactly the remote hosts and the bridge
// exactly their neighbours; none if that is so, or if the devices are not there or not ours. Entries for hardware
// addresses that instances cannot have are strangers' and stay, unless an instance has that IP address. Ends of another family than the tunnel's own, and the
// tunnel's own, are left out. If two hosts have an address, the one that is first in order of endpoints is believed.
func PlanOverlay(s Segment, remotes []Remote, tunnel, bridge Link) []Op {
	if s.Driver != DriverVXLAN || tunnel.Kind != "vxlan" || tunnel.VNI != s.VNI || tunnel.Name != s.Uplink || bridge.Kind != "bridge" || bridge.Name != s.Bridge {
		return nil
	}
	forwards, neighbours := overlayEntries(remotes, tunnel.Local)
	var ops []Op
	for _, n := range slices.SortedFunc(slices.Values(bridge.Neighbours), compareNeighbours) {
		if !slices.Contains(neighbours, n) && n.MAC.ours() {
			ops = append(ops, DelNeighbour{s.Bridge, n})
		}
	}
	for _, f := range slices.SortedFunc(slices.Values(tunnel.Forwards), compareForwards) {
		if !slices.Contains(forwards, f) && (f.MAC.ours() || f.MAC == MAC{}) {
			ops = append(ops, DelForward{s.Uplink, f})
		}
	}
	for _, f := range forwards {
		if !slices.Contains(tunnel.Forwards, f) {
			ops = append(ops, AddForward{s.Uplink, f})
		}
	}
	for _, n := range neighbours {
		if !slices.Contains(bridge.Neighbours, n) {
			ops = append(ops, AddNeighbour{s.Bridge, n})
		}
	}
	return ops
}

// overlayEntries are the entries that are wanted, in order.
func overlayEntries(remotes []Remote, local netip.Addr) ([]Forward, []Neighbour) {
	sorted := slices.SortedStableFunc(slices.Values(remotes), func(a, b Remote) int { return a.Endpoint.Compare(b.Endpoint) })
	at, ends := map[MAC]netip.Addr{}, map[netip.Addr]bool{}
	by := map[netip.Addr]MAC{}
	for _, r := range sorted {
		if local.IsValid() && (r.Endpoint == local || r.Endpoint.Is4() != local.Is4()) {
			continue
		}
		ends[r.Endpoint] = true
		for _, itf := range r.Interfaces {
			if len(itf) == 0 {
				continue
			}
			mac := AddressMAC(itf[0])
			if _, taken := at[mac]; !taken {
				at[mac] = r.Endpoint
			}
			for _, a := range itf {
				if _, taken := by[a]; !taken {
					by[a] = mac
				}
			}
		}
	}
	var forwards []Forward
	for e := range ends {
		forwards = append(forwards, Forward{Endpoint: e})
	}
	for m, e := range at {
		forwards = append(forwards, Forward{m, e})
	}
	var neighbours []Neighbour
	for a, m := range by {
		neighbours = append(neighbours, Neighbour{a, m})
	}
	slices.SortFunc(forwards, compareForwards)
	slices.SortFunc(neighbours, compareNeighbours)
	return forwards, neighbours
}

func compareForwards(a, b Forward) int {
	return cmp.Or(bytes.Compare(a.MAC[:], b.MAC[:]), a.Endpoint.Compare(b.Endpoint))
}

func compareNeighbours(a, b Neighbour) int {
	return cmp.Or(a.Address.Compare(b.Address), bytes.Compare(a.MAC[:], b.MAC[:]))
}
