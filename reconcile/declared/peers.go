package declared

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Peer is a router that is in force.
type Peer struct {
	Wire *padisv1.AnnouncementPeer
	// MaximumPaths that the router is set up for; 0 is unknown.
	MaximumPaths int32
}

func (p Peer) same(o Peer) bool {
	return p.MaximumPaths == o.MaximumPaths && proto.Equal(p.Wire, o.Wire)
}

// Peer gives a BGPPeer that is in force.
func (v *View) Peer(name string) (Peer, bool) {
	p, ok := v.peers[name]
	return p, ok
}

// AllPeers gives the names of the BGPPeers that are declared, in force or not.
func (v *View) AllPeers() []string { return slices.Sorted(maps.Keys(v.Peers)) }

// peersOf judges the routers one by one, oldest first.
func (v *View) peersOf(in Input) {
	problems := map[string]v1alpha1.Problem{}
	for _, p := range v1alpha1.ValidateBGPPeers(in.Peers) {
		problems[strings.TrimPrefix(p.Object, "bgppeer/")] = p
	}
	for i := range in.Peers {
		p := &in.Peers[i]
		wire, missing := config.Peer(p, in.Secrets)
		clash, clashes := problems[p.Name]
		switch errs := v1alpha1.ValidateBGPPeer(p); {
		case len(errs) > 0:
			v.Peers[p.Name] = refused(padisv1.ReasonInvalid, "%s: %s", errs[0].Field, errs[0].ErrorBody())
		case clashes:
			v.Peers[p.Name] = refused(clash.Reason, "%s: %q %s", clash.Field, clash.Value, clash.Message)
		case missing != nil:
			v.Peers[p.Name] = refused(missing.Reason, "%s", missing.Message)
		default:
			v.Peers[p.Name] = accepted("LoadBalancers can announce to it")
			v.peers[p.Name] = Peer{Wire: wire, MaximumPaths: p.Spec.MaximumPaths}
		}
	}
}

// PeerProgress gives the status of a BGPPeer that is in force, but for what is the same for all kinds: its sessions with the
// directors of all LoadBalancers.
func PeerProgress(p *v1alpha1.BGPPeer, balances []*runtime.Balance) v1alpha1.BGPPeerStatus {
	up, all := 0, 0
	var down, blind []string
	for _, b := range sortedBalances(balances) {
		for _, d := range b.Directors {
			for _, s := range d.Sessions {
				if s.Peer != p.Name {
					continue
				}
				all++
				if s.Established {
					up++
				} else {
					down = append(down, strings.TrimSuffix(fmt.Sprintf("%s/%s: %s", b.Namespace, d.Instance, s.Message), ": "))
				}
				if s.BFD == "down" {
					blind = append(blind, b.Namespace+"/"+d.Instance)
				}
			}
		}
	}
	if all == 0 {
		return v1alpha1.BGPPeerStatus{}
	}
	c := metav1.Condition{Type: v1alpha1.ConditionPeersUp, Status: metav1.ConditionTrue, Reason: padisv1.ReasonReady, Message: plural(all, "session is up", "sessions are up")}
	switch {
	case up < all:
		c.Status, c.Reason = metav1.ConditionFalse, padisv1.ReasonPeerDown
		c.Message = fmt.Sprintf("%d of %s up; not up: %s; compare the spec with the configuration of the router: address, asn, password", up, plural(all, "session is", "sessions are"), few(down))
	case len(blind) > 0:
		c.Status, c.Reason = metav1.ConditionFalse, padisv1.ReasonPeerDown
		c.Message = fmt.Sprintf("%s up, but BFD is not with %s: set it up on the router, or unset spec.bfd", plural(all, "session is", "sessions are"), few(blind))
	}
	return v1alpha1.BGPPeerStatus{Sessions: fmt.Sprintf("%d/%d", up, all), Conditions: []metav1.Condition{c}}
}

func sortedBalances(in []*runtime.Balance) []*runtime.Balance {
	out := slices.DeleteFunc(slices.Clone(in), func(b *runtime.Balance) bool { return b == nil })
	slices.SortFunc(out, func(a, b *runtime.Balance) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out
}
