// Package planner answers what would happen if objects were applied, of what is declared and what the scheduler knows at one
// moment. It writes nothing. Edge: talks to the API server.
package planner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/proposed"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/forecast"
)

// scheduler is what knows where instances are.
type scheduler interface {
	Snapshot(ctx context.Context) (core.Snapshot, error)
	Addresses(pool string) []*runtime.Address
}

// Planner makes plans.
type Planner struct {
	objects   dynamic.Interface
	scheduler scheduler
	now       func() time.Time
	// turn lets one plan be made at a time: it takes as much processor as is there, and the scheduler needs some.
	turn chan struct{}
}

// New makes a Planner. The config is for a client that may read all that is declared, unlimited.
func New(config *rest.Config, s scheduler) (*Planner, error) {
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("planner: %w", err)
	}
	return &Planner{objects: objects, scheduler: s, now: time.Now, turn: make(chan struct{}, 1)}, nil
}

// Change is an object as it is, nil if there is none, and what it would become, nil if it is deleted. If a dry run was refused,
// After is the manifest, and Refusals are why.
type Change struct {
	Before, After *unstructured.Unstructured
	Refusals      []plan.Refusal
}

// object is the one of the two that is there.
func (c *Change) object() *unstructured.Unstructured {
	if c.After != nil {
		return c.After
	}
	return c.Before
}

// ErrChanged means that an object is not any more what it was when the question was asked.
var ErrChanged = errors.New("has changed meanwhile: plan again")

// Plan tells what would happen.
func (p *Planner) Plan(ctx context.Context, changes []Change) (*plan.Plan, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	objects, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	if err := unchanged(changes, objects); err != nil {
		return nil, err
	}
	state, err := proposed.Read(objects)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	snapshot, err := p.scheduler.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	state.Cluster.Holders = map[string][]declared.Holder{}
	for i := range state.Cluster.Pools {
		name := state.Cluster.Pools[i].Name
		for _, a := range p.scheduler.Addresses(name) {
			if a.Status.Held() {
				state.Cluster.Holders[name] = append(state.Cluster.Holders[name], declared.Holder{Address: a.Status.Address, Namespace: a.Status.Namespace, Instance: a.Status.Instance})
			}
		}
	}
	all := understand(state, changes)
	implied := inNamespaces(all, objects)
	out, err := forecast.Make(forecast.Input{Scheduler: snapshot, Declared: state, Changes: append(all, implied...), Now: p.now()})
	if err != nil {
		return nil, err
	}
	for i := range out.Objects[len(all):] {
		o := &out.Objects[len(all)+i]
		o.Because = "goes with Namespace " + o.Namespace
	}
	out.Parts = parts(snapshot, state)
	return out, nil
}

// kinds are all that plans depend on.
var kinds = []schema.GroupVersionResource{
	v1alpha1.GroupVersion.WithResource("apps"), v1alpha1.GroupVersion.WithResource("loadbalancers"),
	v1alpha1.GroupVersion.WithResource("networks"), v1alpha1.GroupVersion.WithResource("ippools"),
	v1alpha1.GroupVersion.WithResource("tenants"), v1alpha1.GroupVersion.WithResource("registries"),
	v1alpha1.GroupVersion.WithResource("executorupgrades"), v1alpha1.GroupVersion.WithResource("bgppeers"),
	v1alpha1.GroupVersion.WithResource("imageprepulls"), {Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"},
}

// read gives all objects of these kinds.
func (p *Planner) read(ctx context.Context) ([]*unstructured.Unstructured, error) {
	lists, errs := make([]*unstructured.UnstructuredList, len(kinds)), make([]error, len(kinds))
	// Each may take a tenth of a second: a quiet kind's list waits until the server knows that nothing was missed.
	var all sync.WaitGroup
	for n, kind := range kinds {
		all.Go(func() { lists[n], errs[n] = p.objects.Resource(kind).List(ctx, metav1.ListOptions{}) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("plan: read what is declared: %w", err)
	}
	var out []*unstructured.Unstructured
	for _, l := range lists {
		for i := range l.Items {
			out = append(out, &l.Items[i])
		}
	}
	return out, nil
}

// unchanged makes sure that the changes start from what is declared.
func unchanged(changes []Change, objects []*unstructured.Unstructured) error {
	type name struct {
		kind            schema.GroupKind
		namespace, name string
	}
	nameOf := func(o *unstructured.Unstructured) name {
		return name{o.GroupVersionKind().GroupKind(), o.GetNamespace(), o.GetName()}
	}
	there := make(map[name]*unstructured.Unstructured, len(objects))
	for _, o := range objects {
		there[nameOf(o)] = o
	}
	for i := range changes {
		before, n := changes[i].Before, nameOf(changes[i].object())
		if now := there[n]; planned(n.kind) && !same(before, now) {
			return fmt.Errorf("%s %s %w", n.kind.Kind, strings.TrimPrefix(n.namespace+"/"+n.name, "/"), ErrChanged)
		}
	}
	return nil
}

// same tells whether both are the same object, and say the same but for their status.
func same(a, b *unstructured.Unstructured) bool {
	switch {
	case a == nil || b == nil:
		return a == b
	case a.GetGeneration() == 0: // Of kinds without a spec.
		return a.GetUID() == b.GetUID() && a.GetResourceVersion() == b.GetResourceVersion()
	}
	return a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration()
}

// planned tells whether plans depend on a kind.
func planned(kind schema.GroupKind) bool {
	for _, k := range kinds {
		plural, _ := meta.UnsafeGuessKindToResource(kind.WithVersion(k.Version))
		if plural == k {
			return true
		}
	}
	return false
}

// understand makes changes of what the API server refused, too. If the code of the plan knows why it was refused, it decides
// beside all other changes whether that holds; and a namespace that is among them is there.
func understand(state *proposed.State, changes []Change) []proposed.Change {
	namespaces := map[string]bool{}
	for i := range changes {
		if o := changes[i].After; isNamespace(o) && len(changes[i].Refusals) == 0 {
			namespaces[o.GetName()] = true
		}
	}
	out := make([]proposed.Change, len(changes))
	for i := range changes {
		c := &changes[i]
		out[i] = proposed.Change{Before: c.Before, After: c.After}
		if len(c.Refusals) == 0 {
			continue
		}
		if c.After != nil {
			out[i].After = proposed.Merge(c.Before, c.After)
		}
		if c.After != nil && missing(c.Refusals) && namespaces[c.After.GetNamespace()] {
			continue
		}
		if _, alone := state.Apply(out[i : i+1]); len(changes) == 1 || len(alone[0].Refusals) == 0 {
			out[i].Refusals = c.Refusals
		}
	}
	return out
}

func isNamespace(o *unstructured.Unstructured) bool {
	return o != nil && o.GetKind() == "Namespace" && o.GroupVersionKind().Group == ""
}

// inNamespaces deletes what is in namespaces that are deleted, as the API server does.
func inNamespaces(changes []proposed.Change, objects []*unstructured.Unstructured) []proposed.Change {
	type name struct {
		kind            schema.GroupKind
		namespace, name string
	}
	gone, known := map[string]bool{}, map[name]bool{}
	for i := range changes {
		c := &changes[i]
		o := c.After
		if o == nil {
			o = c.Before
			if isNamespace(o) && len(c.Refusals) == 0 {
				gone[o.GetName()] = true
			}
		}
		known[name{o.GroupVersionKind().GroupKind(), o.GetNamespace(), o.GetName()}] = true
	}
	var out []proposed.Change
	for _, o := range objects {
		if gone[o.GetNamespace()] && o.GetNamespace() != "" && !known[name{o.GroupVersionKind().GroupKind(), o.GetNamespace(), o.GetName()}] {
			out = append(out, proposed.Change{Before: o})
		}
	}
	return out
}

func missing(refusals []plan.Refusal) bool {
	return len(refusals) == 1 && refusals[0].Reason == string(metav1.StatusReasonNotFound)
}
