package master

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
)

// PollAgents asks the leader for its agents at each interval while there is a subscription, until ctx ends. handle
// gets a mesos.AgentsSeen, from this goroutine, at the first answer of each subscription and whenever something
// changed. A master that denies us the operator API is asked again quietly: the program works without, it only
// knows the agents by their offers.
func (c *Client) PollAgents(ctx context.Context, interval time.Duration, handle func(mesos.Event)) error {
	var last []mesos.Agent
	var lastSub *subscription
	complained := false
	for {
		sub, err := c.subscribed(ctx)
		if err != nil {
			return err
		}
		agents, err := c.agents(ctx, sub)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !complained && sub.ctx.Err() == nil:
			complained = true
			c.log.Warn("cannot list the agents; they are known by their offers only", zap.Error(err))
		case err == nil:
			complained = false
			if sub != lastSub || !reflect.DeepEqual(agents, last) {
				handle(mesos.AgentsSeen{Agents: agents})
			}
			last, lastSub = agents, sub
		}
		if err := sleep(ctx, interval); err != nil {
			return err
		}
	}
}

// agents is one GET_AGENTS, sorted by id.
func (c *Client) agents(ctx context.Context, sub *subscription) ([]mesos.Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.CallTimeout)
	defer cancel()
	defer context.AfterFunc(sub.ctx, cancel)()
	body, err := (&master.Call{Type: master.Call_GET_AGENTS}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("call GET_AGENTS: %w", err)
	}
	resp, _, err := c.post(ctx, strings.TrimSuffix(sub.endpoint, schedulerPath)+operatorPath, "", body)
	if err != nil {
		return nil, fmt.Errorf("call GET_AGENTS: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &CallError{Call: "GET_AGENTS", Status: resp.StatusCode, Body: reason(resp)}
	}
	defer resp.Body.Close()
	if !isProtobuf(resp) {
		return nil, fmt.Errorf("call GET_AGENTS: the answer is of type %q, not %s", resp.Header.Get("Content-Type"), protobuf)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(c.config.MaxFrame)+1))
	if err != nil {
		return nil, fmt.Errorf("call GET_AGENTS: %w", err)
	}
	if len(b) > c.config.MaxFrame {
		return nil, fmt.Errorf("call GET_AGENTS: the answer is larger than %d bytes", c.config.MaxFrame)
	}
	return decodeAgents(b)
}

func decodeAgents(b []byte) ([]mesos.Agent, error) {
	var w master.Response
	if err := wire.Decode(&w, b); err != nil {
		return nil, fmt.Errorf("answer to GET_AGENTS: %w", err)
	}
	if w.GetAgents == nil {
		return nil, errors.New("answer to GET_AGENTS: it is another one's answer")
	}
	var out []mesos.Agent
	for i := range w.GetAgents.Agents {
		out = append(out, agent(&w.GetAgents.Agents[i]))
	}
	// Agents that the registry knows but that have not come back after a change of leader.
	for i := range w.GetAgents.RecoveredAgents {
		info := &w.GetAgents.RecoveredAgents[i]
		a := fromInfo(info)
		a.Total = mesos.Sum(wire.Resources(info.Resources))
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b mesos.Agent) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func fromInfo(info *mesosgo.AgentInfo) mesos.Agent {
	return mesos.Agent{
		ID: info.GetID().GetValue(), Hostname: info.Hostname, Attributes: wire.Attributes(info.Attributes),
		URL: "http://" + wire.HostPort(info.Hostname, int(info.GetPort())),
	}
}

func agent(w *master.Response_GetAgents_Agent) mesos.Agent {
	out := fromInfo(&w.AgentInfo)
	// The libprocess id ("slave(1)@10.0.0.5:5051") has the address; the hostname may be one only people know.
	if _, addr, ok := strings.Cut(w.GetPID(), "@"); ok {
		out.URL = "http://" + addr
	}
	out.Total = mesos.Sum(wire.Resources(w.TotalResources))
	out.Allocated = mesos.Sum(wire.Resources(w.AllocatedResources))
	out.Active = w.Active && !w.GetDeactivated()
	out.Version = w.Version
	if t := w.RegisteredTime; t != nil {
		out.Registered = time.Unix(0, t.Nanoseconds).UTC()
	}
	switch w.GetDrainInfo().GetState() {
	case mesosgo.DrainState_DRAINING:
		out.Drain = "Draining"
	case mesosgo.DrainState_DRAINED:
		out.Drain = "Drained"
	}
	return out
}
