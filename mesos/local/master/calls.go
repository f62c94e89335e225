package master

import (
	"net/http"
	"slices"

	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos/local/wire"
)

// call handles a validated call other than SUBSCRIBE. It returns the HTTP status, or why it is refused.
func (c *core) call(call *scheduler.Call, streamID string) (int, *wire.Refusal) {
	f := c.frameworks[call.FrameworkID.GetValue()]
	switch {
	case f == nil:
		return 0, wire.Refuse(http.StatusBadRequest, "Framework cannot be found")
	case f.out == nil:
		return 0, wire.Refuse(http.StatusForbidden, "Framework is not subscribed")
	case streamID == "":
		return 0, wire.Refuse(http.StatusBadRequest, "All non-subscribe calls should include the 'Mesos-Stream-Id' header")
	case streamID != f.streamID:
		return 0, wire.Refuse(http.StatusBadRequest,
			"The stream ID '%s' included in this request didn't match the stream ID currently associated with framework ID %s", streamID, f.id)
	}
	switch call.Type {
	case scheduler.Call_TEARDOWN:
		c.removeFramework(f)
	case scheduler.Call_ACCEPT:
		c.accept(f, call.Accept)
	case scheduler.Call_DECLINE:
		c.decline(f, call.Decline.OfferIDs, refusal(call.Decline.Filters))
	case scheduler.Call_REVIVE:
		c.revive(f, call.Revive.GetRoles())
	case scheduler.Call_SUPPRESS:
		c.suppress(f, call.Suppress.GetRoles())
	case scheduler.Call_KILL:
		c.kill(f, call.Kill)
	case scheduler.Call_SHUTDOWN:
		if a := c.agents[call.Shutdown.AgentID.Value]; a != nil && a.out != nil {
			a.out.Send(wire.Frame{Kind: wire.ShutdownExecutor, Framework: f.id, Executor: call.Shutdown.ExecutorID.Value})
		}
	case scheduler.Call_ACKNOWLEDGE:
		c.acknowledge(f, call.Acknowledge)
	case scheduler.Call_RECONCILE:
		c.reconcile(f, call.Reconcile)
	case scheduler.Call_MESSAGE:
		if a := c.agents[call.Message.AgentID.Value]; a != nil && a.out != nil {
			a.out.Send(wire.Frame{Kind: wire.ToExecutor, Framework: f.id, Executor: call.Message.ExecutorID.Value, Bodies: [][]byte{call.Message.Data}})
		}
	case scheduler.Call_UPDATE_FRAMEWORK:
		return c.updateFramework(f, call.UpdateFramework)
	case scheduler.Call_REQUEST, scheduler.Call_ACCEPT_INVERSE_OFFERS, scheduler.Call_DECLINE_INVERSE_OFFERS,
		scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS:
		// Accepted and without effect: there is no maintenance and there are no operations to acknowledge.
	default:
		return 0, wire.Refuse(http.StatusNotImplemented, "%s is not supported by this master", call.Type)
	}
	return http.StatusAccepted, nil
}

// revive ends suppression and filters, and offers at once.
func (c *core) revive(f *framework, roles []string) {
	c.forgetFilters(f.id, roles)
	for role := range f.suppressed {
		if len(roles) == 0 || slices.Contains(roles, role) {
			delete(f.suppressed, role)
		}
	}
	c.allocate(c.agentsByAge())
}

func (c *core) suppress(f *framework, roles []string) {
	if len(roles) == 0 {
		roles = f.roles
	}
	for _, role := range roles {
		f.suppressed[role] = true
	}
}

// updateFramework changes what may be changed; unlike SUBSCRIBE it refuses the rest with 400.
func (c *core) updateFramework(f *framework, call *scheduler.Call_UpdateFramework) (int, *wire.Refusal) {
	info := call.FrameworkInfo
	if info.Checkpoint == nil {
		info.Checkpoint = new(false)
	}
	if info.GetID().GetValue() != f.id {
		return 0, wire.Refuse(http.StatusBadRequest, "Failed to validate scheduler::Call: 'framework_id' differs from 'update_framework.framework_info.id'")
	}
	if info.User != f.info.User {
		return 0, wire.Refuse(http.StatusBadRequest, "Failed to validate framework info: Updating 'FrameworkInfo.user' is unsupported; attempted to update from '%s' to '%s'", f.info.User, info.User)
	}
	if info.GetCheckpoint() != f.info.GetCheckpoint() {
		return 0, wire.Refuse(http.StatusBadRequest, "Failed to validate framework info: Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '%t' to '%t'", f.info.GetCheckpoint(), info.GetCheckpoint())
	}
	if err := c.refuseFramework(info, call.SuppressedRoles); err != nil {
		return 0, wire.Refuse(http.StatusBadRequest, "'UpdateFramework.framework_info' is not valid: %v", err)
	}
	f.set(info)
	f.suppressed = set(call.SuppressedRoles)
	c.alloc.dirty = true
	c.announce(f)
	c.tell(&masterpb.Event{Type: masterpb.Event_FRAMEWORK_UPDATED, FrameworkUpdated: &masterpb.Event_FrameworkUpdated{Framework: c.describeBrief(f)}})
	return http.StatusOK, nil
}
