package mesos

import "time"

// ExecutorEvent is what the agent tells an executor. The client adds ExecutorDisconnected.
type ExecutorEvent interface{ executorEvent() }

// ExecutorSubscribed opens or re-opens the subscription.
type ExecutorSubscribed struct{ AgentID, Hostname, FrameworkID, ExecutorID string }

// ExecutorDisconnected tells that the agent is away; with checkpointing it may come back.
type ExecutorDisconnected struct{ Err error }

// LaunchTask starts one task.
type LaunchTask struct{ Task Task }

// KillTask ends one task. Grace is nil when the call carried no kill policy.
type KillTask struct {
	TaskID string
	Grace  *time.Duration
}

// Acknowledged tells that the agent has the update; it need not be sent again.
type Acknowledged struct {
	TaskID string
	UUID   []byte
}

// FromScheduler brings a message.
type FromScheduler struct{ Data []byte }

// Shutdown asks the executor to end all tasks and exit.
type Shutdown struct{}

// ExecutorFailed is an ERROR event.
type ExecutorFailed struct{ Message string }

func (ExecutorSubscribed) executorEvent()   {}
func (ExecutorDisconnected) executorEvent() {}
func (LaunchTask) executorEvent()           {}
func (KillTask) executorEvent()             {}
func (Acknowledged) executorEvent()         {}
func (FromScheduler) executorEvent()        {}
func (Shutdown) executorEvent()             {}
func (ExecutorFailed) executorEvent()       {}
