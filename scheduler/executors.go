package scheduler

import (
	"cmp"
	"maps"
	"slices"

	"padis.io/padis/api/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
)

// Endpoint is where the executor that looks after an instance gives access to it.
type Endpoint struct {
	// Agent is the Mesos id, Host the name of the host.
	Agent, Host string
	// Address is host:port, Certificate the DER of what its TLS server must show.
	Address     string
	Certificate []byte
	// TaskID of the run and Container that it is called by on its host; empty in what speaks of an agent.
	TaskID, Container string
}

// executors is what the executors said last, and what is wanted of them; it is part of memory.
type executors struct {
	says    map[string]said
	cluster *padisv1.Cluster
	upgrade runtime.Upgrade
}

// said is the last word of the executor on one agent.
type said struct {
	record *padisv1.AgentRecord
	says   *padisv1.FromExecutor
}

func newExecutors() executors { return executors{says: map[string]said{}} }

func (e *executors) keep(c *core.Core, agents []string) {
	for _, id := range agents {
		if a, ok := c.Agent(id); ok && a.Executor != "" && a.Says != nil {
			e.says[id] = said{a.Record, a.Says}
		} else {
			delete(e.says, id)
		}
	}
	e.cluster, e.upgrade = c.Cluster(), runtime.Upgrade{}
	if u := c.Upgrade(); u != nil {
		e.upgrade = runtime.Upgrade{Target: u.Target, Total: u.Total, Updated: u.Updated, Upgrading: u.Upgrading, Skipped: u.Skipped, Message: u.Message}
	}
}

func (e *executors) endpoint(agent string) Endpoint {
	s := e.says[agent]
	return Endpoint{Agent: agent, Host: s.record.GetHostname(), Address: s.says.GetEndpoint(), Certificate: s.says.GetCertificate()}
}

// Endpoint finds who gives access to an instance's present run, or to the one before it. ok is false when there is no
// such run, or when the executor on its host has not said where it listens.
func (l *Loop) Endpoint(namespace, name string, previous bool) (at Endpoint, ok bool) {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	s := &l.memory.sandboxes
	rec := s.records[[2]string{namespace, name}]
	agent, task, container := rec.GetAgentId(), rec.GetTaskId(), rec.GetContainer()
	if previous || agent == "" {
		// Between two runs the last one is what there is to see.
		ended := rec.GetLastTermination()
		agent, task, container = s.hosts[ended.GetHostname()], ended.GetTaskId(), ended.GetContainer()
	}
	at = l.memory.executors.endpoint(agent)
	at.TaskID, at.Container = task, cmp.Or(container, task)
	return at, at.Address != "" && task != ""
}

// Endpoints lists all executors that said where they listen, by agent.
func (l *Loop) Endpoints() []Endpoint {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	var out []Endpoint
	for _, id := range slices.Sorted(maps.Keys(l.memory.executors.says)) {
		if at := l.memory.executors.endpoint(id); at.Address != "" {
			out = append(out, at)
		}
	}
	return out
}

// PrepullStates tells what became of the images of one declaration on each agent that it speaks of and where an executor
// of ours runs, by agent, in the order of the declaration. It must not be changed.
func (l *Loop) PrepullStates(namespace, name string) []runtime.AgentImage {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	e := &l.memory.executors
	i := slices.IndexFunc(e.cluster.GetPrepulls(), func(p *padisv1.Prepull) bool { return p.GetNamespace() == namespace && p.GetName() == name })
	if i < 0 {
		return nil
	}
	p := e.cluster.GetPrepulls()[i]
	var out []runtime.AgentImage
	for _, id := range slices.Sorted(maps.Keys(e.says)) {
		s := e.says[id]
		if !core.Selects(p.GetAgents(), s.record.GetHostname(), s.record.GetAttributes()) {
			continue
		}
		for _, image := range p.GetImages() {
			out = append(out, s.image(image))
		}
	}
	return out
}

// image is what the executor said of one image.
func (s said) image(image string) runtime.AgentImage {
	out := runtime.AgentImage{Agent: s.record.GetAgentId(), Host: s.record.GetHostname(), Image: image}
	for _, st := range s.says.GetImages() {
		if st.GetImage() == image {
			out.Present, out.Reason, out.Message = st.GetPresent(), st.GetReason(), st.GetMessage()
		}
	}
	switch {
	case out.Present || out.Reason != "":
	case s.says.GetNoContainers() != "":
		out.Reason, out.Message = padisv1.ReasonRuntimeUnavailable, s.says.GetNoContainers()
	default:
		out.Reason, out.Message = padisv1.ReasonPulling, "is on its way"
	}
	return out
}

// UpgradeStatus tells how far the replacement of executors is; zero if none is asked for. It must not be changed.
func (l *Loop) UpgradeStatus() runtime.Upgrade {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.memory.executors.upgrade
}
