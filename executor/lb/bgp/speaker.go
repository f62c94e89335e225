package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"go.uber.org/zap"
)

const table = "global"

// Speaker announces one State to its peers. All methods may be called from several goroutines.
type Speaker struct {
	config Config
	log    *zap.Logger
	server *server.BgpServer
	stop   context.CancelFunc

	// One at a time changes what GoBGP has.
	set sync.Mutex
	// What GoBGP has, as far as it took it. Peers and Paths are by address and prefix.
	peers    map[netip.Addr]Peer
	paths    map[netip.Prefix]Path
	policies map[string]bool
	groups   map[string]uint32
	drained  bool
	closed   bool

	sessions sessions
}

// New starts a speaker that has no peers yet. The error is of the Config, or that it cannot listen.
func New(c Config, log *zap.Logger) (*Speaker, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("bgp: %w", err)
	}
	s := &Speaker{config: c, log: log, peers: map[netip.Addr]Peer{}, paths: map[netip.Prefix]Path{},
		policies: map[string]bool{}, groups: map[string]uint32{}, sessions: newSessions()}
	s.server = server.NewBgpServer(server.LoggerOption(ear{log, s.sessions.tell}))
	go s.server.Serve() // for the life of the process: GoBGP has no way to end it
	g := &api.Global{Asn: c.ASN, RouterId: c.RouterID.String(), ListenPort: -1}
	if c.Listen {
		g.ListenPort = int32(c.Port) // 0 is 179 to GoBGP too
		if c.LocalAddress.IsValid() {
			g.ListenAddresses = []string{c.LocalAddress.String()}
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	err := s.server.StartBgp(ctx, &api.StartBgpRequest{Global: g})
	if err == nil {
		err = s.addPolicy(ctx, ownPolicy())
	}
	if err == nil { // what routers announce stays out, so that nothing of it goes from one to the other
		err = s.assign(ctx, api.PolicyDirection_IMPORT, []policy{ownPolicy()})
	}
	if err == nil {
		err = s.assign(ctx, api.PolicyDirection_EXPORT, nil)
	}
	if err == nil {
		err = s.server.WatchEvent(ctx, &api.WatchEventRequest{
			Peer:  &api.WatchEventRequest_Peer{},
			Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{{Type: api.WatchEventRequest_Table_Filter_EOR}}},
		}, s.event)
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("bgp: start: %w", err)
	}
	return s, nil
}

// Set makes st what is announced, and to whom. What did not change is not touched: neither its session nor its route. A
// State that is not valid changes nothing. Otherwise the error says what could not be done; the rest is done, and the same
// Set again tries what is missing. When it returns, the updates are on their way to the peers.
func (s *Speaker) Set(st State) error {
	if err := st.Validate(); err != nil {
		return fmt.Errorf("bgp: %w", err)
	}
	st = st.normal(s.config)
	s.set.Lock()
	defer s.set.Unlock()
	if s.closed {
		return errors.New("bgp: the speaker is closed")
	}
	ctx := context.Background()
	var errs []error
	note := func(what string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("bgp: %s: %w", what, err))
		}
		return err == nil
	}
	wanted := make(map[netip.Addr]bool, len(st.Peers))
	for _, p := range st.Peers {
		wanted[p.Address] = true
		if old, ok := s.peers[p.Address]; ok && old != p {
			note("peer "+p.Address.String(), s.deletePeer(ctx, old))
		}
	}
	for a, p := range s.peers {
		if !wanted[a] {
			note("peer "+a.String(), s.deletePeer(ctx, p))
		}
	}
	if note("policies", s.setPolicies(ctx, st)) {
		s.setPaths(ctx, st.Paths, note)
	}
	// Last, so that a new peer hears all at once, and keeps none of its old routes for longer than that.
	for _, p := range st.Peers {
		if _, ok := s.peers[p.Address]; !ok {
			note("peer "+p.Address.String(), s.addPeer(ctx, p))
		}
	}
	return errors.Join(errs...)
}

func (s *Speaker) setPaths(ctx context.Context, paths []Path, note func(string, error) bool) {
	wanted := make(map[netip.Prefix]bool, len(paths))
	for _, p := range paths {
		wanted[p.Prefix] = true
		if old, ok := s.paths[p.Prefix]; ok && equalPath(old, p) {
			continue
		}
		if note("prefix "+p.Prefix.String(), s.addPath(ctx, p)) {
			s.paths[p.Prefix] = p
		}
	}
	for prefix, p := range s.paths {
		if !wanted[prefix] {
			if note("prefix "+prefix.String(), s.deletePath(ctx, p)) {
				delete(s.paths, prefix)
			}
		}
	}
}

// setPolicies has a policy for each group of peers and each next hop. Those of before stay in force until the next time:
// GoBGP asks them whether a route that is gone had been announced.
func (s *Speaker) setPolicies(ctx context.Context, st State) error {
	var all []policy
	seen := map[string]bool{}
	add := func(p policy) {
		if !seen[p.name] {
			seen[p.name] = true
			all = append(all, p)
		}
	}
	for _, p := range st.Peers {
		if p.NextHop.IsValid() {
			add(nextHopPolicy(p))
		}
	}
	for _, paths := range [][]Path{st.Paths, values(s.paths)} {
		for _, p := range paths {
			add(groupPolicy(s.group(p), p.Peers))
		}
	}
	for _, p := range all {
		if err := s.addPolicy(ctx, p); err != nil {
			return err
		}
	}
	return s.assign(ctx, api.PolicyDirection_EXPORT, all)
}

func values(m map[netip.Prefix]Path) []Path {
	out := make([]Path, 0, len(m))
	for _, p := range m {
		out = append(out, p)
	}
	return out
}

func (s *Speaker) group(p Path) uint32 {
	key := groupKey(p.Peers)
	if _, ok := s.groups[key]; !ok {
		s.groups[key] = uint32(len(s.groups)) + 1
	}
	return s.groups[key]
}

func (s *Speaker) addPolicy(ctx context.Context, p policy) error {
	if s.policies[p.name] {
		return nil
	}
	for _, d := range p.sets {
		if err := s.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: d, Replace: true}); err != nil {
			return err
		}
	}
	err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: &api.Policy{Name: p.name, Statements: []*api.Statement{p.Statement}}})
	if err == nil {
		s.policies[p.name] = true
	}
	return err
}

// assign puts policies into force, in their order; what none of them accepts is rejected.
func (s *Speaker) assign(ctx context.Context, d api.PolicyDirection, policies []policy) error {
	a := &api.PolicyAssignment{Name: table, Direction: d, DefaultAction: api.RouteAction_REJECT}
	for _, p := range policies {
		a.Policies = append(a.Policies, &api.Policy{Name: p.name})
	}
	return s.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a})
}

func (s *Speaker) addPath(ctx context.Context, p Path) error {
	m, err := pathMessage(p, s.group(p), s.drained)
	if err == nil {
		_, err = s.server.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: m})
	}
	return err
}

func (s *Speaker) deletePath(ctx context.Context, p Path) error {
	m, err := pathMessage(p, s.group(p), s.drained)
	if err != nil {
		return err
	}
	return s.server.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: m})
}

func (s *Speaker) addPeer(ctx context.Context, p Peer) error {
	s.sessions.begin(p, time.Now())
	err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: peerMessage(p, s.config.LocalAddress, connected(p.Address))})
	if err != nil {
		s.sessions.forget(p.Address)
		return err
	}
	s.peers[p.Address] = p
	return nil
}

func (s *Speaker) deletePeer(ctx context.Context, p Peer) error {
	if err := s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: p.Address.String()}); err != nil {
		return err
	}
	delete(s.peers, p.Address)
	s.sessions.forget(p.Address)
	return nil
}

// connected says whether the address is in a subnet of this host.
func connected(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, i := range addrs {
		if p, err := netip.ParsePrefix(i.String()); err == nil && p.Masked().Contains(a) {
			return true
		}
	}
	return false
}

// event hears of sessions. GoBGP waits five seconds after the end of a session, and says in the next one that its routes
// were not kept. So a peer that had a session is made anew, and one that never had one is when another peer's session
// begins: with that, GoBGP regards the restart of all as over.
func (s *Speaker) event(e *api.WatchEventResponse) {
	if e.GetTable() != nil {
		go s.renew(func(_ netip.Addr, x *session) bool { return x.stale() })
		return
	}
	p := e.GetPeer()
	if p == nil || p.Type != api.WatchEventResponse_PeerEvent_STATE {
		return
	}
	a, err := netip.ParseAddr(p.Peer.State.NeighborAddress)
	if err != nil {
		return
	}
	began, ended := s.sessions.state(a, p.Peer.State.SessionState, time.Now())
	switch {
	case began:
		go s.renew(func(b netip.Addr, x *session) bool { return b != a && x.stale() })
	case ended:
		go s.renew(func(b netip.Addr, x *session) bool { return b == a && x.stale() })
	}
}

// renew makes the peers of a graceful restart anew that which selects.
func (s *Speaker) renew(which func(netip.Addr, *session) bool) {
	s.set.Lock()
	defer s.set.Unlock()
	if s.closed {
		return
	}
	ctx := context.Background()
	for a, p := range s.peers {
		if !s.sessions.is(a, which) {
			continue
		}
		keep := s.sessions.of(a)
		err := s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: a.String()})
		if err == nil {
			err = s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: peerMessage(p, s.config.LocalAddress, connected(a))})
		}
		if err != nil { // the next Set tries again
			delete(s.peers, a)
			s.sessions.forget(a)
			s.log.Warn("a BGP peer could not be made anew", zap.Stringer("peer", a), zap.Error(err))
			continue
		}
		s.sessions.restore(a, keep)
	}
}

// Sessions tells how it stands with each peer, in the order of their addresses.
func (s *Speaker) Sessions() []Session { return s.sessions.list() }

// Changed receives after sessions changed; several changes may be one.
func (s *Speaker) Changed() <-chan struct{} { return s.sessions.changed }

// Drain asks all routers to prefer anybody else (RFC 8326: community 65535:0, and local preference 0 in the own autonomous
// system), on all paths, those of later Sets too; or takes that back. Routes stay, so that what has nobody else goes on.
func (s *Speaker) Drain(on bool) error {
	s.set.Lock()
	defer s.set.Unlock()
	if s.closed || s.drained == on {
		return nil
	}
	s.drained = on
	var errs []error
	for prefix, p := range s.paths {
		if err := s.addPath(context.Background(), p); err != nil {
			delete(s.paths, prefix) // so that the next Set says it again
			errs = append(errs, fmt.Errorf("bgp: prefix %v: %w", prefix, err))
		}
	}
	return errors.Join(errs...)
}

// Withdraw takes back all paths; sessions stay.
func (s *Speaker) Withdraw() error {
	s.set.Lock()
	defer s.set.Unlock()
	var errs []error
	s.setPaths(context.Background(), nil, func(what string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("bgp: %s: %w", what, err))
		}
		return err == nil
	})
	return errors.Join(errs...)
}

// Close ends the Speaker's work. With withdraw it ends the sessions, upon which routers forget all routes. Without, it
// leaves them as they are for the end of the process, which has to follow: routers of a graceful restart then keep the
// routes, all others forget them.
func (s *Speaker) Close(withdraw bool) {
	s.set.Lock()
	defer s.set.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if !withdraw {
		return
	}
	s.stop()
	if err := s.server.StopBgp(context.Background(), &api.StopBgpRequest{}); err != nil {
		s.log.Warn("the BGP sessions could not be ended in order", zap.Error(err))
	}
}

func stateName(st api.PeerState_SessionState) string { return strings.ToLower(st.String()) }
