// Package agent is a client of the v1 executor API of Mesos (protobuf on the wire): what an executor needs to talk to
// the agent that started it, and to be found again by an agent that was restarted. Edge: talks to the Mesos agent
// over HTTP.
//
// # What is kept, and for how long
//
// An agent that comes back asks its executors which tasks and updates are unacknowledged. A task that it has no
// acknowledged update of and that is not listed gets TASK_DROPPED although it runs; an update that is not listed is
// lost. The client therefore keeps both lists itself, in the memory of the process whose tasks they are about:
//
//   - a task, as the very bytes that came with LAUNCH, until its first update is acknowledged;
//   - an update until it is acknowledged. Updates go out one at a time in the order they were made, each under one
//     uuid for ever. Those that a SUBSCRIBE lists need no UPDATE of their own.
//
// Two kinds of update are never acknowledged and are forgotten once the agent has taken them: those about a task that
// was not launched here, and those that follow the end of their task. An update that the agent refuses (HTTP 400) is
// logged and forgotten too; listed again, it would spoil the SUBSCRIBE.
package agent
