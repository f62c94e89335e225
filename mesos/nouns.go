package mesos

import "time"

// Offer is what one agent has for us at the moment.
type Offer struct {
	ID       string
	AgentID  string
	Hostname string
	// URL of the agent's HTTP endpoint, for example http://10.0.0.5:5051.
	URL        string
	Role       string
	Resources  []Resource
	Attributes map[string]string
	// ExecutorIDs of ours that run on the agent.
	ExecutorIDs []string
	// UnavailableFrom is the start of announced maintenance; zero if none.
	UnavailableFrom time.Time
}

// Agent is what the operator API tells of an agent, offered or not.
type Agent struct {
	ID         string
	Hostname   string
	URL        string
	Attributes map[string]string
	Total      Amounts
	Allocated  Amounts
	Active     bool
	Version    string
	Registered time.Time
	// Draining, Drained or empty.
	Drain string
}

// Executor is the ExecutorInfo of a launch.
type Executor struct {
	ID        string
	Name      string
	Command   string
	URIs      []URI
	Env       map[string]string
	Resources []Resource
	// ShutdownGrace is the time between SHUTDOWN and SIGKILL.
	ShutdownGrace time.Duration
}

// URI is a file that the Mesos fetcher puts into the sandbox.
type URI struct {
	Value      string
	Executable bool
	Extract    bool
	Cache      bool
	OutputFile string
}

// Task is one task of a launch.
type Task struct {
	ID        string
	Name      string
	AgentID   string
	Resources []Resource
	Executor  Executor
	// Data is the payload for the executor.
	Data        []byte
	Labels      map[string]string
	KillGrace   time.Duration
	Unreachable time.Duration
}

// TaskState is the state that Mesos knows, by its wire name.
type TaskState string

// The task states of Mesos 1.9 and later.
const (
	TaskStaging     TaskState = "TASK_STAGING"
	TaskStarting    TaskState = "TASK_STARTING"
	TaskRunning     TaskState = "TASK_RUNNING"
	TaskKilling     TaskState = "TASK_KILLING"
	TaskFinished    TaskState = "TASK_FINISHED"
	TaskFailed      TaskState = "TASK_FAILED"
	TaskKilled      TaskState = "TASK_KILLED"
	TaskError       TaskState = "TASK_ERROR"
	TaskLost        TaskState = "TASK_LOST"
	TaskDropped     TaskState = "TASK_DROPPED"
	TaskUnreachable TaskState = "TASK_UNREACHABLE"
	TaskGone        TaskState = "TASK_GONE"
	TaskGoneByOp    TaskState = "TASK_GONE_BY_OPERATOR"
	TaskUnknown     TaskState = "TASK_UNKNOWN"
)

// Terminal tells whether a task in this state is over and will never run again. UNREACHABLE and UNKNOWN are not:
// the one may return, the other is an absence of knowledge.
func (s TaskState) Terminal() bool {
	switch s {
	case TaskFinished, TaskFailed, TaskKilled, TaskError, TaskLost, TaskDropped, TaskGone, TaskGoneByOp:
		return true
	}
	return false
}

// Status is one status of a task.
type Status struct {
	TaskID     string
	State      TaskState
	Source     string // SOURCE_MASTER, SOURCE_AGENT, SOURCE_EXECUTOR
	Reason     string // REASON_..., as on the wire; empty if absent
	Message    string
	AgentID    string
	ExecutorID string
	Data       []byte
	// Healthy is nil when the executor said nothing of it.
	Healthy   *bool
	Timestamp time.Time
	// UUID is empty for updates that the master made up; those must not be acknowledged.
	UUID []byte
}
