package scheduler

import (
	"context"
	"testing"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
)

// What executors say can be read by others: where they listen, which images they have, how far an upgrade is.
func TestExecutorsAreShown(t *testing.T) {
	l, _ := newLoop(t, Config{})
	ctx, now := context.Background(), time.Unix(1e9, 0)
	turn := func(evs ...core.Event) {
		t.Helper()
		if err := l.Turn(ctx, now, evs); err != nil {
			t.Fatal(err)
		}
	}
	wanted := app()
	wanted.Revisions[0].Template.Image = "web:1"
	turn(append(events(mesos.Subscribed{FrameworkID: "F"}), core.Want{App: wanted})...)
	turn(core.Declare{Cluster: &padisv1.Cluster{
		Prepulls:        []*padisv1.Prepull{{Namespace: "ns", Name: "p", Images: []string{"a", "b", "c"}}},
		ExecutorUpgrade: &padisv1.ExecutorUpgrade{},
	}})
	turn(events(offers())...)
	if at, ok := l.Endpoint("ns", "web-0", false); ok {
		t.Errorf("nobody has said where he listens: %+v", at)
	}
	executor := l.Core().Agents()[0].Executor
	running := mesos.Update{Status: mesos.Status{TaskID: "ns.web-0.uid.1", AgentID: "a", State: mesos.TaskRunning, Source: "SOURCE_EXECUTOR", UUID: []byte("1")}}
	data, err := padisv1.Encode(&padisv1.FromExecutor{Endpoint: "h:7070", Certificate: []byte("der"), Images: []*padisv1.ImageState{
		{Image: "a", Present: true}, {Image: "b", Reason: padisv1.ReasonImageNotFound, Message: "no such tag"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	turn(events(running, mesos.FromExecutor{AgentID: "a", ExecutorID: executor, Data: data})...)
	at, ok := l.Endpoint("ns", "web-0", false)
	if !ok || at.Address != "h:7070" || string(at.Certificate) != "der" || at.TaskID != "ns.web-0.uid.1" || at.Container != at.TaskID || at.Host != "h" {
		t.Errorf("%+v %v", at, ok)
	}
	if _, ok := l.Endpoint("ns", "web-0", true); ok {
		t.Error("there was no run before")
	}
	if all := l.Endpoints(); len(all) != 1 || all[0].Agent != "a" || all[0].TaskID != "" {
		t.Errorf("%+v", all)
	}
	images := l.PrepullStates("ns", "p")
	if len(images) != 3 || !images[0].Present || images[1].Reason != padisv1.ReasonImageNotFound || images[2].Reason != padisv1.ReasonPulling || images[2].Host != "h" || l.PrepullStates("ns", "q") != nil {
		t.Errorf("%+v", images)
	}
	if up := l.UpgradeStatus(); up.Target != "s" || up.Total != 1 || up.Updated != 1 {
		t.Errorf("%+v", up)
	}
	ended := running
	ended.Status.State, ended.Status.UUID = mesos.TaskFinished, []byte("2")
	turn(events(ended)...)
	if at, ok := l.Endpoint("ns", "web-0", true); !ok || at.Container != "ns.web-0.uid.1" {
		t.Errorf("%+v %v", at, ok)
	}
}
