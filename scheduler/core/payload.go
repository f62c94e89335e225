package core

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// task makes the launch of one instance and its record.
func (c *Core) task(now time.Time, a *agent, exec *padisv1.ExecutorRecord, cand candidate) (mesos.Task, *padisv1.InstanceRecord, error) {
	n, err := c.launched(now, a, exec, cand)
	if err != nil {
		return mesos.Task{}, nil, err
	}
	id := instance.TaskID(n)
	l := c.payload(a, n, cand)
	cand.s.shaped = cand.ghost != "" && cand.s.shaped || shaped(l)
	data, err := padisv1.Encode(l)
	if err != nil {
		return mesos.Task{}, nil, err
	}
	return mesos.Task{
		ID: id, Name: instance.Hostname(n), AgentID: a.id, Data: data,
		Labels:    map[string]string{"padis.io/namespace": n.GetNamespace(), "padis.io/app": n.GetApp()},
		KillGrace: time.Duration(cand.revision.GetTemplate().GetStop().GetGracePeriodMs()) * time.Millisecond,
	}, n, nil
}

// launched is the record after the launch.
func (c *Core) launched(now time.Time, a *agent, exec *padisv1.ExecutorRecord, cand candidate) (*padisv1.InstanceRecord, error) {
	switch {
	case cand.ghost != "":
		return instance.Exorcise(cand.s.rec, cand.ghost), nil
	case cand.pin() != "":
		return instance.Adopt(cand.s.rec, exec.GetExecutorId(), now)
	}
	p := instance.Placement{
		LeaseMs:  leaseMs(cand.s.app.rec, cand.links),
		Revision: cand.revision.GetHash(), AgentID: a.id, Hostname: a.hostname, ExecutorID: exec.GetExecutorId(),
		Container: cand.revision.GetTemplate().GetImage() != "",
	}
	for _, data := range mounted(cand.s.app.rec, cand.revision.GetTemplate(), false) {
		if p.Configs == nil {
			p.Configs = map[string]string{}
		}
		p.Configs[data.GetName()] = data.GetHash()
	}
	return instance.Place(cand.s.rec, p, now)
}

// payload is what the executor is told. n is the record after the launch.
func (c *Core) payload(a *agent, n *padisv1.InstanceRecord, cand candidate) *padisv1.Launch {
	t := cand.revision.GetTemplate()
	l := &padisv1.Launch{
		Namespace: n.GetNamespace(), App: n.GetApp(), AppUid: n.GetAppUid(), Slot: n.GetSlot(), Attempt: n.GetAttempt(),
		Revision: cand.revision.GetHash(), Template: t, Hostname: instance.Hostname(n), Tenant: n.GetTenant(),
		Container: n.GetContainer(), Adopt: cand.pin() != "", Configs: mounted(cand.s.app.rec, t, false),
	}
	switch {
	case cand.ghost != "":
		l.Container = cand.container
		return l
	case l.Adopt:
		l.WasReady = n.GetReadyMs() != 0
	}
	if t.GetImage() != "" {
		l.RegistryAuths, l.Registries = cand.s.app.rec.GetRegistryAuths(), c.registries(a)
	}
	for _, link := range cand.links {
		// What is adopted would be answered by itself.
		link.Probe = instance.Haunted(n) && !l.Adopt && link.GetAddress() != ""
		link.Network = a.routers(link.GetNetwork())
		l.Attachments = append(l.Attachments, link)
	}
	l.LoopbackAddresses, l.LeaseMs = c.loopbacks(cand.s, cand.links), n.GetLeaseMs()
	_, l.DrainMs = c.balanced(cand.s)
	if len(cand.leases) > 0 {
		l.DnsServers, l.DnsSearch = c.book.DNS(cand.leases[0].GetPool())
	}
	return l
}

// routers leaves of a network's BGP peers those that are the agent's.
func (a *agent) routers(n *padisv1.Network) *padisv1.Network {
	peers := n.GetBgp().GetPeers()
	elsewhere := func(p *padisv1.BgpPeer) bool { return !Selects(p.GetAgents(), a.hostname, a.attributes) }
	if !slices.ContainsFunc(peers, elsewhere) {
		return n
	}
	n = proto.Clone(n).(*padisv1.Network)
	n.Bgp.Peers = slices.DeleteFunc(n.Bgp.Peers, elsewhere)
	return n
}
