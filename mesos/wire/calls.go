package wire

import (
	"fmt"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos"
)

// ToCall converts a call of the framework with this id. An Accept without tasks becomes a DECLINE, which is what Mesos
// makes of it.
func ToCall(c mesos.Call, frameworkID string) (*scheduler.Call, error) {
	out := &scheduler.Call{FrameworkID: &mesosgo.FrameworkID{Value: frameworkID}}
	switch c := c.(type) {
	case mesos.Accept:
		if len(c.Tasks) == 0 {
			return ToCall(mesos.Decline{OfferIDs: c.OfferIDs, Refuse: c.Refuse}, frameworkID)
		}
		launch := &mesosgo.Offer_Operation_Launch{}
		for _, t := range c.Tasks {
			w, err := ToTask(t, frameworkID)
			if err != nil {
				return nil, fmt.Errorf("launch of task %q: %w", t.ID, err)
			}
			launch.TaskInfos = append(launch.TaskInfos, w)
		}
		out.Type = scheduler.Call_ACCEPT
		out.Accept = &scheduler.Call_Accept{
			OfferIDs:   offerIDs(c.OfferIDs),
			Operations: []mesosgo.Offer_Operation{{Type: mesosgo.Offer_Operation_LAUNCH, Launch: launch}},
			Filters:    filters(c.Refuse),
		}
	case mesos.Decline:
		out.Type = scheduler.Call_DECLINE
		out.Decline = &scheduler.Call_Decline{OfferIDs: offerIDs(c.OfferIDs), Filters: filters(c.Refuse)}
	case mesos.Revive:
		out.Type = scheduler.Call_REVIVE
		if len(c.Roles) > 0 {
			out.Revive = &scheduler.Call_Revive{Roles: c.Roles}
		}
	case mesos.Suppress:
		out.Type = scheduler.Call_SUPPRESS
		if len(c.Roles) > 0 {
			out.Suppress = &scheduler.Call_Suppress{Roles: c.Roles}
		}
	case mesos.Kill:
		out.Type = scheduler.Call_KILL
		out.Kill = &scheduler.Call_Kill{TaskID: mesosgo.TaskID{Value: c.TaskID}, KillPolicy: toKillPolicy(c.Grace)}
		if c.AgentID != "" {
			out.Kill.AgentID = &mesosgo.AgentID{Value: c.AgentID}
		}
	case mesos.Acknowledge:
		out.Type = scheduler.Call_ACKNOWLEDGE
		out.Acknowledge = &scheduler.Call_Acknowledge{
			AgentID: mesosgo.AgentID{Value: c.AgentID}, TaskID: mesosgo.TaskID{Value: c.TaskID}, UUID: notNil(c.UUID),
		}
	case mesos.Reconcile:
		out.Type = scheduler.Call_RECONCILE
		out.Reconcile = &scheduler.Call_Reconcile{}
		for _, t := range c.Tasks {
			w := scheduler.Call_Reconcile_Task{TaskID: mesosgo.TaskID{Value: t.TaskID}}
			if t.AgentID != "" {
				w.AgentID = &mesosgo.AgentID{Value: t.AgentID}
			}
			out.Reconcile.Tasks = append(out.Reconcile.Tasks, w)
		}
	case mesos.ToExecutor:
		out.Type = scheduler.Call_MESSAGE
		out.Message = &scheduler.Call_Message{
			AgentID: mesosgo.AgentID{Value: c.AgentID}, ExecutorID: mesosgo.ExecutorID{Value: c.ExecutorID}, Data: notNil(c.Data),
		}
	case mesos.ShutdownExecutor:
		out.Type = scheduler.Call_SHUTDOWN
		out.Shutdown = &scheduler.Call_Shutdown{
			AgentID: mesosgo.AgentID{Value: c.AgentID}, ExecutorID: mesosgo.ExecutorID{Value: c.ExecutorID},
		}
	case mesos.AcceptInverse:
		out.Type = scheduler.Call_ACCEPT_INVERSE_OFFERS
		out.AcceptInverseOffers = &scheduler.Call_AcceptInverseOffers{InverseOfferIDs: offerIDs(c.IDs)}
	case mesos.Teardown:
		out.Type = scheduler.Call_TEARDOWN
	default:
		return nil, fmt.Errorf("no such call: %T", c)
	}
	return out, nil
}

func offerIDs(ids []string) []mesosgo.OfferID {
	out := make([]mesosgo.OfferID, len(ids))
	for i, id := range ids {
		out[i].Value = id
	}
	return out
}

// Call is the inverse of ToCall, for whoever plays the master. Operations other than LAUNCH are left out.
func Call(c *scheduler.Call) (mesos.Call, error) {
	missing := fmt.Errorf("a call of type %s lacks its body", c.Type)
	switch c.Type {
	case scheduler.Call_ACCEPT:
		if c.Accept == nil {
			return nil, missing
		}
		out := mesos.Accept{OfferIDs: fromOfferIDs(c.Accept.OfferIDs), Refuse: refused(c.Accept.Filters)}
		for _, op := range c.Accept.Operations {
			tasks := op.GetLaunch().GetTaskInfos()
			for i := range tasks {
				out.Tasks = append(out.Tasks, Task(&tasks[i]))
			}
		}
		return out, nil
	case scheduler.Call_DECLINE:
		if c.Decline == nil {
			return nil, missing
		}
		return mesos.Decline{OfferIDs: fromOfferIDs(c.Decline.OfferIDs), Refuse: refused(c.Decline.Filters)}, nil
	case scheduler.Call_REVIVE:
		return mesos.Revive{Roles: c.Revive.GetRoles()}, nil
	case scheduler.Call_SUPPRESS:
		return mesos.Suppress{Roles: c.Suppress.GetRoles()}, nil
	case scheduler.Call_KILL:
		if c.Kill == nil {
			return nil, missing
		}
		return mesos.Kill{
			TaskID: c.Kill.TaskID.Value, AgentID: c.Kill.GetAgentID().GetValue(),
			Grace: time.Duration(c.Kill.GetKillPolicy().GetGracePeriod().GetNanoseconds()),
		}, nil
	case scheduler.Call_ACKNOWLEDGE:
		if c.Acknowledge == nil {
			return nil, missing
		}
		return mesos.Acknowledge{AgentID: c.Acknowledge.AgentID.Value, TaskID: c.Acknowledge.TaskID.Value, UUID: c.Acknowledge.UUID}, nil
	case scheduler.Call_RECONCILE:
		if c.Reconcile == nil {
			return nil, missing
		}
		var out mesos.Reconcile
		for _, t := range c.Reconcile.Tasks {
			out.Tasks = append(out.Tasks, mesos.TaskRef{TaskID: t.TaskID.Value, AgentID: t.GetAgentID().GetValue()})
		}
		return out, nil
	case scheduler.Call_MESSAGE:
		if c.Message == nil {
			return nil, missing
		}
		return mesos.ToExecutor{AgentID: c.Message.AgentID.Value, ExecutorID: c.Message.ExecutorID.Value, Data: c.Message.Data}, nil
	case scheduler.Call_SHUTDOWN:
		if c.Shutdown == nil {
			return nil, missing
		}
		return mesos.ShutdownExecutor{AgentID: c.Shutdown.AgentID.Value, ExecutorID: c.Shutdown.ExecutorID.Value}, nil
	case scheduler.Call_ACCEPT_INVERSE_OFFERS:
		if c.AcceptInverseOffers == nil {
			return nil, missing
		}
		return mesos.AcceptInverse{IDs: fromOfferIDs(c.AcceptInverseOffers.InverseOfferIDs)}, nil
	case scheduler.Call_TEARDOWN:
		return mesos.Teardown{}, nil
	}
	return nil, fmt.Errorf("a call of type %s is not among the nouns", c.Type)
}

func fromOfferIDs(ids []mesosgo.OfferID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, id.Value)
	}
	return out
}

// refused reads a filter as Mesos does: absent or negative means five seconds.
func refused(f *mesosgo.Filters) time.Duration {
	s := f.GetRefuseSeconds()
	if f == nil || !(s >= 0) {
		return 5 * time.Second
	}
	const year = 365 * 24 * time.Hour // Mesos takes no filter for longer
	return time.Duration(min(s, year.Seconds()) * float64(time.Second))
}
