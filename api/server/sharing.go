package server

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	"padis.io/padis/api/server/intern"
	"padis.io/padis/api/v1alpha1"
)

// sharing has custom resources in the server's cache share what is equal in them. It keeps those out of it that are many and
// rarely read.
type sharing struct{ generic.RESTOptionsGetter }

// GetRESTOptions implements the interface.
func (s sharing) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := s.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil {
		return o, err
	}
	o.Decorator = cached
	if resource.Group == v1alpha1.GroupVersion.Group && resource.Resource == revisions {
		o.Decorator = generic.UndecoratedStorage
	}
	return o, nil
}

// cached is the storage that the API machinery decorates by default, but for what is shared in its cache.
func cached(config *storagebackend.ConfigForResource, prefix string, key func(runtime.Object) (string, error), newFunc, newList func() runtime.Object,
	attrs storage.AttrFunc, trigger storage.IndexerFuncs, indexers *cache.Indexers) (storage.Interface, factory.DestroyFunc, error) {
	raw, destroy, err := generic.NewRawStorage(config, newFunc, newList, prefix)
	if err != nil {
		return raw, destroy, err
	}
	c, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: sharer{raw, intern.New()}, Versioner: storage.APIObjectVersioner{}, GroupResource: config.GroupResource,
		EventsHistoryWindow: config.EventsHistoryWindow, ResourcePrefix: prefix, KeyFunc: key, NewFunc: newFunc, NewListFunc: newList,
		GetAttrsFunc: attrs, IndexerFuncs: trigger, Indexers: indexers, Codec: config.Codec,
	})
	if err != nil {
		destroy()
		return nil, func() {}, err
	}
	delegator := cacher.NewCacheDelegator(c, raw)
	return delegator, sync.OnceFunc(func() {
		delegator.Stop()
		c.Stop()
		destroy()
	}), nil
}

// sharer is what the cache reads from.
type sharer struct {
	storage.Interface
	parts *intern.Parts
}

// GetList implements the interface.
func (s sharer) GetList(ctx context.Context, key string, opts storage.ListOptions, list runtime.Object) error {
	if err := s.Interface.GetList(ctx, key, opts, list); err != nil {
		return err
	}
	return meta.EachListItem(list, func(o runtime.Object) error {
		s.share(o)
		return nil
	})
}

// Watch implements the interface.
func (s sharer) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	w, err := s.Interface.Watch(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	out := &sharedWatch{Interface: w, result: make(chan watch.Event), stopped: make(chan struct{})}
	go out.run(s)
	return out, nil
}

func (s sharer) share(o runtime.Object) {
	if timed, ok := o.(storage.WatchEventWithRecordTime); ok {
		o = timed.Unwrap()
	}
	if u, ok := o.(*unstructured.Unstructured); ok {
		s.parts.Share(u.Object)
	}
}

// sharedWatch has what a watch tells share parts.
type sharedWatch struct {
	watch.Interface
	result  chan watch.Event
	stop    sync.Once
	stopped chan struct{}
}

// ResultChan implements the interface.
func (w *sharedWatch) ResultChan() <-chan watch.Event { return w.result }

// Stop implements the interface.
func (w *sharedWatch) Stop() {
	w.stop.Do(func() { close(w.stopped) })
	w.Interface.Stop()
}

func (w *sharedWatch) run(s sharer) {
	defer close(w.result)
	for e := range w.Interface.ResultChan() {
		s.share(e.Object)
		select {
		case w.result <- e:
		case <-w.stopped:
			// Nobody reads any more.
			return
		}
	}
}
