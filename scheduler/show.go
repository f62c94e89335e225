package scheduler

import (
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/project"
	"padis.io/padis/scheduler/record"
)

// shown remembers what the views hold, to delete it when the core no longer knows its name.
type shown struct {
	all       bool
	instances map[record.Slot][2]string
	agents    map[string]string
	addresses map[core.Address]string
}

func newShown() shown {
	return shown{instances: map[record.Slot][2]string{}, agents: map[string]string{}, addresses: map[core.Address]string{}}
}

// show brings the views up to date; the first time all of them, since they start empty with the process.
func (l *Loop) show(ch core.Changed) {
	if !l.shown.all {
		l.shown.all = true
		ch = core.Changed{Slots: l.core.Slots()}
		for _, a := range l.core.Agents() {
			ch.Agents = append(ch.Agents, a.Record.GetAgentId())
		}
		ch.Addresses = l.core.Addresses()
	}
	if l.cfg.Instances != nil {
		for _, key := range ch.Slots {
			l.showInstance(key)
		}
	}
	if l.cfg.Agents != nil {
		for _, id := range ch.Agents {
			l.showAgent(id)
		}
	}
	if l.cfg.Addresses != nil {
		for _, at := range ch.Addresses {
			l.showAddress(at)
		}
	}
}

func (l *Loop) showInstance(key record.Slot) {
	rec := l.core.Instance(key)
	if rec == nil {
		if name, ok := l.shown.instances[key]; ok {
			delete(l.shown.instances, key)
			// An App of the same name may have been created since; its instance is not this one.
			for _, other := range l.shown.instances {
				if other == name {
					return
				}
			}
			l.cfg.Instances.Delete(name[0], name[1])
		}
		return
	}
	l.shown.instances[key] = [2]string{rec.GetNamespace(), project.InstanceName(rec.GetApp(), rec.GetSlot())}
	l.cfg.Instances.Set(project.Instance(rec, l.core.Refusals(key), l.core.Labels(key)))
}

func (l *Loop) showAgent(id string) {
	a, ok := l.core.Agent(id)
	if !ok || a.Record.GetHostname() == "" {
		if name, ok := l.shown.agents[id]; ok {
			delete(l.shown.agents, id)
			l.cfg.Agents.Delete("", name)
		}
		return
	}
	l.shown.agents[id] = project.AgentName(id)
	l.cfg.Agents.Set(project.Agent(a.Record, a.Seen, a.Present, a.Used, a.Instances, a.Executor))
}

func (l *Loop) showAddress(at core.Address) {
	a := address(l.core, at)
	if a == nil {
		if name, ok := l.shown.addresses[at]; ok {
			delete(l.shown.addresses, at)
			l.cfg.Addresses.Delete("", name)
		}
		return
	}
	l.shown.addresses[at] = at.Address
	l.cfg.Addresses.Set(a)
}
