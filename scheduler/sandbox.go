package scheduler

import (
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/project"
	"padis.io/padis/scheduler/record"
)

// Sandbox is where the files of one run of an instance are.
type Sandbox struct {
	// AgentURL is the agent's HTTP endpoint, scheme://host:port.
	AgentURL                        string
	FrameworkID, ExecutorID, TaskID string
}

// sandboxes finds instances by name; it is part of memory.
type sandboxes struct {
	framework string
	records   map[[2]string]*padisv1.InstanceRecord
	names     map[record.Slot][2]string
	urls      map[string]string // by agent id
	hosts     map[string]string // agent id by host name
}

func newSandboxes() sandboxes {
	return sandboxes{records: map[[2]string]*padisv1.InstanceRecord{}, names: map[record.Slot][2]string{}, urls: map[string]string{}, hosts: map[string]string{}}
}

func (s *sandboxes) keep(c *core.Core, slots []record.Slot, agents []string) {
	s.framework = c.FrameworkID()
	for _, key := range slots {
		rec := c.Instance(key)
		if rec == nil {
			name := s.names[key]
			delete(s.names, key)
			// An App of the same name may have been created since; its instance is not this one.
			if old := s.records[name]; old.GetAppUid() == key.AppUID {
				delete(s.records, name)
			}
			continue
		}
		name := [2]string{rec.GetNamespace(), project.InstanceName(rec.GetApp(), rec.GetSlot())}
		s.names[key], s.records[name] = name, rec
	}
	for _, id := range agents {
		a, ok := c.Agent(id)
		if !ok {
			continue
		}
		s.urls[id], s.hosts[a.Record.GetHostname()] = a.Record.GetUrl(), id
	}
}

// Sandbox finds the files of an instance's present run, or of the one before it. ok is false when there was none, or
// when its host is not known any more.
func (l *Loop) Sandbox(namespace, name string, previous bool) (box Sandbox, ok bool) {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	s := &l.memory.sandboxes
	rec := s.records[[2]string{namespace, name}]
	agent, task := rec.GetAgentId(), rec.GetTaskId()
	ended := rec.GetLastTermination()
	if previous || agent == "" {
		// Between two runs the last one is what there is to see.
		agent, task = s.hosts[ended.GetHostname()], ended.GetTaskId()
	}
	executor := rec.GetExecutorId()
	box = Sandbox{AgentURL: s.urls[agent], FrameworkID: s.framework, ExecutorID: executor, TaskID: task}
	return box, box.AgentURL != "" && box.TaskID != "" && box.ExecutorID != ""
}
