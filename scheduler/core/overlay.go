package core

import (
	"cmp"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// overlay is who is where in one VXLAN network.
type overlay struct {
	network *padisv1.Network
	// hosts hold the interfaces of the instances on each agent, by their addresses.
	hosts map[string]map[string]bool
	// ends are those hosts by where their tunnels end; nil when something has changed. Agents of one host have one end.
	ends []*padisv1.OverlayHost
	// told are the parts that agents were told, made of the present ends.
	told map[string]*padisv1.Overlay
	// before are those made of earlier ends.
	before map[string]*padisv1.Overlay
}

// seat is one interface of an instance in an overlay. Its address is two with a comma between, IPv4 first, if it has both
// families: its hardware address follows from the IPv4 one, so that the other means nothing without it.
type seat struct{ network, agent, address string }

// overlaid takes up the VXLAN networks that are declared.
func (c *Core) overlaid() {
	old := c.overlays
	c.overlays = map[string]*overlay{}
	for _, n := range c.cluster.GetNetworks() {
		if n.GetDriver() == driverVXLAN {
			c.overlays[n.GetName()] = &overlay{network: n, hosts: map[string]map[string]bool{}}
			if o := old[n.GetName()]; o != nil {
				c.overlays[n.GetName()].before = o.told
			}
		}
	}
	for _, s := range c.slots {
		s.seats = nil
		c.sit(s)
	}
}

const driverVXLAN = "vxlan"

// sit keeps the overlays true after the slot's record or leases have changed.
func (c *Core) sit(s *slot) {
	seats := c.seatsOf(s)
	if slices.Equal(s.seats, seats) {
		return
	}
	for _, p := range s.seats {
		if o := c.overlays[p.network]; o != nil {
			if delete(o.hosts[p.agent], p.address); len(o.hosts[p.agent]) == 0 {
				delete(o.hosts, p.agent)
			}
			c.unsettle(o)
		}
		c.turn.heed[p.agent] = true
	}
	for _, p := range seats {
		o := c.overlays[p.network]
		if o.hosts[p.agent] == nil {
			o.hosts[p.agent] = map[string]bool{}
		}
		o.hosts[p.agent][p.address] = true
		c.unsettle(o)
	}
	s.seats = seats
}

// seatsOf are the interfaces of the slot's instance in overlays, as its executor makes them of what was launched: in the
// order of the wishes, an address joins the first interface of its network that has none of its family.
func (c *Core) seatsOf(s *slot) []seat {
	if len(c.overlays) == 0 || !instance.HasTask(s.rec.GetPhase()) {
		return nil
	}
	var seats []seat
	half := map[seat]bool{} // Those with one family, and which.
	for _, l := range assign(s.app.revisions[s.rec.GetRevision()].GetNetworks(), s.key.Index, s.leases) {
		addr, err := netip.ParseAddr(l.GetAddress())
		if l == nil || c.overlays[l.GetNetwork()] == nil || err != nil {
			continue
		}
		at := slices.IndexFunc(seats, func(o seat) bool {
			four, single := half[o]
			return single && o.network == l.GetNetwork() && four != addr.Is4()
		})
		if at < 0 {
			seats = append(seats, seat{l.GetNetwork(), s.rec.GetAgentId(), l.GetAddress()})
			half[seats[len(seats)-1]] = addr.Is4()
			continue
		}
		pair := []string{seats[at].address, l.GetAddress()}
		if addr.Is4() {
			slices.Reverse(pair)
		}
		seats[at].address = strings.Join(pair, ",")
	}
	return seats
}

// unsettle notes that the agents of an overlay must be told something else.
func (c *Core) unsettle(o *overlay) {
	o.ends = nil
	c.turn.overlays[o.network.GetName()] = true
}

// moved notes that the tunnels of an agent may end elsewhere.
func (c *Core) moved(a *agent) {
	for _, o := range c.overlays {
		if o.hosts[a.id] != nil {
			c.unsettle(o)
		}
	}
}

// settleOverlays makes the agents heed whose overlays have changed.
func (c *Core) settleOverlays() {
	for name := range c.turn.overlays {
		o := c.overlays[name]
		if o == nil {
			continue
		}
		for id := range o.hosts {
			c.turn.heed[id] = true
		}
	}
}

// survey finds the ends of an overlay if they are not known.
func (c *Core) survey(o *overlay) {
	if o.ends != nil {
		return
	}
	ends := map[string]map[string]bool{}
	for id, addresses := range o.hosts {
		end := c.endpoint(c.agents[id], o.network)
		if end == "" {
			continue // It is told when its executor has spoken.
		}
		if ends[end] == nil {
			ends[end] = map[string]bool{}
		}
		maps.Copy(ends[end], addresses)
	}
	o.ends = []*padisv1.OverlayHost{}
	for _, end := range slices.Sorted(maps.Keys(ends)) {
		o.ends = append(o.ends, &padisv1.OverlayHost{Endpoint: end, Addresses: slices.Sorted(maps.Keys(ends[end]))})
	}
	for id, t := range o.told {
		if o.before == nil {
			o.before = map[string]*padisv1.Overlay{}
		}
		o.before[id] = t
	}
	o.told = map[string]*padisv1.Overlay{}
	maps.DeleteFunc(o.before, func(id string, _ *padisv1.Overlay) bool { return o.hosts[id] == nil })
}

// overlaysOf are the overlays of an agent, by network. What has not changed is the same message as before.
func (c *Core) overlaysOf(a *agent) []*padisv1.Overlay {
	networks := map[string]bool{}
	for key := range a.slots {
		for _, p := range c.slots[key].seats {
			if p.agent == a.id {
				networks[p.network] = true
			}
		}
	}
	var out []*padisv1.Overlay
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		o := c.overlays[name]
		c.survey(o)
		if o.told[a.id] == nil {
			own := c.endpoint(a, o.network)
			t := &padisv1.Overlay{Network: name}
			for _, h := range o.ends {
				if h.GetEndpoint() != own {
					t.Hosts = append(t.Hosts, h)
				}
			}
			if b := o.before[a.id]; b != nil && proto.Equal(b, t) {
				t = b
			}
			o.told[a.id] = t
		}
		out = append(out, o.told[a.id])
	}
	return out
}

// endpoint is where the tunnels of a network end on an agent: the first address of the network's parent, or of the bridge
// that took it over; without a parent the address by which Mesos knows the host, else its first one. Empty if none is
// known.
func (c *Core) endpoint(a *agent, n *padisv1.Network) string {
	if a == nil {
		return ""
	}
	if parent := n.GetParent(); parent != "" {
		at := a.address(parent)
		for _, o := range c.cluster.GetNetworks() {
			if at == "" && o.GetParent() == parent && o.GetTakeParent() {
				at = a.address(cmp.Or(o.GetBridge(), padisv1.BridgeName(o.GetName())))
			}
		}
		return at
	}
	for _, text := range []string{a.hostname, hostOf(a.url)} {
		if addr, err := netip.ParseAddr(text); err == nil && !addr.IsLoopback() {
			return addr.String()
		}
	}
	return a.address("")
}

// address is the first address of an interface of the host that others can reach; of any interface if none is named.
func (a *agent) address(iface string) string {
	for _, h := range a.seen.hosts {
		text, _, _ := strings.Cut(h.GetAddress(), "/")
		addr, err := netip.ParseAddr(text)
		if err == nil && (iface == "" || h.GetInterface() == iface) && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
			return addr.String()
		}
	}
	return ""
}

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
