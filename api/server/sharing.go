package server

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	"padis.io/padis/api/server/intern"
)

// sharing has custom resources read from etcd share what is equal in them.
type sharing struct{ generic.RESTOptionsGetter }

// GetRESTOptions implements the interface.
func (s sharing) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := s.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil {
		return o, err
	}
	inner := o.Decorator
	// The codec is the right one only here: before, it is wrapped by what brings objects into their schema, which makes trees of its own.
	o.Decorator = func(config *storagebackend.ConfigForResource, prefix string, key func(runtime.Object) (string, error), newFunc, newList func() runtime.Object,
		attrs storage.AttrFunc, trigger storage.IndexerFuncs, indexers *cache.Indexers) (storage.Interface, factory.DestroyFunc, error) {
		shares := *config
		shares.Codec = intern.NewCodec(config.Codec)
		return inner(&shares, prefix, key, newFunc, newList, attrs, trigger, indexers)
	}
	return o, nil
}
