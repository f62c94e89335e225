package agent

import (
	"net/http"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	agentpb "github.com/mesos/mesos-go/api/v1/lib/agent"
	executorpb "github.com/mesos/mesos-go/api/v1/lib/executor"

	"padis.io/padis/mesos/local/wire"
)

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/slave(1)"} {
		mux.HandleFunc(prefix+"/api/v1/executor", a.executor)
		mux.HandleFunc(prefix+"/api/v1", a.operator)
		mux.HandleFunc(prefix+"/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		mux.HandleFunc(prefix+"/files/read", a.filesRead)
	}
	return mux
}

func (a *Agent) executor(w http.ResponseWriter, r *http.Request) {
	var call executorpb.Call
	if refusal := wire.ReadCall(w, r, &call); refusal != nil {
		refusal.Write(w)
		return
	}
	if text := refuseCall(&call); text != "" {
		wire.Refuse(http.StatusBadRequest, "Failed to validate Executor::Call: %s", text).Write(w)
		return
	}
	if call.Type == executorpb.Call_SUBSCRIBE {
		a.subscribe(w, r, &call)
		return
	}
	refusal := wire.Refuse(http.StatusServiceUnavailable, "Agent is shutting down")
	a.do(func(c *core) { refusal = c.call(&call) })
	if refusal != nil {
		refusal.Write(w)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (a *Agent) subscribe(w http.ResponseWriter, r *http.Request, call *executorpb.Call) {
	media, refusal := wire.Accepted(r)
	if refusal != nil {
		refusal.Write(w)
		return
	}
	out := wire.NewStream("", media)
	var e *executor
	if !a.do(func(c *core) {
		if e, refusal = c.find(call.FrameworkID.Value, call.ExecutorID.Value); refusal == nil {
			c.subscribe(e, call.Subscribe, out)
		}
	}) {
		return
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	out.Serve(w, r)
	a.post(func(c *core) { c.disconnected(e, out) })
}

// refuseCall finds what is wrong with an executor's call by itself; the text is empty if nothing is.
func refuseCall(call *executorpb.Call) string {
	missing := func(absent bool, name string) string {
		if absent {
			return "Expecting '" + name + "' to be present"
		}
		return ""
	}
	switch call.Type {
	case executorpb.Call_SUBSCRIBE:
		return missing(call.Subscribe == nil, "subscribe")
	case executorpb.Call_UPDATE:
		if call.Update == nil {
			return missing(true, "update")
		}
		if err := refuseStatus(call.FrameworkID.Value, call.ExecutorID.Value, call.Update.Status); err != nil {
			return err.Error()
		}
		return ""
	case executorpb.Call_MESSAGE:
		return missing(call.Message == nil, "message")
	case executorpb.Call_HEARTBEAT:
		return ""
	}
	return missing(true, "type")
}

// call handles a validated call of an executor other than SUBSCRIBE.
func (c *core) call(call *executorpb.Call) *wire.Refusal {
	e, refusal := c.find(call.FrameworkID.Value, call.ExecutorID.Value)
	if refusal != nil {
		return refusal
	}
	if e.state == registering {
		return wire.Refuse(http.StatusForbidden, "Executor is not subscribed")
	}
	switch call.Type {
	case executorpb.Call_UPDATE:
		if !e.framework.terminating && e.state != terminated {
			c.update(e.framework, e, call.Update.Status, true)
		}
	case executorpb.Call_MESSAGE:
		c.toMaster(wire.Frame{Kind: wire.FromExecutor, Framework: e.framework.id, Executor: e.id, Bodies: [][]byte{call.Message.Data}})
	}
	return nil
}

func (a *Agent) operator(w http.ResponseWriter, r *http.Request) {
	var call agentpb.Call
	refusal := wire.ReadCall(w, r, &call)
	media := ""
	if refusal == nil {
		media, refusal = wire.Accepted(r)
	}
	var response *agentpb.Response
	if refusal == nil {
		switch call.Type {
		case agentpb.Call_READ_FILE:
			response, refusal = a.readFile(call.ReadFile)
		case agentpb.Call_LIST_FILES:
			response, refusal = a.listFiles(call.ListFiles)
		default:
			if !a.do(func(c *core) { response, refusal = c.operate(&call) }) {
				refusal = wire.Refuse(http.StatusServiceUnavailable, "Agent is shutting down")
			}
		}
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	wire.Reply(w, media, response)
}

// operate answers an operator's call that needs the state of the agent.
func (c *core) operate(call *agentpb.Call) (*agentpb.Response, *wire.Refusal) {
	switch call.Type {
	case agentpb.Call_UNKNOWN:
		return nil, wire.Refuse(http.StatusBadRequest, "Failed to validate agent::Call: Expecting 'type' to be present")
	case agentpb.Call_GET_HEALTH:
		return &agentpb.Response{Type: agentpb.Response_GET_HEALTH, GetHealth: &agentpb.Response_GetHealth{Healthy: true}}, nil
	case agentpb.Call_GET_VERSION:
		return &agentpb.Response{Type: agentpb.Response_GET_VERSION, GetVersion: &agentpb.Response_GetVersion{VersionInfo: mesos.VersionInfo{Version: Version}}}, nil
	case agentpb.Call_GET_FLAGS:
		var flags []mesos.Flag
		for _, f := range [][2]string{
			{"attributes", c.cfg.Attributes}, {"executor_registration_timeout", durationText(c.cfg.ExecutorRegistrationTimeout)},
			{"executor_reregistration_timeout", durationText(c.cfg.ExecutorReregistrationTimeout)},
			{"executor_shutdown_grace_period", durationText(c.cfg.ExecutorShutdownGrace)}, {"hostname", c.cfg.Hostname},
			{"ip", c.cfg.IP}, {"master", c.cfg.Master}, {"resources", c.cfg.Resources}, {"work_dir", c.cfg.WorkDir},
		} {
			flags = append(flags, mesos.Flag{Name: f[0], Value: new(f[1])})
		}
		return &agentpb.Response{Type: agentpb.Response_GET_FLAGS, GetFlags: &agentpb.Response_GetFlags{Flags: flags}}, nil
	case agentpb.Call_GET_STATE:
		return &agentpb.Response{Type: agentpb.Response_GET_STATE, GetState: c.state()}, nil
	case agentpb.Call_GET_TASKS:
		return &agentpb.Response{Type: agentpb.Response_GET_TASKS, GetTasks: c.state().GetTasks}, nil
	case agentpb.Call_GET_EXECUTORS:
		return &agentpb.Response{Type: agentpb.Response_GET_EXECUTORS, GetExecutors: c.state().GetExecutors}, nil
	case agentpb.Call_GET_FRAMEWORKS:
		return &agentpb.Response{Type: agentpb.Response_GET_FRAMEWORKS, GetFrameworks: c.state().GetFrameworks}, nil
	}
	return nil, wire.Refuse(http.StatusNotImplemented, "%s is not supported by this agent", call.Type)
}

func (c *core) state() *agentpb.Response_GetState {
	tasks := &agentpb.Response_GetTasks{
		PendingTasks: []mesos.Task{}, QueuedTasks: []mesos.Task{}, LaunchedTasks: []mesos.Task{}, TerminatedTasks: []mesos.Task{}, CompletedTasks: []mesos.Task{},
	}
	executors := &agentpb.Response_GetExecutors{Executors: []agentpb.Response_GetExecutors_Executor{}, CompletedExecutors: []agentpb.Response_GetExecutors_Executor{}}
	frameworks := &agentpb.Response_GetFrameworks{Frameworks: []agentpb.Response_GetFrameworks_Framework{}}
	for _, f := range c.frameworks {
		frameworks.Frameworks = append(frameworks.Frameworks, agentpb.Response_GetFrameworks_Framework{FrameworkInfo: f.info})
	}
	for _, e := range c.executors() {
		if e.state == terminated {
			executors.CompletedExecutors = append(executors.CompletedExecutors, agentpb.Response_GetExecutors_Executor{ExecutorInfo: e.info})
		} else {
			executors.Executors = append(executors.Executors, agentpb.Response_GetExecutors_Executor{ExecutorInfo: e.info})
		}
		for _, t := range e.byAge() {
			switch {
			case t.queued:
				tasks.QueuedTasks = append(tasks.QueuedTasks, t.wire(e))
			case terminal(t.state):
				tasks.TerminatedTasks = append(tasks.TerminatedTasks, t.wire(e))
			default:
				tasks.LaunchedTasks = append(tasks.LaunchedTasks, t.wire(e))
			}
		}
	}
	return &agentpb.Response_GetState{GetTasks: tasks, GetExecutors: executors, GetFrameworks: frameworks}
}
