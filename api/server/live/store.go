// Package live serves read-only API objects from memory: list, watch, tables and selectors over what the scheduler
// knows, without a write to any disk. Edge: talks to API clients through the API server's handlers.
package live

import (
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// history is the number of events that a watch can replay. They are pointers to objects that mostly live anyway.
const history = 8192

// Object is what a store holds.
type Object interface {
	runtime.Object
	metav1.Object
	comparable
}

// Store holds the objects of one kind and the history of their changes. All methods may be called from several
// goroutines. Objects that went in or come out are shared: nobody may change them.
type Store[T Object] struct {
	kind  kind[T]
	clock func() time.Time

	mu      sync.Mutex
	objects map[types.NamespacedName]T
	// rv is the version of the newest event. Versions begin at the clock's milliseconds times 2^20, so that those of
	// a restarted process are higher than all earlier ones, and rise by one for each event.
	start, rv uint64
	events    []event[T] // ring, see slot
	wake      map[chan struct{}]struct{}
}

// event is one change. object is the state after it, or, when it was deleted, the last one.
type event[T Object] struct {
	rv       uint64
	object   T
	previous T // zero when it was created
	deleted  bool
}

func newStore[T Object](k kind[T], clock func() time.Time) *Store[T] {
	start := uint64(clock().UnixMilli()) << 20
	return &Store[T]{
		kind:    k,
		clock:   clock,
		objects: map[types.NamespacedName]T{},
		start:   start,
		rv:      start,
		wake:    map[chan struct{}]struct{}{},
	}
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// Set adds or replaces an object and takes it over: the caller must not touch it afterwards. uid and creation time are
// filled in where they are missing. Equal content is no change. Set never waits for a watcher.
func (s *Store[T]) Set(obj T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	key := keyOf(obj)
	old := s.objects[key]
	if old != none {
		if obj.GetUID() == "" {
			obj.SetUID(old.GetUID())
		}
		if created := obj.GetCreationTimestamp(); created.IsZero() {
			obj.SetCreationTimestamp(old.GetCreationTimestamp())
		}
		obj.SetResourceVersion(old.GetResourceVersion())
		if equality.Semantic.DeepEqual(old, obj) {
			return
		}
	}
	if obj.GetUID() == "" {
		obj.SetUID(uuid.NewUUID())
	}
	if created := obj.GetCreationTimestamp(); created.IsZero() {
		obj.SetCreationTimestamp(metav1.Time{Time: s.clock()})
	}
	s.record(event[T]{object: obj, previous: old})
	s.objects[key] = obj
}

// Delete removes an object; one that is not there is no error.
func (s *Store[T]) Delete(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	old, ok := s.objects[key]
	if !ok {
		return
	}
	delete(s.objects, key)
	last := old.DeepCopyObject().(T)
	s.record(event[T]{object: last, previous: old, deleted: true})
}

// record gives the event its version, appends it and wakes the watchers. The caller holds mu.
func (s *Store[T]) record(e event[T]) {
	s.rv++
	e.rv = s.rv
	e.object.SetResourceVersion(strconv.FormatUint(s.rv, 10))
	if len(s.events) < history {
		s.events = append(s.events, e)
	} else {
		s.events[s.slot(s.rv)] = e
	}
	for c := range s.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// slot is the place of a version in the ring.
func (s *Store[T]) slot(rv uint64) int { return int((rv - s.start - 1) % history) }

// Get returns an object.
func (s *Store[T]) Get(namespace, name string) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[types.NamespacedName{Namespace: namespace, Name: name}]
	return o, ok
}

// List returns the objects of a namespace, or all for the empty one, sorted by namespace and name.
func (s *Store[T]) List(namespace string) []T {
	out, _ := s.list(namespace, func(T) bool { return true })
	return out
}

// list also gives the version that the list is of.
func (s *Store[T]) list(namespace string, match func(T) bool) ([]T, uint64) {
	s.mu.Lock()
	out := make([]T, 0, 16)
	for key, o := range s.objects {
		if (namespace == "" || key.Namespace == namespace) && match(o) {
			out = append(out, o)
		}
	}
	rv := s.rv
	s.mu.Unlock()
	sort.Slice(out, func(i, j int) bool {
		if a, b := out[i].GetNamespace(), out[j].GetNamespace(); a != b {
			return a < b
		}
		return naturalLess(out[i].GetName(), out[j].GetName())
	})
	return out, rv
}

// naturalLess orders web-2 before web-10.
func naturalLess(a, b string) bool {
	ha, na, oka := splitSlot(a)
	hb, nb, okb := splitSlot(b)
	if oka && okb && ha == hb && na != nb {
		return na < nb
	}
	return a < b
}

func splitSlot(name string) (head string, slot uint64, ok bool) {
	i := len(name)
	for i > 0 && name[i-1] >= '0' && name[i-1] <= '9' {
		i--
	}
	n, err := strconv.ParseUint(name[i:], 10, 32)
	return name[:i], n, err == nil
}

// since returns the events after a version, at most max of them. It fails when they are no longer, or not yet, known.
func (s *Store[T]) since(rv uint64, max int) ([]event[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.rv - uint64(len(s.events))
	if rv < oldest || rv > s.rv {
		return nil, apierrors.NewResourceExpired("too old resource version: " + strconv.FormatUint(rv, 10) +
			" (" + strconv.FormatUint(oldest, 10) + "): list anew and watch from there")
	}
	n := min(int(s.rv-rv), max)
	out := make([]event[T], 0, n)
	for v := rv + 1; len(out) < n; v++ {
		out = append(out, s.events[s.slot(v)])
	}
	return out, nil
}

// subscribe returns a channel that is signalled after changes, and a function that ends it.
func (s *Store[T]) subscribe() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	s.wake[c] = struct{}{}
	s.mu.Unlock()
	return c, func() {
		s.mu.Lock()
		delete(s.wake, c)
		s.mu.Unlock()
	}
}

// parseVersion reads a resource version; empty and 0 mean any.
func parseVersion(s string) (rv uint64, set bool, err error) {
	if slices.Contains([]string{"", "0"}, s) {
		return 0, false, nil
	}
	rv, err = strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, false, apierrors.NewBadRequest("resourceVersion " + strconv.Quote(s) + " is not a number: use the one of an object or list")
	}
	return rv, true, nil
}
