package config

import (
	"fmt"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// maxPassword is the longest key of TCP MD5 that Linux takes, in bytes.
const maxPassword = 80

// NetworkRefs lists the Secrets that a Network refers to.
func NetworkRefs(n *v1alpha1.Network) []Ref {
	var out []Ref
	if n.Spec.BGP != nil {
		for _, p := range n.Spec.BGP.Peers {
			if s := p.PasswordSecret; s != nil {
				out = append(out, Ref{Secret, s.Namespace, s.Name})
			}
		}
	}
	return distinct(out)
}

// Bgp gives the routers of a Network with their passwords; nil if it has none.
func Bgp(n *v1alpha1.Network, objects Objects) (*padisv1.Bgp, *Problem) {
	b := n.Spec.BGP
	if b == nil {
		return nil, nil
	}
	out := &padisv1.Bgp{Asn: uint32(b.ASN)}
	for i, p := range b.Peers {
		peer := &padisv1.BgpPeer{Address: p.Address, Asn: uint32(p.ASN), Port: p.Port}
		if s := p.PasswordSecret; s != nil {
			at := fmt.Sprintf("spec.bgp.peers[%d].passwordSecret", i)
			password, problem := objects.password(at, Ref{Secret, s.Namespace, s.Name}, s.Key)
			if problem != nil {
				return nil, problem
			}
			peer.Password = password
		}
		if p.HoldTime != nil {
			peer.HoldMs = p.HoldTime.Milliseconds()
		}
		for _, a := range p.Agents {
			peer.Agents = append(peer.Agents, &padisv1.AgentSelector{Attribute: a.Attribute, Value: a.Value})
		}
		out.Peers = append(out.Peers, peer)
	}
	return out, nil
}

// PeerRefs lists the Secrets that a BGPPeer refers to.
func PeerRefs(p *v1alpha1.BGPPeer) []Ref {
	if s := p.Spec.PasswordSecret; s != nil {
		return []Ref{{Secret, s.Namespace, s.Name}}
	}
	return nil
}

// Peer gives a BGPPeer with its password.
func Peer(p *v1alpha1.BGPPeer, objects Objects) (*padisv1.AnnouncementPeer, *Problem) {
	out := &padisv1.AnnouncementPeer{Name: p.Name, BothFamilies: p.Spec.BothFamilies, Router: &padisv1.BgpPeer{
		Address: p.Spec.Address, Asn: uint32(p.Spec.ASN), Port: p.Spec.Port, HoldMs: p.Spec.Hold().Milliseconds(),
	}}
	if a, err := v1alpha1.ParseAddress(p.Spec.Address); err == nil {
		out.Router.Address = a.String()
	}
	if b := p.Spec.BFD; b != nil {
		out.BfdIntervalMs, out.BfdMultiplier = b.Every().Milliseconds(), b.Missing()
	}
	for _, a := range p.Spec.Agents {
		out.Router.Agents = append(out.Router.Agents, &padisv1.AgentSelector{Attribute: a.Attribute, Value: a.Value})
	}
	if s := p.Spec.PasswordSecret; s != nil {
		password, problem := objects.password("spec.passwordSecret", Ref{Secret, s.Namespace, s.Name}, s.Key)
		if problem != nil {
			return nil, problem
		}
		out.Router.Password = password
	}
	return out, nil
}

func (o Objects) password(at string, r Ref, key string) (string, *Problem) {
	found, problem := o.get(at+".name", r)
	if problem != nil {
		return "", problem
	}
	raw, problem := found.key(at+".key", r, key)
	if problem != nil {
		return "", problem
	}
	if len(raw) == 0 || len(raw) > maxPassword {
		return "", invalid(at+".key", "key %q of Secret %q in namespace %s has %d bytes, and a password of a session has 1 to %d: correct the Secret", key, r.Name, r.Namespace, len(raw), maxPassword)
	}
	return text(at+".key", r, key, raw)
}
