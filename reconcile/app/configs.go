package app

import (
	"context"
	"fmt"
	"sync"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/config"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// contents reads ConfigMaps and Secrets. A declaration that is new may follow right behind the ConfigMap that it needs, and
// caches of two kinds know nothing of each other's order; so such objects are read from the API itself, and remembered
// until the cache has caught up: taking back a value that was put in force a moment ago would restart instances twice.
// Safe for concurrent use.
type contents struct {
	cache, live client.Reader

	mu    sync.Mutex
	newer map[config.Ref]content
}

type content struct {
	version string
	object  config.Object
}

// of gives what an App refers to and what is there. With fresh it is as new as the call.
func (c *contents) of(ctx context.Context, a *v1alpha1.App, fresh bool) (config.Objects, error) {
	out := config.Objects{}
	for _, r := range config.Refs(a) {
		o, err := c.read(ctx, r, fresh)
		if err != nil {
			return nil, fmt.Errorf("read %s of namespace %s: %w", r, r.Namespace, err)
		}
		if o != nil {
			out[r] = o.object
		}
	}
	return out, nil
}

func (c *contents) read(ctx context.Context, r config.Ref, fresh bool) (*content, error) {
	cached, err := get(ctx, c.cache, r)
	if err != nil {
		return nil, err
	}
	if cached != nil && !fresh {
		return c.newest(r, cached), nil
	}
	// What the cache does not have may have been made a moment ago.
	now, err := get(ctx, c.live, r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.newer, r)
	if now != nil && (cached == nil || cached.version != now.version) {
		if c.newer == nil {
			c.newer = map[config.Ref]content{}
		}
		c.newer[r] = *now
	}
	return now, nil
}

// newest gives what the cache has, or what was read after the cache saw it.
func (c *contents) newest(r config.Ref, cached *content) *content {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.newer[r]
	if !ok {
		return cached
	}
	if order, err := resourceversion.CompareResourceVersion(cached.version, n.version); err == nil && order < 0 {
		return &n
	}
	delete(c.newer, r)
	return cached
}

// get gives nil for what is not there.
func get(ctx context.Context, from client.Reader, r config.Ref) (*content, error) {
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	if r.Kind == config.ConfigMap {
		var m corev1.ConfigMap
		if err := from.Get(ctx, key, &m); err != nil {
			return nil, client.IgnoreNotFound(err)
		}
		return &content{m.ResourceVersion, config.OfConfigMap(&m)}, nil
	}
	var s corev1.Secret
	if err := from.Get(ctx, key, &s); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return &content{s.ResourceVersion, config.OfSecret(&s)}, nil
}
