package planner

import (
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/proposed"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/forecast"
	"padis.io/padis/scheduler/record"
)

// parts are digests of what the world consists of, under the names that people know. Together they are all that World is of,
// and they are made by it, so that one of them differs if it does.
func parts(s core.Snapshot, d *proposed.State) map[string]string {
	knows := func(s core.Snapshot) string { return forecast.World(s, &proposed.State{}) }
	says := func(c declared.Input) string { return forecast.World(core.Snapshot{}, &proposed.State{Cluster: c}) }
	contents := map[config.Kind]config.Objects{config.ConfigMap: {}, config.Secret: {}}
	for ref, o := range d.Objects {
		if of := contents[ref.Kind]; of != nil {
			of[ref] = o
		}
	}
	r, c := &s.Records, &d.Cluster
	out := map[string]string{
		"the scheduler's settings or connection": knows(core.Snapshot{Config: s.Config, Connected: s.Connected}),
		"what is in force":                       knows(core.Snapshot{Records: record.Snapshot{Cluster: r.Cluster, Apps: r.Apps, Balancers: r.Balancers}}),
		"instances":                              knows(core.Snapshot{Records: record.Snapshot{Instances: r.Instances}}),
		"addresses":                              knows(core.Snapshot{Records: record.Snapshot{Leases: r.Leases}, Rotations: s.Rotations}),
		"agents":                                 knows(core.Snapshot{Agents: s.Agents}),
		"Apps":                                   forecast.World(core.Snapshot{}, &proposed.State{Apps: d.Apps}),
		"LoadBalancers":                          forecast.World(core.Snapshot{}, &proposed.State{Balancers: d.Balancers}),
		"Networks":                               says(declared.Input{Networks: c.Networks}),
		"IPPools":                                says(declared.Input{Pools: c.Pools}),
		"Tenants":                                says(declared.Input{Tenants: c.Tenants}),
		"Registries":                             says(declared.Input{Registries: c.Registries}),
		"ExecutorUpgrades":                       says(declared.Input{Upgrades: c.Upgrades}),
		"BGPPeers":                               says(declared.Input{Peers: c.Peers}),
		"ImagePrepulls":                          says(declared.Input{Prepulls: c.Prepulls}),
	}
	for kind, objects := range contents {
		out[string(kind)+"s"] = forecast.World(core.Snapshot{}, &proposed.State{Objects: objects})
	}
	for name, digest := range out {
		out[name] = digest[:shown]
	}
	return out
}

// shown is how much of a part's digest is given: enough to see that it has changed.
const shown = 16
