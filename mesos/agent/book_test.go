package agent

import (
	"fmt"
	"slices"
	"testing"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"pgregory.net/rapid"
)

// An agent forgets, repeats and comes back at any moment. Whatever it does, each update that it could acknowledge is
// listed or waiting until it did, in the order it was made; each task is listed until one of its updates is
// acknowledged; and once all is acknowledged, nothing is left.
func TestBookLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b book
		states := []mesosgo.TaskState{mesosgo.TASK_RUNNING, mesosgo.TASK_FINISHED}
		made := 0
		// want are the uuids of updates of live tasks that were not acknowledged; fresh the tasks with none acknowledged.
		var want []string
		fresh := map[string]bool{}
		live := map[string]bool{}
		ended := map[string]bool{} // a terminal update was made
		taskOf := map[string]string{}
		last := map[string]bool{}
		check := func() {
			tasks, updates := b.lists()
			var got []string
			for _, u := range updates {
				if live[u.status.TaskID.Value] {
					got = append(got, string(u.status.UUID))
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("updates %v, want %v", got, want)
			}
			if len(tasks) != len(fresh) {
				t.Fatalf("%d tasks are listed, want %v", len(tasks), fresh)
			}
			for _, task := range tasks {
				if !fresh[task.TaskID.Value] {
					t.Fatalf("%s is listed", task.TaskID.Value)
				}
			}
		}
		ack := func(uuid string) {
			id := taskOf[uuid]
			b.acknowledge(id, []byte(uuid))
			want = slices.DeleteFunc(want, func(x string) bool { return x == uuid })
			delete(fresh, id)
			if last[uuid] {
				delete(live, id)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"launch": func(t *rapid.T) {
				id := fmt.Sprint("t", len(taskOf)+len(live)+len(ended)+made)
				if live[id] || ended[id] {
					t.Skip()
				}
				b.launch(&mesosgo.TaskInfo{TaskID: mesosgo.TaskID{Value: id}})
				live[id], fresh[id] = true, true
			},
			"update": func(t *rapid.T) {
				var open []string
				for id := range live {
					if !ended[id] {
						open = append(open, id)
					}
				}
				slices.Sort(open)
				id := rapid.SampledFrom(append(open, "never-had")).Draw(t, "task")
				state := rapid.SampledFrom(states).Draw(t, "state")
				made++
				uuid := fmt.Sprint("u", made)
				b.add(mesosgo.TaskStatus{TaskID: mesosgo.TaskID{Value: id}, State: state.Enum(), UUID: []byte(uuid)})
				taskOf[uuid] = id
				if live[id] {
					want = append(want, uuid)
					last[uuid] = state == mesosgo.TASK_FINISHED
					ended[id] = last[uuid]
				}
			},
			"send": func(*rapid.T) {
				if u := b.next(); u != nil {
					b.delivered(u)
				}
			},
			"resubscribe": func(*rapid.T) {
				_, updates := b.lists()
				for _, u := range updates {
					b.delivered(u)
				}
			},
			"acknowledge the oldest of a task": func(t *rapid.T) {
				var oldest []string
				seen := map[string]bool{}
				for _, uuid := range want {
					if !seen[taskOf[uuid]] {
						seen[taskOf[uuid]] = true
						oldest = append(oldest, uuid)
					}
				}
				if len(oldest) == 0 {
					t.Skip()
				}
				ack(rapid.SampledFrom(oldest).Draw(t, "uuid"))
			},
			"acknowledge again": func(*rapid.T) { b.acknowledge("t0", []byte("u0")) },
			"":                  func(*rapid.T) { check() },
		})
		for len(want) > 0 {
			ack(want[0])
		}
		_, updates := b.lists()
		for _, u := range updates {
			b.delivered(u)
		}
		check()
		if b.pending() {
			t.Fatal("something is left")
		}
	})
}
