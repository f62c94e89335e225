package wire

import (
	"maps"
	"slices"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"

	"padis.io/padis/mesos"
)

// ToExecutor converts an executor. Equal nouns give equal bytes: Mesos refuses a task whose ExecutorInfo differs from
// that of the running executor, so environment and labels are written in the order of their keys.
func ToExecutor(e mesos.Executor, frameworkID string) (*mesosgo.ExecutorInfo, error) {
	rs, err := ToResources(e.Resources)
	if err != nil {
		return nil, err
	}
	shell := true
	out := &mesosgo.ExecutorInfo{
		Type:       mesosgo.ExecutorInfo_CUSTOM,
		ExecutorID: mesosgo.ExecutorID{Value: e.ID},
		Resources:  rs,
		Command:    &mesosgo.CommandInfo{Shell: &shell, Value: &e.Command},
	}
	if frameworkID != "" {
		out.FrameworkID = &mesosgo.FrameworkID{Value: frameworkID}
	}
	if e.Name != "" {
		out.Name = &e.Name
	}
	for _, u := range e.URIs {
		w := mesosgo.CommandInfo_URI{Value: u.Value, Executable: &u.Executable, Extract: &u.Extract, Cache: &u.Cache}
		if u.OutputFile != "" {
			w.OutputFile = &u.OutputFile
		}
		out.Command.URIs = append(out.Command.URIs, w)
	}
	if len(e.Env) > 0 {
		out.Command.Environment = &mesosgo.Environment{}
		for _, k := range slices.Sorted(maps.Keys(e.Env)) {
			v := e.Env[k]
			out.Command.Environment.Variables = append(out.Command.Environment.Variables,
				mesosgo.Environment_Variable{Name: k, Type: mesosgo.Environment_Variable_VALUE.Enum(), Value: &v})
		}
	}
	if e.ShutdownGrace > 0 {
		out.ShutdownGracePeriod = &mesosgo.DurationInfo{Nanoseconds: int64(e.ShutdownGrace)}
	}
	return out, nil
}

// Executor is the inverse of ToExecutor.
func Executor(e *mesosgo.ExecutorInfo) mesos.Executor {
	out := mesos.Executor{
		ID:            e.ExecutorID.Value,
		Name:          e.GetName(),
		Command:       e.GetCommand().GetValue(),
		Resources:     Resources(e.Resources),
		ShutdownGrace: time.Duration(e.GetShutdownGracePeriod().GetNanoseconds()),
	}
	for _, u := range e.GetCommand().GetURIs() {
		out.URIs = append(out.URIs, mesos.URI{
			Value: u.Value, Executable: u.GetExecutable(), Extract: u.GetExtract(), Cache: u.GetCache(), OutputFile: u.GetOutputFile(),
		})
	}
	for _, v := range e.GetCommand().GetEnvironment().GetVariables() {
		if out.Env == nil {
			out.Env = map[string]string{}
		}
		out.Env[v.Name] = v.GetValue()
	}
	return out
}

// ToTask converts a task of a launch. Unreachable has no place on the wire: what happens to a task on an unreachable
// agent is the framework's own decision.
func ToTask(t mesos.Task, frameworkID string) (mesosgo.TaskInfo, error) {
	rs, err := ToResources(t.Resources)
	if err != nil {
		return mesosgo.TaskInfo{}, err
	}
	executor, err := ToExecutor(t.Executor, frameworkID)
	if err != nil {
		return mesosgo.TaskInfo{}, err
	}
	out := mesosgo.TaskInfo{
		Name:       t.Name,
		TaskID:     mesosgo.TaskID{Value: t.ID},
		AgentID:    mesosgo.AgentID{Value: t.AgentID},
		Resources:  rs,
		Executor:   executor,
		Data:       t.Data,
		Labels:     toLabels(t.Labels),
		KillPolicy: toKillPolicy(t.KillGrace),
	}
	if out.Name == "" {
		out.Name = t.ID
	}
	return out, nil
}

// Task is the inverse of ToTask.
func Task(t *mesosgo.TaskInfo) mesos.Task {
	out := mesos.Task{
		ID:        t.TaskID.Value,
		Name:      t.Name,
		AgentID:   t.AgentID.Value,
		Resources: Resources(t.Resources),
		Data:      t.Data,
		KillGrace: time.Duration(t.GetKillPolicy().GetGracePeriod().GetNanoseconds()),
	}
	if t.Executor != nil {
		out.Executor = Executor(t.Executor)
	}
	for _, l := range t.GetLabels().GetLabels() {
		if out.Labels == nil {
			out.Labels = map[string]string{}
		}
		out.Labels[l.Key] = l.GetValue()
	}
	return out
}

func toLabels(m map[string]string) *mesosgo.Labels {
	if len(m) == 0 {
		return nil
	}
	out := &mesosgo.Labels{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v := m[k]
		out.Labels = append(out.Labels, mesosgo.Label{Key: k, Value: &v})
	}
	return out
}

// toKillPolicy gives no policy for a grace of 0: the executor then uses its own.
func toKillPolicy(grace time.Duration) *mesosgo.KillPolicy {
	if grace <= 0 {
		return nil
	}
	return &mesosgo.KillPolicy{GracePeriod: &mesosgo.DurationInfo{Nanoseconds: int64(grace)}}
}
