package live

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"padis.io/padis/api/runtime"
)

// Storage gives the stores, and the ways into instances, to the API server.
func Storage(s *Stores, d Doors) map[string]rest.Storage {
	sub := subresource{s.Instances, d}
	return map[string]rest.Storage{
		"instances":             storage[*runtime.Instance]{s.Instances},
		"instances/log":         logStorage{sub},
		"instances/exec":        execStorage{sub},
		"instances/portforward": forwardStorage{sub},
		"agents":                storage[*runtime.Agent]{s.Agents},
		"addresses":             storage[*runtime.Address]{s.Addresses},
		"usages":                usageStorage{sub},
		"balances":              balanceStorage{d.Balances},
		"balances/trace":        traceStorage{balanceStorage{d.Balances}},
	}
}

// AddFieldLabels tells the scheme by which fields the objects can be selected.
func AddFieldLabels(scheme *kruntime.Scheme) error {
	for kind, known := range map[string]fields.Set{
		"Instance": instanceKind().fields(&runtime.Instance{}),
		"Agent":    agentKind().fields(&runtime.Agent{}),
		"Address":  addressKind().fields(&runtime.Address{}),
	} {
		names := make([]string, 0, len(known))
		for n := range known {
			names = append(names, n)
		}
		slices.Sort(names)
		err := scheme.AddFieldLabelConversionFunc(runtime.GroupVersion.WithKind(kind), func(label, value string) (string, string, error) {
			if !slices.Contains(names, label) {
				return "", "", fmt.Errorf("%s cannot be selected by field %q: use one of %s", kind, label, strings.Join(names, ", "))
			}
			return label, value, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// storage is a Store in the form that the API server's handlers use. It has no method that writes, so that discovery
// offers none.
type storage[T Object] struct{ store *Store[T] }

func (s storage[T]) New() kruntime.Object     { return s.store.kind.object() }
func (s storage[T]) NewList() kruntime.Object { return s.store.kind.list(nil, "") }
func (s storage[T]) Destroy()                 {}
func (s storage[T]) NamespaceScoped() bool    { return s.store.kind.namespaced }
func (s storage[T]) GetSingularName() string  { return s.store.kind.singular }
func (s storage[T]) ShortNames() []string     { return s.store.kind.short }
func (s storage[T]) Categories() []string     { return s.store.kind.categories }

func (s storage[T]) resource() schema.GroupResource {
	return schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: s.store.kind.resource}
}

// Get returns one object.
func (s storage[T]) Get(ctx context.Context, name string, _ *metav1.GetOptions) (kruntime.Object, error) {
	o, ok := s.store.Get(request.NamespaceValue(ctx), name)
	if !ok {
		return nil, apierrors.NewNotFound(s.resource(), name)
	}
	return o.DeepCopyObject(), nil
}

// List returns all that the selectors match, in one page whatever limit was asked for.
func (s storage[T]) List(ctx context.Context, o *internalversion.ListOptions) (kruntime.Object, error) {
	if o == nil {
		o = &internalversion.ListOptions{}
	}
	want, set, err := parseVersion(o.ResourceVersion)
	if err != nil {
		return nil, err
	}
	items, rv := s.store.list(request.NamespaceValue(ctx), s.matcher(o))
	if set && o.ResourceVersionMatch == metav1.ResourceVersionMatchExact && want != rv {
		return nil, apierrors.NewResourceExpired(fmt.Sprintf("version %d is no longer known: leave resourceVersionMatch away", want))
	}
	return s.store.kind.list(items, strconv.FormatUint(rv, 10)), nil
}

// Watch follows what the selectors match.
func (s storage[T]) Watch(ctx context.Context, o *internalversion.ListOptions) (watch.Interface, error) {
	if o == nil {
		o = &internalversion.ListOptions{}
	}
	from, set, err := parseVersion(o.ResourceVersion)
	if err != nil {
		return nil, err
	}
	req := watchRequest[T]{namespace: request.NamespaceValue(ctx), match: s.matcher(o), from: from, initial: !set, bookmarks: o.AllowWatchBookmarks}
	if o.SendInitialEvents != nil {
		req.initial = *o.SendInitialEvents
		req.endMark = req.initial && o.AllowWatchBookmarks
		if !req.initial && !set {
			_, req.from = s.store.list(req.namespace, func(T) bool { return false })
		}
	}
	return s.store.watch(ctx, req)
}

func (s storage[T]) matcher(o *internalversion.ListOptions) func(T) bool {
	label, selected := labels.Everything(), fields.Everything()
	if o.LabelSelector != nil {
		label = o.LabelSelector
	}
	if o.FieldSelector != nil {
		selected = o.FieldSelector
	}
	return func(obj T) bool {
		return label.Matches(labels.Set(obj.GetLabels())) && (selected.Empty() || selected.Matches(s.store.kind.fields(obj)))
	}
}

// ConvertToTable shows the objects as people want them.
func (s storage[T]) ConvertToTable(_ context.Context, obj, opts kruntime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	if o, ok := opts.(*metav1.TableOptions); !ok || o == nil || !o.NoHeaders {
		table.ColumnDefinitions = s.store.kind.columns
	}
	var items []T
	switch o := obj.(type) {
	case T:
		items = []T{o}
		table.ResourceVersion = o.GetResourceVersion()
	default:
		list, err := listMeta(obj)
		if err != nil {
			return nil, err
		}
		items = s.store.kind.items(obj)
		table.ResourceVersion = list.GetResourceVersion()
	}
	now := time.Now()
	for _, o := range items {
		table.Rows = append(table.Rows, metav1.TableRow{Cells: s.store.kind.row(o, now), Object: kruntime.RawExtension{Object: o}})
	}
	return table, nil
}

func listMeta(obj kruntime.Object) (metav1.ListInterface, error) {
	if l, ok := obj.(metav1.ListMetaAccessor); ok {
		return l.GetListMeta(), nil
	}
	return nil, fmt.Errorf("%T cannot be shown as a table", obj)
}
