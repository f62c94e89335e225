package agent

import (
	"bytes"
	"cmp"
	"slices"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"

	"padis.io/padis/mesos"
)

// book is what the agent would have to be told if it forgot everything: see the package comment.
type book struct {
	// tasks that were launched and whose end is not acknowledged.
	tasks map[string]*launched
	// updates that are not acknowledged, in the order they were made.
	updates []*update
	// launches counts, to list tasks in the order they came.
	launches int
}

type launched struct {
	number int
	// info as it came; nil once an update of the task was acknowledged.
	info *mesosgo.TaskInfo
}

type update struct {
	status mesosgo.TaskStatus
	// sent on the subscription in force (or listed by its SUBSCRIBE).
	sent bool
}

func (u *update) terminal() bool { return mesos.TaskState(u.status.GetState().String()).Terminal() }

func (b *book) launch(info *mesosgo.TaskInfo) {
	if b.tasks == nil {
		b.tasks = map[string]*launched{}
	}
	b.launches++
	b.tasks[info.TaskID.Value] = &launched{number: b.launches, info: info}
}

func (b *book) add(s mesosgo.TaskStatus) { b.updates = append(b.updates, &update{status: s}) }

// next is the oldest update that was not sent, nil if there is none.
func (b *book) next() *update {
	for _, u := range b.updates {
		if !u.sent {
			return u
		}
	}
	return nil
}

// delivered notes that the agent has taken an update. One that it will not acknowledge is forgotten.
func (b *book) delivered(u *update) {
	u.sent = true
	if b.tasks[u.status.TaskID.Value] == nil {
		b.forget(u)
	}
}

// forget drops one update.
func (b *book) forget(u *update) {
	b.updates = slices.DeleteFunc(b.updates, func(x *update) bool { return x == u })
}

// acknowledge ends the keeping of an update, of its task's info, and, when that was the end of the task, of the task.
func (b *book) acknowledge(taskID string, uuid []byte) {
	i := slices.IndexFunc(b.updates, func(u *update) bool {
		return u.status.TaskID.Value == taskID && bytes.Equal(u.status.UUID, uuid)
	})
	if i < 0 { // acknowledged before, by the agent's former self
		return
	}
	u := b.updates[i]
	b.updates = slices.Delete(b.updates, i, i+1)
	if t := b.tasks[taskID]; t != nil {
		t.info = nil
	}
	if u.terminal() {
		delete(b.tasks, taskID)
		b.updates = slices.DeleteFunc(b.updates, func(u *update) bool { return u.sent && u.status.TaskID.Value == taskID })
	}
}

// lists gives what a SUBSCRIBE must tell. Every update of the second list is to be passed to delivered when the
// SUBSCRIBE was taken.
func (b *book) lists() (tasks []mesosgo.TaskInfo, updates []*update) {
	var open []*launched
	for _, t := range b.tasks {
		if t.info != nil {
			open = append(open, t)
		}
	}
	slices.SortFunc(open, func(a, b *launched) int { return cmp.Compare(a.number, b.number) })
	for _, t := range open {
		tasks = append(tasks, *t.info)
	}
	return tasks, slices.Clone(b.updates)
}

// pending tells whether an update still waits for its acknowledgement.
func (b *book) pending() bool { return len(b.updates) > 0 }
