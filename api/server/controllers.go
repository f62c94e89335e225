package server

import (
	"context"
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// startControllers runs the namespace controller and the garbage collector until ctx ends, and gives admission its
// eyes. changed is signalled when kinds appear or disappear.
func (s *Server) startControllers(ctx context.Context, changed <-chan struct{}) error {
	objects, err := metadata.NewForConfig(s.loopback)
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	kinds, err := discovery.NewDiscoveryClientForConfig(s.loopback)
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	core, err := corev1client.NewForConfig(s.loopback)
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	all, err := kubernetes.NewForConfig(s.loopback)
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	if err := s.who.granted.connect(ctx, all); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	namespaces := newNamespaceController(objects, core.Namespaces(), kinds, s.log)
	collector := newCollector(objects, kinds, s.log)
	if err := s.admit.connect(s.loopback, core.Namespaces(), namespaces.informer); err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { namespaces.run(ctx) })
	running.Go(func() { collector.run(ctx, changed) })
	if s.etcd != nil {
		// Only then do all writes of Apps go through this process.
		running.Go(func() { s.admit.declared.follow(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), namespaces.informer.HasSynced) {
		return ctx.Err()
	}
	return nil
}

// watchDefinitions signals changed when definitions change.
func (s *Server) watchDefinitions(changed chan<- struct{}) error {
	signal := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := s.crd.Informers.Apiextensions().V1().CustomResourceDefinitions().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { signal() },
		UpdateFunc: func(any, any) { signal() },
		DeleteFunc: func(any) { signal() },
	})
	if err != nil {
		return fmt.Errorf("watch definitions: %w", err)
	}
	return nil
}

// kindLister is what the controllers need of discovery.
type kindLister interface {
	ServerPreferredResources() ([]*metav1.APIResourceList, error)
}

// servedKind is a kind with its resource.
type servedKind struct {
	resource   schema.GroupVersionResource
	kind       string
	namespaced bool
	verbs      metav1.Verbs
}

func (k servedKind) can(verbs ...string) bool {
	for _, v := range verbs {
		if !slices.Contains(k.verbs, v) {
			return false
		}
	}
	return true
}

// servedKinds lists all kinds, without subresources.
func servedKinds(d kindLister) ([]servedKind, error) {
	lists, err := d.ServerPreferredResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("list kinds: %w", err)
	}
	var out []servedKind
	for _, l := range lists {
		gv, parseErr := schema.ParseGroupVersion(l.GroupVersion)
		if parseErr != nil {
			return nil, fmt.Errorf("list kinds: %w", parseErr)
		}
		for _, r := range l.APIResources {
			out = append(out, servedKind{resource: gv.WithResource(r.Name), kind: r.Kind, namespaced: r.Namespaced, verbs: r.Verbs})
		}
	}
	return out, err
}
