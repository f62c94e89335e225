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
