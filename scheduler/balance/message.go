package balance

import (
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Relay is what the hosts of real servers are told. Where directors do not place flows by the table, hosts have none: they would
// send the beginning of each to another server than the director has chosen.
func Relay(w *padisv1.WantedBalancer, rec *padisv1.BalanceRecord) *padisv1.Balance {
	b := whole(w, rec)
	if !placed(rec.GetOrder()) {
		b.Services, b.Tcp, b.Udp = nil, nil, nil
	}
	return b
}

// placed tells whether the table alone decides about flows, on every director.
func placed(o *padisv1.DirectorOrder) bool {
	return (o.GetScheduler() == "maglev" || o.GetScheduler() == "sh") && o.GetMaxConnections() == 0
}

func whole(w *padisv1.WantedBalancer, rec *padisv1.BalanceRecord) *padisv1.Balance {
	return &padisv1.Balance{
		Uid: rec.GetUid(), Number: rec.GetNumber(), Namespace: w.GetNamespace(), Name: w.GetName(),
		Services: rec.GetServices(), Tcp: rec.GetTcp(), Udp: rec.GetUdp(), Servers: rec.GetServers(),
	}
}

// Direct is what one agent is told for its directors, whose task ids are given, sorted. chosen tells which routers are the agent's.
func Direct(w *padisv1.WantedBalancer, rec *padisv1.BalanceRecord, tasks []string, chosen func([]*padisv1.AgentSelector) bool) *padisv1.Balance {
	b := whole(w, rec)
	o := rec.GetOrder()
	a := &padisv1.Announcement{Asn: o.GetAnnouncement().GetAsn(), Communities: o.GetAnnouncement().GetCommunities(), LocalPref: o.GetAnnouncement().GetLocalPref(), Med: o.GetAnnouncement().GetMed()}
	for _, p := range o.GetAnnouncement().GetPeers() {
		if chosen(p.GetRouter().GetAgents()) {
			a.Peers = append(a.Peers, p)
		}
	}
	b.Director = &padisv1.DirectorOrder{Tasks: tasks, Dataplane: o.GetDataplane(), Scheduler: o.GetScheduler(), MinServers: o.GetMinServers(),
		Checks: o.GetChecks(), Announcement: a, MaxConnections: o.GetMaxConnections()}
	return b
}
