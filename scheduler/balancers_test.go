package scheduler

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
)

func wantedBalancer() *padisv1.WantedBalancer {
	return &padisv1.WantedBalancer{
		Uid: "front", Namespace: "ns", Name: "front", Vips: []*padisv1.VirtualAddress{{Pool: "vips"}}, TableSize: 53, Seed: 7, Scheduler: "maglev",
		Listeners: []*padisv1.Listener{{Name: "http", Protocol: "tcp", FirstPort: 80}}, Backends: []*padisv1.Backend{{App: "web", Weight: 100}},
	}
}

// What reconcilers ask of LoadBalancers, from the first wish to the last of it.
func TestBalancers(t *testing.T) {
	l, _ := newLoop(t, Config{})
	ctx, now := context.Background(), time.Unix(1e9, 0)
	var told []string
	l.OnChange(ctx, func(namespace, name, uid string) { told = append(told, namespace+"/"+name+" "+uid) })
	turn := func(evs ...core.Event) {
		t.Helper()
		now = now.Add(time.Second)
		if err := l.Turn(ctx, now, evs); err != nil {
			t.Fatal(err)
		}
	}
	client, vip := netip.MustParseAddrPort("10.9.9.9:1234"), netip.MustParseAddrPort("192.0.2.0:80")
	if _, err := l.Trace("front", client, vip, "tcp"); !errors.Is(err, ErrNoBalance) {
		t.Error(err)
	}
	cluster := &padisv1.Cluster{Networks: []*padisv1.Network{{Name: "edge", Driver: "virtual"}, {Name: "net", Driver: "bridge"}},
		Pools: []*padisv1.Pool{{Name: "vips", Network: "edge", Cidr: "192.0.2.0/24"}, {Name: "pool", Network: "net", Cidr: "10.0.0.0/24"}}}
	directors, web := app(), app()
	directors.Uid, directors.Name, directors.Directors = "front", "front-director", true
	for _, a := range []*padisv1.WantedApp{directors, web} {
		a.Revisions[0].Networks = []*padisv1.NetworkWish{{Pool: "pool"}}
	}
	turn(core.Declare{Cluster: cluster}, core.WantBalancer{Balancer: wantedBalancer()}, core.Want{App: directors}, core.Want{App: web})
	turn(events(mesos.Subscribed{FrameworkID: "F"})...)
	if !slices.Contains(told, "ns/front front") || l.Balancer("front").GetName() != "front" || len(l.Balancers()) != 1 {
		t.Errorf("%v %v", told, l.Balancers())
	}
	b := l.Balance("front")
	if b.Number != 1 || b.VIPs[0].Address != "192.0.2.0" || len(b.Servers) != 1 || b.Servers[0].State != "waiting" || b.Servers[0].Reason == "" || b.Servers[0].Instance != "web-0" {
		t.Errorf("%+v", b)
	}
	if tr, err := l.Trace("front", client, vip, "tcp"); err != nil || tr.Listener != "http" || !strings.Contains(tr.Refusal, "no real server") {
		t.Errorf("%+v %v", tr, err)
	}
	turn(events(offers())...)
	data, _ := padisv1.Encode(&padisv1.InstanceReport{Ready: true})
	for _, in := range l.Instances("uid") {
		turn(events(mesos.Update{Status: mesos.Status{TaskID: in.Status.TaskID, AgentID: "a", State: mesos.TaskRunning, Source: "SOURCE_EXECUTOR", Data: data, UUID: []byte("1")}})...)
	}
	tr, err := l.Trace("front", client, vip, "tcp")
	if s := l.Balance("front").Servers[0]; s.State != "serving" || s.Slots != 53 || s.Table != 53 || s.Weight != 100 || err != nil || len(tr.Chain) != 1 || tr.Chain[0].Instance != "web-0" {
		t.Errorf("%+v %+v %v", s, tr, err)
	}
	if a := l.Addresses("vips"); len(a) != 1 || a[0].Status.Instance != "front" || len(a[0].Labels) != 0 {
		t.Errorf("%+v", a)
	}
	told = nil
	turn(core.ForgetBalancer{UID: "front"})
	if !l.Balancer("front").GetForgotten() || !slices.Contains(told, "ns/front front") {
		t.Errorf("%v", told)
	}
}
