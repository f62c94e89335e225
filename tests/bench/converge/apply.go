package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// manager is the field manager of Syncs.
const manager = "padis-sync"

// applier applies objects on the server, many at a time.
type applier struct {
	client  dynamic.Interface
	workers int
}

func newApplier(kubeconfig string, workers int) (*applier, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	client, err := dynamic.NewForConfig(cfg)
	return &applier{client, workers}, err
}

// apply applies namespaces, then the objects, and says how long that took.
func (a *applier) apply(ctx context.Context, objects []*unstructured.Unstructured) (time.Duration, error) {
	began := time.Now()
	seen := map[string]bool{}
	var namespaces []*unstructured.Unstructured
	for _, o := range objects {
		if n := o.GetNamespace(); !seen[n] {
			seen[n] = true
			namespaces = append(namespaces, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": n}}})
		}
	}
	for _, batch := range [][]*unstructured.Unstructured{namespaces, objects} {
		if err := a.all(ctx, batch); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func (a *applier) all(ctx context.Context, objects []*unstructured.Unstructured) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(a.workers)
	for _, o := range objects {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return a.one(ctx, o) })
	}
	return group.Wait()
}

func (a *applier) one(ctx context.Context, o *unstructured.Unstructured) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	gvk := o.GroupVersionKind()
	// All kinds of the bed have the simple plural.
	resource := gvk.GroupVersion().WithResource(strings.ToLower(gvk.Kind) + "s")
	var client dynamic.ResourceInterface = a.client.Resource(resource)
	if n := o.GetNamespace(); n != "" {
		client = a.client.Resource(resource).Namespace(n)
	}
	force := true
	if _, err := client.Patch(ctx, o.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: manager, Force: &force}); err != nil {
		return fmt.Errorf("%s %s: %w", gvk.Kind, o.GetName(), err)
	}
	return nil
}
