package master

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net"
	"slices"
	"strconv"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"

	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/wire"
)

// Version is the Mesos version whose behaviour this is.
const Version = "1.11.0"

var agentCapabilities = []mesos.AgentInfo_Capability{
	{Type: mesos.AgentInfo_Capability_MULTI_ROLE}, {Type: mesos.AgentInfo_Capability_HIERARCHICAL_ROLE},
	{Type: mesos.AgentInfo_Capability_RESERVATION_REFINEMENT},
}

// tell informs the operators' streams.
func (c *core) tell(event *masterpb.Event) {
	for out := range c.operators {
		out.Send(event)
	}
}

// watch adds an operator's stream.
func (c *core) watch(out stream) {
	out.Send(&masterpb.Event{Type: masterpb.Event_SUBSCRIBED, Subscribed: &masterpb.Event_Subscribed{
		GetState: c.state(), HeartbeatIntervalSeconds: new(HeartbeatInterval.Seconds()),
	}})
	out.Send(operatorHeartbeat)
	c.operators[out] = c.now.Add(HeartbeatInterval)
}

// operate answers an operator's call. A nil response means 200 without a body.
func (c *core) operate(call *masterpb.Call) (*masterpb.Response, *wire.Refusal) {
	switch call.Type {
	case masterpb.Call_UNKNOWN:
		return nil, wire.Refuse(400, "Failed to validate master::Call: Expecting 'type' to be present")
	case masterpb.Call_GET_HEALTH:
		return &masterpb.Response{Type: masterpb.Response_GET_HEALTH, GetHealth: &masterpb.Response_GetHealth{Healthy: true}}, nil
	case masterpb.Call_GET_VERSION:
		return &masterpb.Response{Type: masterpb.Response_GET_VERSION, GetVersion: &masterpb.Response_GetVersion{VersionInfo: mesos.VersionInfo{Version: Version}}}, nil
	case masterpb.Call_GET_FLAGS:
		return &masterpb.Response{Type: masterpb.Response_GET_FLAGS, GetFlags: &masterpb.Response_GetFlags{Flags: c.flags()}}, nil
	case masterpb.Call_GET_METRICS:
		return &masterpb.Response{Type: masterpb.Response_GET_METRICS, GetMetrics: &masterpb.Response_GetMetrics{Metrics: c.measure()}}, nil
	case masterpb.Call_GET_MASTER:
		return &masterpb.Response{Type: masterpb.Response_GET_MASTER, GetMaster: &masterpb.Response_GetMaster{
			MasterInfo: c.masterInfo(), StartTime: timestamp(c.started), ElectedTime: timestamp(c.started),
		}}, nil
	case masterpb.Call_GET_STATE:
		return &masterpb.Response{Type: masterpb.Response_GET_STATE, GetState: c.state()}, nil
	case masterpb.Call_GET_AGENTS:
		return &masterpb.Response{Type: masterpb.Response_GET_AGENTS, GetAgents: c.state().GetAgents}, nil
	case masterpb.Call_GET_FRAMEWORKS:
		return &masterpb.Response{Type: masterpb.Response_GET_FRAMEWORKS, GetFrameworks: c.state().GetFrameworks}, nil
	case masterpb.Call_GET_EXECUTORS:
		return &masterpb.Response{Type: masterpb.Response_GET_EXECUTORS, GetExecutors: c.state().GetExecutors}, nil
	case masterpb.Call_GET_TASKS:
		return &masterpb.Response{Type: masterpb.Response_GET_TASKS, GetTasks: c.state().GetTasks}, nil
	case masterpb.Call_GET_OPERATIONS:
		return &masterpb.Response{Type: masterpb.Response_GET_OPERATIONS, GetOperations: &masterpb.Response_GetOperations{}}, nil
	case masterpb.Call_MARK_AGENT_GONE:
		if call.MarkAgentGone == nil {
			return nil, wire.Refuse(400, "Failed to validate master::Call: Expecting 'mark_agent_gone' to be present")
		}
		if err := c.markGone(call.MarkAgentGone.AgentID.Value); err != nil {
			return nil, wire.Refuse(404, "%v", err)
		}
		return nil, nil
	case masterpb.Call_DEACTIVATE_AGENT, masterpb.Call_REACTIVATE_AGENT:
		return c.activate(call)
	case masterpb.Call_TEARDOWN:
		if call.Teardown == nil {
			return nil, wire.Refuse(400, "Failed to validate master::Call: Expecting 'teardown' to be present")
		}
		f := c.frameworks[call.Teardown.FrameworkID.Value]
		if f == nil {
			return nil, wire.Refuse(400, "No framework found with specified ID")
		}
		c.removeFramework(f)
		return nil, nil
	}
	return nil, wire.Refuse(501, "%s is not supported by this master", call.Type)
}

func (c *core) activate(call *masterpb.Call) (*masterpb.Response, *wire.Refusal) {
	id := call.GetDeactivateAgent().GetAgentID()
	off := call.Type == masterpb.Call_DEACTIVATE_AGENT
	if !off {
		id = call.GetReactivateAgent().GetAgentID()
	}
	a := c.agents[id.Value]
	if a == nil {
		return nil, wire.Refuse(400, "Unknown agent")
	}
	a.deactivated = off
	if off {
		c.rescindAll(a)
	}
	c.alloc.dirty = true
	return nil, nil
}

func (c *core) masterInfo() *mesos.MasterInfo {
	host, portText, _ := net.SplitHostPort(c.cfg.Address)
	port64, _ := strconv.ParseUint(portText, 10, 16)
	info := &mesos.MasterInfo{
		ID: c.id, Port: new(uint32(port64)), PID: new("master@" + c.cfg.Address), Hostname: &host, Version: new(Version),
		Address:      &mesos.Address{Hostname: &host, IP: &host, Port: int32(port64)},
		Capabilities: []mesos.MasterInfo_Capability{{Type: mesos.MasterInfo_Capability_AGENT_UPDATE}},
	}
	if ip := net.ParseIP(host).To4(); ip != nil {
		info.IP = binary.LittleEndian.Uint32(ip) // network byte order, read as a number, as Mesos does
	}
	return info
}

func (c *core) flags() []mesos.Flag {
	values := map[string]string{
		"agent_ping_timeout": c.cfg.AgentPingTimeout.String(), "max_agent_ping_timeouts": strconv.Itoa(c.cfg.MaxAgentPingTimeouts),
		"agent_reregister_timeout": c.cfg.AgentReregisterTimeout.String(), "allocation_interval": c.cfg.AllocationInterval.String(),
		"offer_timeout": c.cfg.OfferTimeout.String(), "work_dir": c.cfg.DataDir,
	}
	var out []mesos.Flag
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, mesos.Flag{Name: name, Value: new(values[name])})
	}
	return out
}

// measure gives the few metrics that are read by people and tests.
func (c *core) measure() []mesos.Metric {
	connected := 0
	for _, a := range c.agents {
		if a.out != nil {
			connected++
		}
	}
	tasks := 0
	for _, f := range c.frameworks {
		tasks += len(f.tasks)
	}
	values := map[string]float64{
		"master/elected": 1, "master/uptime_secs": c.now.Sub(c.started).Seconds(), "master/slaves_connected": float64(connected),
		"master/slaves_active": float64(connected), "master/slaves_disconnected": float64(len(c.agents) - connected),
		"master/frameworks_connected": 0, "master/outstanding_offers": float64(len(c.offers)), "master/tasks": float64(tasks),
	}
	for _, f := range c.frameworks {
		if f.out != nil {
			values["master/frameworks_connected"]++
		}
	}
	var out []mesos.Metric
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, mesos.Metric{Name: name, Value: new(values[name])})
	}
	return out
}

// state is the whole state in the form of GET_STATE. Lists that Mesos prints even when empty are not nil.
func (c *core) state() *masterpb.Response_GetState {
	tasks := &masterpb.Response_GetTasks{Tasks: []mesos.Task{}, UnreachableTasks: []mesos.Task{}, CompletedTasks: []mesos.Task{}}
	executors := &masterpb.Response_GetExecutors{Executors: []masterpb.Response_GetExecutors_Executor{}}
	frameworks := &masterpb.Response_GetFrameworks{
		Frameworks: []masterpb.Response_GetFrameworks_Framework{}, CompletedFrameworks: []masterpb.Response_GetFrameworks_Framework{},
	}
	agents := &masterpb.Response_GetAgents{Agents: []masterpb.Response_GetAgents_Agent{}, RecoveredAgents: []mesos.AgentInfo{}}
	for _, f := range c.byAge() {
		frameworks.Frameworks = append(frameworks.Frameworks, c.describe(f))
		c.addTasks(tasks, f)
	}
	for _, f := range c.completed {
		frameworks.CompletedFrameworks = append(frameworks.CompletedFrameworks, c.describe(f))
		c.addTasks(tasks, f)
	}
	for _, a := range c.agentsByAge() {
		agents.Agents = append(agents.Agents, c.describeAgent(a))
		for _, id := range slices.Sorted(maps.Keys(a.executors)) {
			for _, e := range executorsByAge(a.executors[id]) {
				executors.Executors = append(executors.Executors, masterpb.Response_GetExecutors_Executor{ExecutorInfo: e.info, AgentID: mesos.AgentID{Value: a.id}})
			}
		}
	}
	for _, r := range slices.SortedFunc(maps.Values(c.recovered), func(a, b admitted) int { return cmp.Compare(a.ID, b.ID) }) {
		var info mesos.AgentInfo
		if info.Unmarshal(r.Info) == nil {
			info.ID = &mesos.AgentID{Value: r.ID}
			agents.RecoveredAgents = append(agents.RecoveredAgents, info)
		}
	}
	return &masterpb.Response_GetState{GetTasks: tasks, GetExecutors: executors, GetFrameworks: frameworks, GetAgents: agents}
}

func (c *core) addTasks(out *masterpb.Response_GetTasks, f *framework) {
	for _, t := range tasksByAge(f.tasks) {
		out.Tasks = append(out.Tasks, t.info)
	}
	for _, t := range tasksByAge(f.unreachable) {
		out.UnreachableTasks = append(out.UnreachableTasks, t.info)
	}
	for _, t := range f.completed {
		out.CompletedTasks = append(out.CompletedTasks, t.info)
	}
}

func (c *core) describeBrief(f *framework) masterpb.Response_GetFrameworks_Framework {
	out := masterpb.Response_GetFrameworks_Framework{
		FrameworkInfo: f.info, Active: f.out != nil, Connected: f.out != nil, Recovered: f.recovered,
		RegisteredTime: timeInfo(f.registered), ReregisteredTime: timeInfo(f.reregistered),
	}
	if !f.unregistered.IsZero() {
		out.UnregisteredTime = timeInfo(f.unregistered)
	}
	return out
}

func (c *core) describe(f *framework) masterpb.Response_GetFrameworks_Framework {
	out := c.describeBrief(f)
	var used, offered amount.List
	for _, a := range c.agentsByAge() {
		used = amount.Sum(used, a.used(f.id))
	}
	for _, o := range c.offersByAge() {
		if o.framework == f {
			out.Offers = append(out.Offers, c.wireOffer(o))
			offered = amount.Sum(offered, o.resources)
		}
	}
	out.AllocatedResources, out.OfferedResources = amount.WithRole(used), amount.WithRole(offered)
	return out
}

// used sums what tasks and executors of a framework hold on an agent.
func (a *agent) used(frameworkID string) amount.List {
	var out amount.List
	for _, e := range a.executors[frameworkID] {
		out = amount.Sum(out, e.resources)
	}
	for _, t := range a.tasks[frameworkID] {
		if !t.released {
			out = amount.Sum(out, t.resources)
		}
	}
	return out
}

func (c *core) describeAgent(a *agent) masterpb.Response_GetAgents_Agent {
	out := masterpb.Response_GetAgents_Agent{
		AgentInfo: a.info, Active: a.out != nil && !a.deactivated, Deactivated: new(a.deactivated), Version: a.version,
		PID: new("slave(1)@" + net.JoinHostPort(a.address, strconv.Itoa(int(a.info.GetPort())))), RegisteredTime: timeInfo(a.registered),
		TotalResources: a.total, Capabilities: agentCapabilities,
	}
	if !a.reregistered.IsZero() {
		out.ReregisteredTime = timeInfo(a.reregistered)
	}
	var used, offered amount.List
	for id := range a.tasks {
		used = amount.Sum(used, a.used(id))
	}
	for id := range a.executors {
		if len(a.tasks[id]) == 0 && a.tasks[id] == nil {
			used = amount.Sum(used, a.used(id))
		}
	}
	for _, o := range c.offersByAge() {
		if o.agent == a {
			offered = amount.Sum(offered, o.resources)
		}
	}
	out.AllocatedResources, out.OfferedResources = amount.WithRole(used), amount.WithRole(offered)
	return out
}
