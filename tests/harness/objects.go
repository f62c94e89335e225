package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
)

func (c *Cluster) list(ctx context.Context, gv schema.GroupVersion, resource, ns string) (*unstructured.UnstructuredList, error) {
	return c.client.Resource(gv.WithResource(resource)).Namespace(ns).List(ctx, metav1.ListOptions{})
}

func convert[T any](l *unstructured.UnstructuredList) ([]T, error) {
	out := make([]T, len(l.Items))
	for i := range l.Items {
		if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(l.Items[i].Object, &out[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Items[i].GetName(), err)
		}
	}
	return out, nil
}

// Apps lists the Apps of a namespace; of all if it is empty.
func (c *Cluster) Apps(ctx context.Context, ns string) ([]v1alpha1.App, error) {
	l, err := c.list(ctx, v1alpha1.GroupVersion, "apps", ns)
	if err != nil {
		return nil, err
	}
	return convert[v1alpha1.App](l)
}

// App gets one App.
func (c *Cluster) App(ctx context.Context, ns, name string) (*v1alpha1.App, error) {
	u, err := c.client.Resource(v1alpha1.GroupVersion.WithResource("apps")).Namespace(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var app v1alpha1.App
	return &app, kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &app)
}

// Instances lists the instances of a namespace, by name.
func (c *Cluster) Instances(ctx context.Context, ns string) ([]runtime.Instance, error) {
	l, err := c.list(ctx, runtime.GroupVersion, "instances", ns)
	if err != nil {
		return nil, err
	}
	is, err := convert[runtime.Instance](l)
	slices.SortFunc(is, func(a, b runtime.Instance) int {
		if a.Status.App == b.Status.App {
			return int(a.Status.Slot - b.Status.Slot)
		}
		if a.Status.App < b.Status.App {
			return -1
		}
		return 1
	})
	return is, err
}

// Instance gets one instance.
func (c *Cluster) Instance(ctx context.Context, ns, name string) (*runtime.Instance, error) {
	u, err := c.client.Resource(runtime.GroupVersion.WithResource("instances")).Namespace(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var i runtime.Instance
	return &i, kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &i)
}

// Agents lists the agents.
func (c *Cluster) Agents(ctx context.Context) ([]runtime.Agent, error) {
	l, err := c.list(ctx, runtime.GroupVersion, "agents", "")
	if err != nil {
		return nil, err
	}
	return convert[runtime.Agent](l)
}

// Addresses lists the leased addresses.
func (c *Cluster) Addresses(ctx context.Context) ([]runtime.Address, error) {
	l, err := c.list(ctx, runtime.GroupVersion, "addresses", "")
	if err != nil {
		return nil, err
	}
	return convert[runtime.Address](l)
}

// Scale sets the replicas of an App by its scale subresource.
func (c *Cluster) Scale(ctx context.Context, ns, name string, replicas int) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"replicas": replicas}})
	if err != nil {
		return err
	}
	_, err = c.client.Resource(v1alpha1.GroupVersion.WithResource("apps")).Namespace(ns).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "scale")
	return err
}

// WaitReady waits until exactly n instances of the App exist and all are ready, by watching, and returns them.
func (c *Cluster) WaitReady(ctx context.Context, ns, app string, n int) ([]runtime.Instance, error) {
	return c.WaitInstances(ctx, ns, app, func(is []runtime.Instance) bool {
		for _, i := range is {
			if !i.Status.Ready {
				return false
			}
		}
		return len(is) == n
	})
}

// WaitInstances waits until the instances of the App satisfy done, and returns them.
func (c *Cluster) WaitInstances(ctx context.Context, ns, app string, done func([]runtime.Instance) bool) ([]runtime.Instance, error) {
	res := c.client.Resource(runtime.GroupVersion.WithResource("instances")).Namespace(ns)
	have := map[string]runtime.Instance{}
	current := func() []runtime.Instance {
		var is []runtime.Instance
		for _, i := range have {
			is = append(is, i)
		}
		slices.SortFunc(is, func(a, b runtime.Instance) int { return int(a.Status.Slot - b.Status.Slot) })
		return is
	}
	opts := metav1.ListOptions{FieldSelector: "status.app=" + app}
	for {
		l, err := res.List(ctx, opts)
		if err != nil {
			// The control plane may be away for a moment: that is what some of the callers test.
			if ctx.Err() != nil {
				return current(), c.timeout(ctx, ns, app, current())
			}
			pause(ctx, 50*time.Millisecond)
			continue
		}
		is, err := convert[runtime.Instance](l)
		if err != nil {
			return nil, err
		}
		clear(have)
		for _, i := range is {
			have[i.Name] = i
		}
		if done(current()) {
			return current(), nil
		}
		wopts := opts
		wopts.ResourceVersion = l.GetResourceVersion()
		w, err := res.Watch(ctx, wopts)
		if err != nil {
			if ctx.Err() != nil {
				return current(), c.timeout(ctx, ns, app, current())
			}
			pause(ctx, 50*time.Millisecond)
			continue
		}
		for ev := range w.ResultChan() {
			u, ok := ev.Object.(*unstructured.Unstructured)
			if !ok {
				break
			}
			var i runtime.Instance
			if err := kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &i); err != nil {
				break
			}
			if i.Name == "" {
				continue
			}
			if ev.Type == "DELETED" {
				delete(have, i.Name)
			} else {
				have[i.Name] = i
			}
			if done(current()) {
				w.Stop()
				return current(), nil
			}
		}
		w.Stop()
		if ctx.Err() != nil {
			return current(), c.timeout(ctx, ns, app, current())
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *Cluster) timeout(ctx context.Context, ns, app string, is []runtime.Instance) error {
	ready := 0
	var why string
	for _, i := range is {
		if i.Status.Ready {
			ready++
		} else {
			why += fmt.Sprintf("\n  %s %s %s: %s", i.Name, i.Status.Phase, i.Status.Reason, i.Status.Message)
		}
	}
	return fmt.Errorf("app %s/%s: %d instances, %d ready: %w%s", ns, app, len(is), ready, ctx.Err(), why)
}
