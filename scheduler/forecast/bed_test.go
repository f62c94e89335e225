package forecast

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/plan"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/proposed"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/record"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// bed is a cluster that runs what was applied to it.
type bed struct {
	t       testing.TB
	run     *run
	objects []*unstructured.Unstructured
}

var begin = time.UnixMilli(1_700_000_000_000)

// newBed has agents host1, host2 ... with so many CPUs and MiB each.
func newBed(t testing.TB, agents int, cpus, mem int64) *bed {
	t.Helper()
	snap := core.Snapshot{Config: core.Config{Role: "padis", Artifact: core.Artifact{URI: "http://padis/executor", SHA256: strings.Repeat("ab", 32)}}, Connected: true,
		Records: record.Snapshot{Framework: &padisv1.FrameworkRecord{FrameworkId: "F"}}}
	for i := range agents {
		id, name := fmt.Sprintf("a%04d", i+1), fmt.Sprintf("host%d", i+1)
		rack := map[string]string{"rack": fmt.Sprint("r", i%2+1)}
		snap.Agents = append(snap.Agents, core.AgentState{AgentView: core.AgentView{
			Record: &padisv1.AgentRecord{AgentId: id, Hostname: name, Attributes: rack}, Present: true,
			Seen: &mesos.Agent{ID: id, Hostname: name, Attributes: rack, Active: true, Total: mesos.Amounts{CPUMilli: cpus * 1000, MemoryMilli: mem * 1000, DiskMilli: 100_000_000}},
		}})
	}
	c, err := core.New(snap.Config, snap.Records)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, run: newRun(c, newCluster(&snap, begin), begin)}
	b.run.mesos.subscribe()
	b.settle()
	return b
}

func read(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split(text, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatal(err)
		}
		if kind := o.GetKind(); kind == "Secret" || kind == "ConfigMap" {
			o.SetAPIVersion("v1")
		} else {
			o.SetAPIVersion("padis.io/v1alpha1")
		}
		out = append(out, o)
	}
	return out
}

func (b *bed) state() *proposed.State {
	b.t.Helper()
	s, err := proposed.Read(b.objects)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// changes are those that lead from what is declared to what the manifests say. A name with a minus deletes.
func (b *bed) changes(text string, delete ...string) []proposed.Change {
	b.t.Helper()
	var out []proposed.Change
	find := func(kind, namespace, name string) *unstructured.Unstructured {
		for _, o := range b.objects {
			if o.GetKind() == kind && o.GetNamespace() == namespace && o.GetName() == name {
				return o
			}
		}
		return nil
	}
	if text != "" {
		for _, o := range read(b.t, text) {
			old := find(o.GetKind(), o.GetNamespace(), o.GetName())
			out = append(out, proposed.Change{Before: old, After: proposed.Merge(old, o)})
		}
	}
	for _, d := range delete {
		parts := strings.Split(d, "/")
		old := find(parts[0], parts[1], parts[2])
		if old == nil {
			b.t.Fatalf("there is no %s", d)
		}
		out = append(out, proposed.Change{Before: old})
	}
	return out
}

// apply makes changes, as the API server would store them, and lets the cluster follow.
func (b *bed) apply(changes []proposed.Change) {
	b.t.Helper()
	for _, c := range changes {
		if c.Before != nil && c.After != nil && len(plan.Diff(c.Before.Object, c.After.Object)) == 0 {
			continue
		}
		kept := b.objects[:0:0]
		for _, o := range b.objects {
			if o != c.Before {
				kept = append(kept, o)
			}
		}
		b.objects = kept
		if c.After == nil {
			continue
		}
		o := c.After.DeepCopy()
		if c.Before == nil {
			o.SetUID(types.UID(fmt.Sprintf("%08x-0000-4000-8000-%s", len(o.GetName()), o.GetName())))
			o.SetGeneration(1)
		} else {
			o.SetUID(c.Before.GetUID())
			o.SetGeneration(c.Before.GetGeneration() + 1)
		}
		b.objects = append(b.objects, o)
	}
	b.run.declare(b.state())
	b.settle()
}

func (b *bed) settle() {
	b.t.Helper()
	if b.run.state == nil {
		b.run.declare(&proposed.State{})
	}
	b.run.settle()
	for _, err := range append(b.run.errs, b.run.findings...) {
		b.t.Fatal(err)
	}
}

func (b *bed) input(changes []proposed.Change) Input {
	b.t.Helper()
	s := b.run.core.Snapshot()
	s.Sort()
	return Input{Scheduler: s, Declared: b.state(), Changes: changes, Now: b.run.now.Add(time.Second)}
}
