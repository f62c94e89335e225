package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// floorManager is the field manager of the client without knowledge.
const floorManager = "bench-floor"

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

// apply applies objects to a namespace, in no order.
func (a *applier) apply(ctx context.Context, namespace string, objects []*unstructured.Unstructured) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(a.workers)
	for _, o := range objects {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return a.one(ctx, namespace, o) })
	}
	return group.Wait()
}

func (a *applier) one(ctx context.Context, namespace string, o *unstructured.Unstructured) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	gvk := o.GroupVersionKind()
	// All kinds of the bed have the simple plural.
	resource := gvk.GroupVersion().WithResource(strings.ToLower(gvk.Kind) + "s")
	force := true
	if _, err := a.client.Resource(resource).Namespace(namespace).Patch(ctx, o.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: floorManager, Force: &force}); err != nil {
		return fmt.Errorf("%s %s: %w", gvk.Kind, o.GetName(), err)
	}
	return nil
}
