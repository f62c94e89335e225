package project

import (
	"fmt"
	"net/netip"
	"slices"

	"padis.io/padis/api/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
)

// StateWaiting is that of a real server that is not in the table; the others have the words of package lb.
const StateWaiting = "waiting"

// Balance shows how it stands with a LoadBalancer.
func Balance(v balance.View) *runtime.Balance {
	out := &runtime.Balance{UID: v.Wanted.GetUid(), Namespace: v.Wanted.GetNamespace(), Name: v.Wanted.GetName(), Number: v.Record.GetNumber(), Problem: v.Problem}
	for _, x := range v.VIPs {
		vip := runtime.BalanceVIP{Pool: x.Pool, Address: x.Address, Reason: x.Reason, Message: x.Message}
		for _, d := range v.Directors {
			if x.Address != "" && slices.Contains(d.State.GetAnnounced(), x.Address) {
				vip.Announcing = append(vip.Announcing, d.Instance)
			}
		}
		out.VIPs = append(out.VIPs, vip)
	}
	owned, size := v.Tables.Shares()
	for _, s := range v.Servers {
		out.Servers = append(out.Servers, server(s, owned[s.ID], size))
	}
	for _, d := range v.Directors {
		out.Directors = append(out.Directors, director(d, v.Record))
	}
	for _, h := range v.Hosts {
		out.Hosts = append(out.Hosts, runtime.BalanceHost{Host: h.Host, Number: h.Number, Reason: h.Reason, Message: h.Message})
	}
	for _, b := range v.Backends {
		out.Backends = append(out.Backends, runtime.BalanceBackend{Index: b.Index, Reason: b.Reason, Message: b.Message})
	}
	return out
}

func server(s balance.Server, owned, size int32) runtime.BalanceServer {
	out := runtime.BalanceServer{ID: s.ID, Instance: s.Instance, Host: s.Host, Address: s.Address, State: StateWaiting, Reason: s.Why, Message: s.Say, Weight: s.Declared, Table: size}
	if s.InTable {
		out.State, out.Slots = s.State.String(), owned
	}
	return out
}

func director(d balance.Director, rec *padisv1.BalanceRecord) runtime.BalanceDirector {
	st := d.State
	out := runtime.BalanceDirector{
		Instance: d.Instance, Host: d.Host, Address: d.Address, Phase: Phase(d.Phase), Ready: d.Ready, Number: st.GetNumber(), Dataplane: st.GetDataplane(),
		Announced: slices.Clone(st.GetAnnounced()), Draining: st.GetDraining(), Reason: st.GetReason(), Message: st.GetMessage(),
	}
	for _, s := range st.GetSessions() {
		out.Sessions = append(out.Sessions, runtime.DirectorSession{Peer: s.GetPeer(), Address: s.GetAddress(), Established: s.GetEstablished(), Message: s.GetMessage(), BFD: s.GetBfd()})
	}
	for _, f := range st.GetFailures() {
		// Of a server that has left it may still say something.
		if i := slices.IndexFunc(rec.GetServers(), func(s *padisv1.RealServer) bool { return s.GetId() == f.GetServer() }); i >= 0 {
			out.Failures = append(out.Failures, runtime.ServerFailure{Instance: rec.GetServers()[i].GetInstance(), Message: f.GetMessage()})
		}
	}
	return out
}

// Trace shows the way of one flow; it refuses what is not a flow.
func Trace(v balance.View, client, vip netip.AddrPort, protocol string) (runtime.Trace, error) {
	p, err := balance.Trace(v.Record, v.Tables, client, vip, protocol)
	if err != nil {
		return runtime.Trace{}, err
	}
	out := runtime.Trace{Slot: int32(p.Slot), Table: int32(p.Size), Number: v.Record.GetNumber(), Refusal: p.Refusal}
	for _, l := range v.Wanted.GetListeners() {
		if s := p.Service; s != nil && l.GetProtocol() == s.GetProtocol() && l.GetFirstPort() == s.GetFirstPort() {
			out.Listener = l.GetName()
		}
	}
	owned, size := v.Tables.Shares()
	for _, id := range p.Chain {
		if i := slices.IndexFunc(v.Servers, func(s balance.Server) bool { return s.ID == id }); i >= 0 {
			out.Chain = append(out.Chain, server(v.Servers[i], owned[id], size))
		}
	}
	for _, d := range v.Directors {
		if p.Service != nil && slices.Contains(d.State.GetAnnounced(), p.Service.GetVip()) {
			out.Directors = append(out.Directors, d.Instance)
		}
		if own := d.State.GetDataplane(); out.Refusal == "" && (own == "ipvs" || own == "nft") {
			out.Refusal = fmt.Sprintf("where the flow goes cannot be foretold: %s forwards by %s, which places flows by a hash of its own; use the dataplane tcx, or ask the directors", d.Instance, own)
		}
	}
	return out, nil
}
