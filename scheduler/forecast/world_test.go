package forecast

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/scheduler/core"
)

// The world is another when anything changes that a plan depends on, and the same when nothing does.
func TestWorld(t *testing.T) {
	b := newBed(t, 2, 4, 4096)
	b.apply(b.changes(shop))
	make := func(f func(*Input)) string {
		in := b.input(nil)
		f(&in)
		return World(in.Scheduler, in.Declared)
	}
	first := make(func(*Input) {})
	instance := func(in *Input, f func(*padisv1.InstanceRecord)) {
		r := proto.CloneOf(in.Scheduler.Records.Instances[0])
		f(r)
		in.Scheduler.Records.Instances[0] = r
	}
	for name, f := range map[string]func(*Input){
		"a message":   func(in *Input) { instance(in, func(r *padisv1.InstanceRecord) { r.Message, r.Restarts = "x", 7 }) },
		"the time":    func(in *Input) { in.Now = in.Now.Add(time.Hour) },
		"the changes": func(in *Input) { in.Changes = b.changes("", "App/shop/web") },
		"a status":    func(in *Input) { in.Declared.Apps[0].Status.Replicas = 9; in.Declared.Apps[0].ResourceVersion = "9" },
		"the poll":    func(in *Input) { seen := *in.Scheduler.Agents[0].Seen; in.Scheduler.Agents[0].Seen = &seen },
	} {
		if make(f) != first {
			t.Errorf("%s makes another world", name)
		}
	}
	for name, f := range map[string]func(*Input){
		"readiness":  func(in *Input) { instance(in, func(r *padisv1.InstanceRecord) { r.Ready = false }) },
		"an agent":   func(in *Input) { instance(in, func(r *padisv1.InstanceRecord) { r.AgentId = "other" }) },
		"a lease":    func(in *Input) { in.Scheduler.Records.Leases = in.Scheduler.Records.Leases[1:] },
		"a rotation": func(in *Input) { in.Scheduler.Rotations = nil },
		"what is left": func(in *Input) {
			seen := *in.Scheduler.Agents[0].Seen
			seen.Allocated = mesos.Amounts{CPUMilli: 3900}
			in.Scheduler.Agents[0].Seen = &seen
		},
		"maintenance": func(in *Input) { in.Scheduler.Agents[0].Leaving = true },
		"the spec":    func(in *Input) { in.Declared.Apps[0].Spec.Update.Paused = true },
		"a label":     func(in *Input) { in.Declared.Apps[0].Labels = map[string]string{"a": "b"} },
		"a Secret": func(in *Input) {
			in.Declared.Objects[config.Ref{Kind: config.Secret, Namespace: "shop", Name: "keys"}].Data["token"][0]++
		},
		"a tenant":       func(in *Input) { in.Declared.Cluster.Tenants[0].Spec.AddressQuotas[0].Max++ },
		"what is wanted": func(in *Input) { in.Scheduler.Records.Apps = in.Scheduler.Records.Apps[1:] },
		"the seed":       func(in *Input) { in.Scheduler.Config.Seed++ },
		"the master":     func(in *Input) { in.Scheduler.Connected = false },
	} {
		if make(f) == first {
			t.Errorf("%s makes no other world", name)
		}
	}
}

// Agents that do not answer take nothing, and a plan says that it does not know what becomes of what they run.
func TestAgentsThatAreAway(t *testing.T) {
	b := newBed(t, 2, 4, 4096)
	b.apply(b.changes(shop))
	in := b.input(b.changes("kind: App\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 5}"))
	away := in.Scheduler.Agents[0]
	away.Present, away.Seen = false, nil
	in.Scheduler.Agents = []core.AgentState{away, in.Scheduler.Agents[1]}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range p.Apps {
		for _, x := range a.Instances {
			if x.To == away.Record.GetHostname() {
				t.Errorf("%+v goes to an agent that is away", x)
			}
		}
	}
	if len(p.Apps) == 0 {
		t.Error("nothing happens")
	}
	in.Scheduler.Connected = false
	if p, err = Make(in); err != nil || p.Unfinished == "" {
		t.Errorf("without a master: %q, %v", p.Unfinished, err)
	}
}
