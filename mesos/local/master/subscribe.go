package master

import (
	"fmt"
	"math"
	"slices"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/wire"
	"padis.io/padis/mesos/local/words"
)

// maxCompletedFrameworks is how many removed frameworks are remembered, as in Mesos.
const maxCompletedFrameworks = 50

var (
	schedulerHeartbeat = &scheduler.Event{Type: scheduler.Event_HEARTBEAT}
	operatorHeartbeat  = &masterpb.Event{Type: masterpb.Event_HEARTBEAT}
)

// subscribe connects a scheduler. Errors of the content go down the stream as an ERROR event, as Mesos does.
func (c *core) subscribe(call *scheduler.Call_Subscribe, out stream, streamID string) {
	info := *call.FrameworkInfo
	if err := c.refuseFramework(info, call.SuppressedRoles); err != nil {
		out.Send(failed(err.Error()))
		out.Close()
		return
	}
	if info.Checkpoint == nil {
		info.Checkpoint = new(false)
	}
	f := c.frameworks[info.GetID().GetValue()]
	fresh := f == nil
	wasActive := !fresh && f.out != nil
	if fresh {
		f = c.addFramework(info)
	} else {
		c.failOver(f, info)
	}
	f.suppressed = set(call.SuppressedRoles)
	f.out, f.streamID = out, streamID
	f.recovered = false
	f.reregistered = c.now
	if f.registered.IsZero() {
		f.registered = c.now
	}
	f.heartbeat = c.now.Add(HeartbeatInterval)
	out.Send(&scheduler.Event{Type: scheduler.Event_SUBSCRIBED, Subscribed: &scheduler.Event_Subscribed{
		FrameworkID: &mesos.FrameworkID{Value: f.id}, HeartbeatIntervalSeconds: new(HeartbeatInterval.Seconds()), MasterInfo: c.masterInfo(),
	}})
	out.Send(schedulerHeartbeat)
	c.log.Info("framework subscribed", zap.String("framework", f.id), zap.String("name", info.Name), zap.Bool("new", fresh))
	if fresh {
		c.tell(&masterpb.Event{Type: masterpb.Event_FRAMEWORK_ADDED, FrameworkAdded: &masterpb.Event_FrameworkAdded{Framework: c.describeBrief(f)}})
	} else {
		c.tell(&masterpb.Event{Type: masterpb.Event_FRAMEWORK_UPDATED, FrameworkUpdated: &masterpb.Event_FrameworkUpdated{Framework: c.describeBrief(f)}})
		c.announce(f)
	}
	if !wasActive {
		c.allocate(c.agentsByAge())
	}
	c.alloc.dirty = true // roles may have ceased to be suppressed
}

func (c *core) addFramework(info mesos.FrameworkInfo) *framework {
	if info.GetID().GetValue() == "" {
		info.ID = &mesos.FrameworkID{Value: c.newFrameworkID()}
	}
	f := &framework{
		seq: c.seq(), id: info.ID.Value, suppressed: map[string]bool{},
		tasks: map[string]*task{}, unreachable: map[string]*task{}, used: map[string]map[string]int64{},
	}
	f.set(info)
	c.frameworks[f.id] = f
	return f
}

// failOver replaces the connection of a framework. Its offers vanish without RESCIND; user and checkpoint stay.
func (c *core) failOver(f *framework, info mesos.FrameworkInfo) {
	if f.out != nil {
		f.out.Send(failed("Framework failed over"))
		f.out.Close()
		f.out = nil
		c.dropOffersOf(f)
	} else {
		c.forgetFilters(f.id, nil)
	}
	f.failover = zeroTime
	info.User, info.Checkpoint = f.info.User, f.info.Checkpoint
	f.set(info)
}

// announce tells the agents that have something of a framework that its scheduler is (newly) connected: they send
// what is not acknowledged again at once.
func (c *core) announce(f *framework) {
	body, err := f.info.Marshal()
	if err != nil {
		c.log.Error("framework info cannot be encoded", zap.String("framework", f.id), zap.Error(err))
		return
	}
	for _, a := range c.agentsByAge() {
		if a.out != nil {
			a.out.Send(wire.Frame{Kind: wire.UpdateFramework, Framework: f.id, Bodies: [][]byte{body}})
		}
	}
}

// set takes over the mutable parts of a FrameworkInfo.
func (f *framework) set(info mesos.FrameworkInfo) {
	f.info = info
	f.aware = capable(info, mesos.FrameworkInfo_Capability_PARTITION_AWARE)
	f.roles = info.Roles
	if !capable(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		role := info.GetRole()
		if role == "" {
			role = "*"
		}
		f.roles = []string{role}
	}
}

// gone handles the end of a scheduler's stream.
func (c *core) disconnected(id string, out stream) {
	f := c.frameworks[id]
	if f == nil || f.out != out {
		return
	}
	f.out, f.streamID = nil, ""
	c.dropOffersOf(f)
	c.forgetFilters(f.id, nil)
	f.failover = c.now.Add(seconds(f.info.GetFailoverTimeout()))
	c.log.Info("framework disconnected", zap.String("framework", id), zap.Time("removed_at", f.failover))
}

func (c *core) dropOffersOf(f *framework) {
	for _, o := range c.offersByAge() {
		if o.framework == f {
			c.recover(o, 0)
		}
	}
}

// removeFramework ends a framework: its executors are shut down, its tasks are killed.
func (c *core) removeFramework(f *framework) {
	c.dropOffersOf(f)
	c.forgetFilters(f.id, nil)
	for _, a := range c.agentsByAge() {
		if a.out != nil {
			a.out.Send(wire.Frame{Kind: wire.ShutdownFramework, Framework: f.id})
		}
		delete(a.kills, f.id)
		for _, e := range executorsByAge(a.executors[f.id]) {
			c.release(f, a, e.resources)
		}
		delete(a.executors, f.id)
	}
	for _, t := range tasksByAge(f.tasks) {
		if !terminal(t.info.GetState()) {
			t.add(c.madeUp(t, mesos.TASK_KILLED, "Framework "+f.id+" removed", mesos.REASON_FRAMEWORK_REMOVED, nil))
			t.info.State = mesos.TASK_KILLED.Enum()
		}
		c.removeTask(f, t, false)
	}
	f.unregistered = c.now
	if f.out != nil {
		f.out.Close()
		f.out = nil
	}
	delete(c.frameworks, f.id)
	c.completed = append(c.completed, f)
	if len(c.completed) > maxCompletedFrameworks {
		c.completed = c.completed[1:]
	}
	c.alloc.dirty = true
	c.tell(&masterpb.Event{Type: masterpb.Event_FRAMEWORK_REMOVED, FrameworkRemoved: &masterpb.Event_FrameworkRemoved{FrameworkInfo: f.info}})
	c.log.Info("framework removed", zap.String("framework", f.id))
}

func failed(message string) *scheduler.Event {
	return &scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: message}}
}

// refuseFramework finds what is wrong with a SUBSCRIBE, in the words of Mesos.
func (c *core) refuseFramework(info mesos.FrameworkInfo, suppressed []string) error {
	if err := refuseInfo(info); err != nil {
		return err
	}
	roles := info.Roles
	if !capable(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		roles = []string{info.GetRole()}
	}
	for _, role := range suppressed {
		if !slices.Contains(roles, role) {
			return words.Errorf("Suppressed role '%s' is not contained in the list of roles", role)
		}
	}
	if id := info.GetID().GetValue(); id != "" {
		if c.findCompleted(id) != nil {
			return words.Errorf("Framework has been removed")
		}
		if err := refuseID(id); err != nil {
			return err
		}
	}
	return nil
}

func refuseInfo(info mesos.FrameworkInfo) error {
	if capable(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		if info.Role != nil {
			return fmt.Errorf("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable")
		}
		if twice := duplicates(info.Roles); len(twice) > 0 {
			return fmt.Errorf("'FrameworkInfo.roles' contains duplicate items: { %s }", strings.Join(twice, ", "))
		}
		for _, role := range info.Roles {
			if err := refuseRole(role); err != nil {
				return fmt.Errorf("'FrameworkInfo.roles' contains invalid role: %w", err)
			}
		}
	} else {
		if len(info.Roles) > 0 {
			return fmt.Errorf("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable")
		}
		if info.Role != nil {
			if err := refuseRole(*info.Role); err != nil {
				return fmt.Errorf("'FrameworkInfo.role' is not a valid role: %w", err)
			}
		}
	}
	if t := info.GetFailoverTimeout(); t > math.MaxInt64/1e9 || t < math.MinInt64/1e9 || math.IsNaN(t) {
		return words.Errorf("The framework failover_timeout (%g) is invalid", t)
	}
	return nil
}

func refuseRole(role string) error {
	switch {
	case role == "*":
		return nil
	case role == "":
		return words.Errorf("Empty role name is invalid")
	case strings.HasPrefix(role, "/"):
		return words.Errorf("Role '%s' cannot start with a slash", role)
	case strings.HasSuffix(role, "/"):
		return words.Errorf("Role '%s' cannot end with a slash", role)
	case strings.Contains(role, "//"):
		return words.Errorf("Role '%s' cannot contain two adjacent slashes", role)
	}
	for _, part := range strings.Split(role, "/") {
		switch {
		case part == "." || part == ".." || part == "*":
			return words.Errorf("Role '%s' cannot include '%s' as a component", role, part)
		case strings.HasPrefix(part, "-"):
			return words.Errorf("Role component '%s' is invalid because it starts with a dash", part)
		case strings.ContainsAny(part, "\t\n\v\f\r \b"):
			return words.Errorf("Role component '%s' is invalid because it contains backspace or whitespace", part)
		}
	}
	return nil
}

func duplicates(list []string) []string {
	seen := map[string]int{}
	var out []string
	for _, s := range list {
		if seen[s]++; seen[s] == 2 {
			out = append(out, s)
		}
	}
	return out
}

func capable(info mesos.FrameworkInfo, want mesos.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(info.Capabilities, func(c mesos.FrameworkInfo_Capability) bool { return c.Type == want })
}

func set(list []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range list {
		out[s] = true
	}
	return out
}
