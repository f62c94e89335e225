package master

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/words"
)

// refuseCall finds what is wrong with a call before anything is known of the framework.
func refuseCall(call *scheduler.Call) error {
	present := func(ok bool, name string) error {
		if ok {
			return nil
		}
		return words.Errorf("Expecting '%s' to be present", name)
	}
	if call.Type == scheduler.Call_UNKNOWN {
		return present(false, "type")
	}
	if call.Type == scheduler.Call_SUBSCRIBE {
		if call.Subscribe == nil || call.Subscribe.FrameworkInfo == nil {
			return present(false, "subscribe")
		}
		if call.Subscribe.FrameworkInfo.GetID().GetValue() != call.FrameworkID.GetValue() {
			return fmt.Errorf("'framework_id' differs from 'subscribe.framework_info.id'")
		}
		return nil
	}
	if call.FrameworkID == nil {
		return present(false, "framework_id")
	}
	switch call.Type {
	case scheduler.Call_ACCEPT:
		return present(call.Accept != nil, "accept")
	case scheduler.Call_DECLINE:
		return present(call.Decline != nil, "decline")
	case scheduler.Call_ACCEPT_INVERSE_OFFERS:
		return present(call.AcceptInverseOffers != nil, "accept_inverse_offers")
	case scheduler.Call_DECLINE_INVERSE_OFFERS:
		return present(call.DeclineInverseOffers != nil, "decline_inverse_offers")
	case scheduler.Call_KILL:
		return present(call.Kill != nil, "kill")
	case scheduler.Call_SHUTDOWN:
		return present(call.Shutdown != nil, "shutdown")
	case scheduler.Call_ACKNOWLEDGE:
		if call.Acknowledge != nil && len(call.Acknowledge.UUID) != 16 {
			return words.Errorf("Not a valid UUID")
		}
		return present(call.Acknowledge != nil, "acknowledge")
	case scheduler.Call_ACKNOWLEDGE_OPERATION_STATUS:
		return present(call.AcknowledgeOperationStatus != nil, "acknowledge_operation_status")
	case scheduler.Call_RECONCILE:
		return present(call.Reconcile != nil, "reconcile")
	case scheduler.Call_RECONCILE_OPERATIONS:
		return present(call.ReconcileOperations != nil, "reconcile_operations")
	case scheduler.Call_MESSAGE:
		return present(call.Message != nil, "message")
	case scheduler.Call_REQUEST:
		return present(call.Request != nil, "request")
	case scheduler.Call_UPDATE_FRAMEWORK:
		return present(call.UpdateFramework != nil, "update_framework")
	}
	return nil
}

// refuseID checks an id that becomes part of a path.
func refuseID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("ID must not be empty")
	case len(id) > 255:
		return fmt.Errorf("ID must not be greater than 255 characters")
	case id == "." || id == "..":
		return fmt.Errorf("'%s' is disallowed", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '/' || r == '\\' }):
		return fmt.Errorf("'%s' contains invalid characters", id)
	}
	return nil
}

// validate checks one task against the offered resources, in the order and the words of Mesos. It returns what the
// task needs, with its executor if that is new on the agent.
func (c *core) validate(f *framework, a *agent, t *mesos.TaskInfo, free amount.List) (need amount.List, fresh bool, err error) {
	if err := refuseID(t.TaskID.Value); err != nil {
		return nil, false, err
	}
	if f.tasks[t.TaskID.Value] != nil {
		return nil, false, words.Errorf("Task has duplicate ID: %s", t.TaskID.Value)
	}
	if t.AgentID.Value != a.id {
		return nil, false, words.Errorf("Task uses invalid agent %s while agent %s is expected", t.AgentID.Value, a.id)
	}
	if t.GetKillPolicy().GetGracePeriod().GetNanoseconds() < 0 {
		return nil, false, words.Errorf("Task's 'kill_policy.grace_period' must be non-negative")
	}
	if t.GetMaxCompletionTime().GetNanoseconds() < 0 {
		return nil, false, words.Errorf("Task's 'max_completion_time' must be non-negative")
	}
	if len(t.Resources) == 0 {
		return nil, false, words.Errorf("Task uses no resources")
	}
	if err := amount.Check(t.Resources); err != nil {
		return nil, false, err
	}
	if (t.Executor == nil) == (t.Command == nil) {
		return nil, false, words.Errorf("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present")
	}
	if t.Executor == nil {
		return nil, false, words.Errorf("Tasks without an executor of their own are not supported by this master")
	}
	if err := refuseExecutor(f, t.Executor); err != nil {
		return nil, false, err
	}
	known := a.executors[f.id][t.Executor.ExecutorID.Value]
	if known != nil && !sameExecutor(known.info, *t.Executor) {
		line := strings.Repeat("-", 60)
		return nil, false, words.Errorf("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n%s\nExisting ExecutorInfo:\n%s%s\nTask's ExecutorInfo:\n%s%s\n",
			line, text(&known.info), line, text(t.Executor), line)
	}
	need = amount.Sum(t.Resources)
	if known == nil {
		need = amount.Sum(t.Resources, t.Executor.Resources)
	}
	if !amount.Contains(free, need) {
		return nil, false, words.Errorf("Total resources %s required by task and its executor is more than available %s", amount.Text(need), amount.Text(free))
	}
	return need, known == nil, nil
}

func refuseExecutor(f *framework, e *mesos.ExecutorInfo) error {
	if err := refuseID(e.ExecutorID.Value); err != nil {
		return err
	}
	if e.FrameworkID.GetValue() != f.id {
		return fmt.Errorf("ExecutorInfo has an invalid FrameworkID (Actual: %s vs Expected: %s)", e.FrameworkID.GetValue(), f.id)
	}
	switch e.Type {
	case mesos.ExecutorInfo_DEFAULT:
		if e.Command != nil {
			return fmt.Errorf("'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
		}
		return fmt.Errorf("'DEFAULT' executors are not supported by this master")
	case mesos.ExecutorInfo_CUSTOM, mesos.ExecutorInfo_UNKNOWN:
		if e.Command == nil {
			return fmt.Errorf("'ExecutorInfo.command' must be set for 'CUSTOM' executor")
		}
	}
	if e.GetShutdownGracePeriod().GetNanoseconds() < 0 {
		return fmt.Errorf("ExecutorInfo's 'shutdown_grace_period' must be non-negative")
	}
	return amount.Check(e.Resources)
}

// sameExecutor compares as Mesos does: labels do not count, nor does the order of lists.
func sameExecutor(a, b mesos.ExecutorInfo) bool {
	return bytes.Equal(canonical(a), canonical(b))
}

func canonical(e mesos.ExecutorInfo) []byte {
	c := proto.Clone(&e).(*mesos.ExecutorInfo)
	c.Labels = nil
	c.Resources = amount.Sum(c.Resources)
	slices.SortFunc(c.Resources, func(a, b mesos.Resource) int { return cmp.Compare(a.Name+a.GetRole(), b.Name+b.GetRole()) })
	if c.Command != nil {
		slices.SortFunc(c.Command.URIs, func(a, b mesos.CommandInfo_URI) int { return cmp.Compare(a.Value, b.Value) })
		if env := c.Command.Environment; env != nil {
			slices.SortFunc(env.Variables, func(a, b mesos.Environment_Variable) int { return cmp.Compare(a.Name, b.Name) })
		}
	}
	b, err := c.Marshal()
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

var nested = regexp.MustCompile(`(?m)^(\s*\w+): <$`)
var nestedEnd = regexp.MustCompile(`(?m)^(\s*)>$`)

// text prints a message as the C++ library does.
func text(m proto.Message) string {
	return nestedEnd.ReplaceAllString(nested.ReplaceAllString(proto.MarshalTextString(m), "$1 {"), "$1}")
}
