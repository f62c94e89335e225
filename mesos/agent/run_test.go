package agent

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/executor"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
	"padis.io/padis/mesos/wire/memnet"
)

const endpoint = "10.0.0.9:5051"

func launch(d *double, r *runner, ids ...string) {
	for _, id := range ids {
		d.say(mesos.LaunchTask{Task: mesos.Task{ID: id, AgentID: "a", Data: []byte("payload of " + id)}})
		next[mesos.LaunchTask](d.t, r)
	}
}

func running(id string) mesos.Status { return mesos.Status{TaskID: id, State: mesos.TaskRunning} }

func TestEvents(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t)
		defer n.Serve(endpoint, d)()
		r := start(t, config(n))
		if got := next[mesos.ExecutorSubscribed](t, r); got != (mesos.ExecutorSubscribed{AgentID: "a", Hostname: "h", FrameworkID: "fw-1", ExecutorID: "ex-1"}) {
			t.Fatalf("%+v", got)
		}
		launch(d, r, "t1", "t2")
		d.say(mesos.KillTask{TaskID: "t1"})
		d.say(mesos.FromScheduler{Data: []byte("hello")})
		if got := next[mesos.KillTask](t, r); got.TaskID != "t1" || got.Grace != nil {
			t.Fatalf("%+v", got)
		}
		if got := next[mesos.FromScheduler](t, r); string(got.Data) != "hello" {
			t.Fatalf("%+v", got)
		}
		healthy := true
		r.Update(mesos.Status{TaskID: "t1", State: mesos.TaskStarting})
		r.Update(mesos.Status{TaskID: "t1", State: mesos.TaskRunning, Healthy: &healthy, Message: "m", Data: []byte("d"), Reason: "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"})
		r.Message([]byte("report"))
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		next[mesos.Acknowledged](t, r)
		next[mesos.Acknowledged](t, r)
		synctest.Wait()
		if got := d.seen(); got != "SUBSCRIBE[] t1:STARTING t1:RUNNING MESSAGE:report" {
			t.Fatal(got)
		}
		first, second := d.all()[1].Update.Status, d.all()[2].Update.Status
		if len(first.UUID) != 16 || first.UUID[6]>>4 != 4 || bytes.Equal(first.UUID, second.UUID) {
			t.Fatalf("uuids %x and %x", first.UUID, second.UUID)
		}
		if second.GetSource().String() != "SOURCE_EXECUTOR" || second.GetExecutorID().GetValue() != "ex-1" || second.GetAgentID().GetValue() != "a" ||
			second.GetTimestamp() != float64(time.Now().UnixMicro())/1e6 || !second.GetHealthy() || second.GetMessage() != "m" || string(second.Data) != "d" {
			t.Fatalf("%+v", second)
		}
		r.stop()
	})
}

// An executor whose only task was killed before it subscribed sees SHUTDOWN first.
func TestShutdownFirst(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t)
		d.subscribe = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", protobuf)
			w.Write(d.frame(mesos.Shutdown{}))
		}
		defer n.Serve(endpoint, d)()
		r := start(t, config(n))
		next[mesos.Shutdown](t, r)
		if err := <-r.result; err != nil {
			t.Fatal(err)
		}
	})
}

// What an agent that was restarted hears is the truth about tasks and updates: see the package comment.
func TestAgentRestart(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t)
		down := n.Serve(endpoint, d)
		r := start(t, config(n))
		next[mesos.ExecutorSubscribed](t, r)
		launch(d, r, "started", "silent", "over")
		r.Update(running("started"))
		r.Update(running("over"))
		next[mesos.Acknowledged](t, r)
		next[mesos.Acknowledged](t, r)
		down()
		next[mesos.ExecutorDisconnected](t, r)
		r.Update(mesos.Status{TaskID: "over", State: mesos.TaskFinished})
		r.Update(mesos.Status{TaskID: "started", State: mesos.TaskRunning, Message: "2"})
		<-time.After(10 * time.Second)

		again := newDouble(t)
		recovering := true
		again.subscribe = func(w http.ResponseWriter, req *http.Request) {
			if recovering {
				recovering = false
				http.Error(w, "Agent has not finished recovery", http.StatusServiceUnavailable)
				return
			}
			again.stream(w, req)
		}
		begin := time.Now()
		defer n.Serve(endpoint, again)()
		next[mesos.ExecutorSubscribed](t, r)
		if took := time.Since(begin); took > time.Second {
			t.Fatalf("back after %s; the agent waits for 2s", took)
		}
		// Listed is sent: what the SUBSCRIBE said needs no UPDATE.
		r.Update(running("silent"))
		synctest.Wait()
		const listed = "SUBSCRIBE[silent over:FINISHED started:RUNNING]"
		if got := again.seen(); got != listed+" "+listed+" silent:RUNNING" {
			t.Fatal(got)
		}
		if got := again.all()[1].Subscribe.UnacknowledgedTasks[0]; string(got.Data) != "payload of silent" {
			t.Fatalf("the task is not the one that was launched: %+v", got)
		}
		if a, b := again.all()[0].Subscribe.UnacknowledgedUpdates, again.all()[1].Subscribe.UnacknowledgedUpdates; !bytes.Equal(a[0].Status.UUID, b[0].Status.UUID) {
			t.Fatal("an update changed its uuid")
		}
		for _, u := range again.all()[1].Subscribe.UnacknowledgedUpdates {
			again.say(mesos.Acknowledged{TaskID: u.Status.TaskID.Value, UUID: u.Status.UUID})
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.stop()
	})
}

func TestAgentGone(t *testing.T) {
	for _, c := range []struct {
		name       string
		checkpoint bool
		// subscribed tells whether there was an agent at all.
		subscribed bool
		after      time.Duration
	}{
		{"checkpointing", true, true, 15 * time.Minute},
		{"not checkpointing", false, true, 0},
		{"never there", false, false, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			scene(t, func(t *testing.T, n *memnet.Network) {
				cfg := config(n)
				cfg.Checkpoint = c.checkpoint
				down := func() {}
				if c.subscribed {
					down = n.Serve(endpoint, newDouble(t))
				}
				r := start(t, cfg)
				if c.subscribed {
					next[mesos.ExecutorSubscribed](t, r)
				}
				<-time.After(c.after / 2)
				begin := time.Now().Add(-c.after / 2)
				if c.subscribed {
					begin = time.Now()
				}
				down()
				if c.subscribed {
					next[mesos.ExecutorDisconnected](t, r)
				}
				if err := <-r.result; !errors.Is(err, ErrAgentGone) {
					t.Fatal(err)
				}
				if took := time.Since(begin); took < c.after || took > c.after+time.Second {
					t.Fatalf("gave up after %s, want %s", took, c.after)
				}
			})
		})
	}
	t.Run("does not know us", func(t *testing.T) {
		scene(t, func(t *testing.T, n *memnet.Network) {
			d := newDouble(t)
			d.subscribe = func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "Executor cannot be found", http.StatusBadRequest)
			}
			defer n.Serve(endpoint, d)()
			r := start(t, config(n))
			if err := <-r.result; !errors.Is(err, ErrAgentGone) || !strings.Contains(err.Error(), "Executor cannot be found") {
				t.Fatal(err)
			}
		})
	})
}

func TestUpdatesAreRepeatedUntilTaken(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t)
		answers := []int{503, 500, 202, 202}
		d.status = func(*executor.Call) int {
			s := answers[0]
			answers = answers[1:]
			return s
		}
		defer n.Serve(endpoint, d)()
		r := start(t, config(n))
		next[mesos.ExecutorSubscribed](t, r)
		launch(d, r, "t1", "t2")
		r.Update(running("t1"))
		r.Update(running("t2"))
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := d.seen(); got != "SUBSCRIBE[] t1:RUNNING t1:RUNNING t1:RUNNING t2:RUNNING" {
			t.Fatal(got)
		}
		calls := d.all()
		if !bytes.Equal(calls[1].Update.Status.UUID, calls[3].Update.Status.UUID) {
			t.Fatal("an update changed its uuid")
		}
		r.stop()
	})
}

// Nobody ever acknowledges these; they must not be listed for ever.
func TestUpdatesNobodyAcknowledges(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t)
		d.status = func(c *executor.Call) int {
			if c.Update.Status.TaskID.Value == "refused" {
				return http.StatusBadRequest
			}
			return http.StatusAccepted
		}
		defer n.Serve(endpoint, d)()
		r := start(t, config(n))
		next[mesos.ExecutorSubscribed](t, r)
		launch(d, r, "t1", "refused")
		r.Update(mesos.Status{TaskID: "t1", State: mesos.TaskFinished})
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		next[mesos.Acknowledged](t, r)
		d.mute = true
		r.Update(running("t1"))
		r.Update(running("never-had"))
		r.Update(running("refused"))
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.hangup <- struct{}{}
		next[mesos.ExecutorDisconnected](t, r)
		next[mesos.ExecutorSubscribed](t, r)
		if got := d.seen(); got != "SUBSCRIBE[] t1:FINISHED t1:RUNNING never-had:RUNNING refused:RUNNING SUBSCRIBE[refused]" {
			t.Fatal(got)
		}
		r.stop()
	})
}

func TestInvalidUpdatesAreNotSent(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		c, err := New(config(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []mesos.Status{
			{State: mesos.TaskRunning}, {TaskID: "t", State: mesos.TaskStaging}, {TaskID: "t"}, {TaskID: "t", State: "TASK_ODD"},
			{TaskID: "t", State: mesos.TaskFailed, Reason: "REASON_ODD"},
		} {
			c.Update(s)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// Without an agent, messages do not heap up; the newest survive.
func TestMessagesAreBounded(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t)
		r := start(t, config(n))
		synctest.Wait() // until the first attempt has failed
		for i := range maxMessages + 10 {
			r.Message([]byte{byte('0' + i)})
		}
		r.Update(running("orphan"))
		defer n.Serve(endpoint, d)()
		next[mesos.ExecutorSubscribed](t, r)
		synctest.Wait()
		calls := d.all()
		if len(calls) != 1+maxMessages || string(calls[1].Message.Data) != string(rune('0'+10)) {
			t.Fatalf("%d calls: %s", len(calls), d.seen())
		}
		r.stop()
	})
}

func TestBrokenStreams(t *testing.T) {
	for name, answer := range map[string]func(d *double, w http.ResponseWriter){
		"503":     func(_ *double, w http.ResponseWriter) { w.WriteHeader(503) },
		"HTML":    func(_ *double, w http.ResponseWriter) { w.Write([]byte("<html>")) },
		"nothing": func(_ *double, w http.ResponseWriter) { w.Header().Set("Content-Type", protobuf) },
		"cut event": func(_ *double, w http.ResponseWriter) {
			w.Header().Set("Content-Type", protobuf)
			w.Write([]byte("100\nabc"))
		},
		"no event": func(_ *double, w http.ResponseWriter) {
			w.Header().Set("Content-Type", protobuf)
			w.Write([]byte("3\n\xff\xff\xff"))
		},
		"lying length": func(_ *double, w http.ResponseWriter) {
			w.Header().Set("Content-Type", protobuf)
			w.Write([]byte("99999999999\n"))
		},
		"empty events": func(_ *double, w http.ResponseWriter) {
			w.Header().Set("Content-Type", protobuf)
			w.Write(wire.AppendFrame(wire.AppendFrame(nil, nil), nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, n *memnet.Network) {
				d := newDouble(t)
				times := 0
				d.subscribe = func(w http.ResponseWriter, r *http.Request) {
					if times++; times <= 3 {
						answer(d, w)
						return
					}
					d.stream(w, r)
				}
				defer n.Serve(endpoint, d)()
				r := start(t, config(n))
				next[mesos.ExecutorSubscribed](t, r)
				r.stop()
			})
		})
	}
}

// An agent that says SUBSCRIBED twice is not sent everything twice.
func TestSubscribedTwice(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t)
		defer n.Serve(endpoint, d)()
		r := start(t, config(n))
		next[mesos.ExecutorSubscribed](t, r)
		d.say(mesos.ExecutorSubscribed{AgentID: "a"})
		next[mesos.ExecutorSubscribed](t, r)
		for range 20 {
			r.Update(running("t"))
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if calls := d.all(); len(calls) != 21 {
			t.Fatal(d.seen())
		}
		r.stop()
	})
}

func TestFlush(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		r := start(t, config(n))
		r.Update(running("t"))
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- r.Flush(t.Context()) }()
		synctest.Wait()
		r.stop()
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
		defer n.Serve(endpoint, newDouble(t))()
		go r.Run(t.Context(), func(mesos.ExecutorEvent) {})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
