package forecast

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"padis.io/padis/api/plan"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/instance"
)

// drawApps gives manifests of some Apps, and of the shop's own.
func drawApps(t *rapid.T, label string) string {
	var docs []string
	for i := range 4 {
		if !rapid.Bool().Draw(t, fmt.Sprint(label, " has app", i)) {
			continue
		}
		network := rapid.SampledFrom([]string{"[]", "[{pool: front}]", fmt.Sprintf("[{pool: front, addresses: [10.44.0.%d]}]", 100+i*10)}).Draw(t, "network")
		constraint := rapid.SampledFrom([]string{"", "{attribute: rack, operator: Cluster, value: r1}", "{attribute: hostname, operator: Unique}", "{attribute: hostname, operator: MaxPer, value: \"2\"}"}).Draw(t, "constraint")
		docs = append(docs, fmt.Sprintf(`kind: App
metadata: {name: app%d, namespace: %s}
spec:
  replicas: %d
  update: {maxUnavailable: %d}
  template: {command: [serve, "%d"], resources: {cpu: %dm, memory: 64Mi}}
  networks: %s
  placement: {constraints: [%s]}`, i, []string{"shop", "tools"}[i%2], rapid.IntRange(0, 6).Draw(t, "replicas"), rapid.IntRange(1, 3).Draw(t, "unavailable"),
			rapid.IntRange(0, 2).Draw(t, "version"), 100*rapid.IntRange(1, 9).Draw(t, "cpu"), network, constraint))
	}
	if rapid.Bool().Draw(t, label+" has a balancer") {
		docs = append(docs, fmt.Sprintf(balancer, rapid.SampledFrom([]string{"{pool: vips}", "{pool: vips, address: 192.0.2.7}", "{pool: vips}, {pool: vips}"}).Draw(t, "vips"),
			rapid.IntRange(0, 3).Draw(t, "app"), rapid.IntRange(1, 2).Draw(t, "directors")))
	}
	return strings.Join(docs, "\n---\n")
}

const balancer = `kind: Network
metadata: {name: edge}
spec: {driver: virtual}
---
kind: IPPool
metadata: {name: vips}
spec: {network: edge, cidr: 192.0.2.0/28}
---
kind: LoadBalancer
metadata: {name: front, namespace: tools}
spec:
  vips: [%s]
  bgp: {asn: 64512}
  listeners: [{name: http, port: 80}]
  backends: [{app: app%d}]
  directors: {replicas: %d, networks: [{pool: front}], resources: {cpu: 100m, memory: 64Mi}}`

// What is forecast is what happens when the changes are made: to instances, to addresses, and to nothing else. A rollout
// never goes below its minimum, the input stays as it was, and the same input gives the same plan.
func TestForecastsComeTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBed(&quiet{T: t}, rapid.IntRange(1, 5).Draw(t, "agents"), 4, 2048)
		b.apply(b.changes(shop))
		if m := drawApps(t, "first"); m != "" {
			in := b.input(b.changes(m))
			if p, err := Make(in); err != nil || p.Refused() {
				t.Skip("the first Apps contradict each other")
			}
			b.apply(in.Changes)
		}
		in := b.input(b.changes(drawApps(t, "then")))
		for _, o := range b.objects {
			if kind := o.GetKind(); (kind == "App" || kind == "LoadBalancer") && rapid.IntRange(0, 5).Draw(t, "delete "+o.GetName()) == 0 {
				gone := true
				for _, c := range in.Changes {
					gone = gone && c.Before != o
				}
				if gone {
					in.Changes = append(in.Changes, b.changes("", fmt.Sprintf("%s/%s/%s", kind, o.GetNamespace(), o.GetName()))...)
				}
			}
		}
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		x, y := encode(t, p), encode(t, again)
		if !bytes.Equal(x, y) {
			t.Fatalf("the second plan is another:\n%s\n%s", x, y)
		}
		if w := b.input(nil); World(w.Scheduler, w.Declared) != p.World {
			t.Fatal("to plan has changed the world")
		}
		for _, a := range p.Apps {
			if r := a.Rollout; r != nil && len(r.Batches) > 0 && allRuns(a) && r.Lowest < min(r.Minimum, readyBefore(in.Scheduler, a)) {
				t.Fatalf("%s/%s goes down to %d, below %d", a.Namespace, a.Name, r.Lowest, r.Minimum)
			}
		}
		if p.Refused() {
			return
		}
		before := names(in.Scheduler)
		b.apply(in.Changes)
		after := b.input(nil).Scheduler
		if w := World(after, b.state()); p.Changes() == (w == p.World) {
			t.Fatalf("there are changes: %v, and the world is another: %v", p.Changes(), w != p.World)
		}
		if !waits(before) {
			compare(t, p, before, names(after))
		}
		held := map[string]string{}
		for _, l := range in.Scheduler.Records.Leases {
			held[l.GetAddress()] = holder(l)
		}
		for _, a := range p.Addresses {
			if held[a.Address] != a.From {
				t.Fatalf("%s is said to be %q's, and was %q's", a.Address, a.From, held[a.Address])
			}
			if delete(held, a.Address); a.To != "" {
				held[a.Address] = a.To
			}
		}
		for _, l := range after.Records.Leases {
			if held[l.GetAddress()] != holder(l) {
				t.Fatalf("%s is %s's, and %q was forecast", l.GetAddress(), holder(l), held[l.GetAddress()])
			}
			delete(held, l.GetAddress())
		}
		if len(held) > 0 {
			t.Fatalf("forecast, and not leased: %v", held)
		}
	})
}

// waits tells whether an instance waits for an agent. Offers come and go then, and which agent has made one when the changes
// come is a matter of luck.
func waits(all map[string]*padisv1.InstanceRecord) bool {
	for _, in := range all {
		if in.GetPhase() == padisv1.Phase_PENDING {
			return true
		}
	}
	return false
}

// compare checks what a plan says of instances.
func compare(t *rapid.T, p *plan.Plan, before, after map[string]*padisv1.InstanceRecord) {
	said := map[string]bool{}
	for _, a := range p.Apps {
		for _, in := range a.Instances {
			name := a.Namespace + "/" + in.Name
			said[name] = true
			is, was := after[name], before[name]
			ok := false
			switch in.Fate {
			case plan.Started, plan.Moved, plan.Replaced:
				ok = runs(is) && is.GetHostname() == in.To && (in.Fate == plan.Started || was.GetHostname() == in.From)
			case plan.Stopped:
				ok = is == nil
			case plan.Waiting:
				ok = is != nil && !runs(is) && is.GetReason() == in.Reason
			}
			if !ok {
				t.Fatalf("%s: %+v was forecast, and it is %v", name, in, is)
			}
		}
	}
	for name, is := range after {
		if was := before[name]; !said[name] && (runs(is) != runs(was) || runs(is) && is.GetTaskId() != was.GetTaskId()) {
			t.Fatalf("%s: nothing was forecast, and it was %v and is %v", name, was, is)
		}
		delete(before, name)
	}
	for name, was := range before {
		if !said[name] {
			t.Fatalf("%s: nothing was forecast, and it is gone: %v", name, was)
		}
	}
}

func names(s core.Snapshot) map[string]*padisv1.InstanceRecord {
	out := map[string]*padisv1.InstanceRecord{}
	for _, in := range s.Records.Instances {
		out[in.GetNamespace()+"/"+instance.Hostname(in)] = in
	}
	return out
}

// allRuns tells whether everything of an App gets where it shall.
func allRuns(a plan.App) bool {
	for _, in := range a.Instances {
		if in.Fate == plan.Waiting {
			return false
		}
	}
	return true
}

func readyBefore(s core.Snapshot, a plan.App) (n int32) {
	for _, in := range s.Records.Instances {
		if in.GetNamespace() == a.Namespace && in.GetApp() == a.Name && in.GetReady() {
			n++
		}
	}
	return n
}

func encode(t *rapid.T, p *plan.Plan) []byte {
	t.Helper()
	b, err := plan.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// quiet lets rapid stand for a testing.TB.
type quiet struct {
	testing.TB
	T *rapid.T
}

func (q *quiet) Helper()           {}
func (q *quiet) Fatal(args ...any) { q.T.Fatal(args...) }
func (q *quiet) Fatalf(f string, args ...any) {
	q.T.Fatalf(f, args...)
}

// many gives Apps with five instances each.
func many(n int, version string) string {
	docs := make([]string, n)
	for i := range docs {
		docs[i] = fmt.Sprintf(`kind: App
metadata: {name: app%04d, namespace: shop}
spec: {replicas: 5, update: {maxUnavailable: 2}, template: {command: [serve, %s], resources: {cpu: 100m, memory: 64Mi}}, networks: [{pool: wide}]}`, i, version)
	}
	return strings.Join(docs, "\n---\n")
}

const wide = `
kind: Network
metadata: {name: lan}
spec: {driver: bridge, bridge: padis0}
---
kind: IPPool
metadata: {name: wide}
spec: {network: lan, cidr: 10.44.0.0/16, gateway: 10.44.0.1}`

// BenchmarkThousandApps plans on a cluster with 5,000 instances on 200 agents: one App that changes, all of them, and a
// thousand that are new.
func BenchmarkThousandApps(b *testing.B) {
	for _, c := range []struct {
		name              string
		running, proposed int
	}{{"one of 1000", 1000, 1}, {"1000 of 1000", 1000, 1000}, {"1000 new", 0, 1000}} {
		b.Run(c.name, func(b *testing.B) {
			bed := newBed(b, 200, 16, 16384)
			bed.apply(bed.changes(wide))
			if c.running > 0 {
				bed.apply(bed.changes(many(c.running, "v1")))
			}
			in := bed.input(bed.changes(many(c.proposed, "v2")))
			in.Now = in.Now.Add(time.Minute)
			b.ResetTimer()
			for b.Loop() {
				p, err := Make(in)
				if err != nil || len(p.Apps) != c.proposed || p.Unfinished != "" {
					b.Fatal(err, len(p.Apps), p.Unfinished)
				}
			}
		})
	}
}

// BenchmarkSnapshot is what a plan takes of the scheduler's loop, with 5,000 instances on 200 agents.
func BenchmarkSnapshot(b *testing.B) {
	bed := newBed(b, 200, 16, 16384)
	bed.apply(bed.changes(wide + "\n---\n" + many(1000, "v1")))
	for b.Loop() {
		bed.run.core.Snapshot()
	}
}
