package live

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// bookmarkEvery keeps the version of a quiet watcher within the history.
	bookmarkEvery = time.Minute
	// batch is the number of events that a watcher takes under one lock.
	batch = 128
)

// watchRequest is what a client asked for.
type watchRequest[T Object] struct {
	namespace string
	match     func(T) bool
	// from is the version to replay from; with initial set the present objects come first instead.
	from      uint64
	initial   bool
	bookmarks bool
	// endMark asks for a bookmark that tells that the initial objects are complete.
	endMark bool
}

// watcher reads the store's history at its client's pace: a slow one falls behind and is told to list anew.
type watcher[T Object] struct {
	store  *Store[T]
	req    watchRequest[T]
	result chan watch.Event
	done   chan struct{}
	stop   sync.Once
}

func (s *Store[T]) watch(ctx context.Context, req watchRequest[T]) (watch.Interface, error) {
	var (
		first  []T
		cursor = req.from
	)
	if req.initial {
		first, cursor = s.list(req.namespace, req.match)
	} else if _, err := s.since(cursor, 1); err != nil {
		return nil, err
	}
	w := &watcher[T]{store: s, req: req, result: make(chan watch.Event), done: make(chan struct{})}
	go w.run(ctx, first, cursor)
	return w, nil
}

// ResultChan is where the events come out; it is closed at the end.
func (w *watcher[T]) ResultChan() <-chan watch.Event { return w.result }

// Stop ends the watch.
func (w *watcher[T]) Stop() { w.stop.Do(func() { close(w.done) }) }

func (w *watcher[T]) run(ctx context.Context, first []T, cursor uint64) {
	defer close(w.result)
	changed, cancel := w.store.subscribe()
	defer cancel()
	bookmarks := time.NewTicker(bookmarkEvery)
	defer bookmarks.Stop()

	for _, o := range first {
		if !w.send(ctx, watch.Event{Type: watch.Added, Object: o.DeepCopyObject()}) {
			return
		}
	}
	if w.req.endMark && !w.send(ctx, w.bookmark(cursor, true)) {
		return
	}
	for {
		events, err := w.store.since(cursor, batch)
		if err != nil {
			w.send(ctx, watch.Event{Type: watch.Error, Object: status(err)})
			return
		}
		for _, e := range events {
			cursor = e.rv
			if out, ok := w.translate(e); ok && !w.send(ctx, out) {
				return
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-bookmarks.C:
			if w.req.bookmarks && !w.send(ctx, w.bookmark(cursor, false)) {
				return
			}
		case <-w.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// translate says what an event means to a client that sees only what its selectors match: an object that no longer
// matches is deleted for it, one that begins to is added.
func (w *watcher[T]) translate(e event[T]) (watch.Event, bool) {
	var none T
	if w.req.namespace != "" && e.object.GetNamespace() != w.req.namespace {
		return watch.Event{}, false
	}
	before := e.previous != none && w.req.match(e.previous)
	after := !e.deleted && w.req.match(e.object)
	switch {
	case before && after:
		return watch.Event{Type: watch.Modified, Object: e.object.DeepCopyObject()}, true
	case after:
		return watch.Event{Type: watch.Added, Object: e.object.DeepCopyObject()}, true
	case before:
		last := e.previous.DeepCopyObject().(T)
		last.SetResourceVersion(e.object.GetResourceVersion())
		return watch.Event{Type: watch.Deleted, Object: last}, true
	default:
		return watch.Event{}, false
	}
}

func (w *watcher[T]) bookmark(rv uint64, end bool) watch.Event {
	o := w.store.kind.object()
	o.SetResourceVersion(strconv.FormatUint(rv, 10))
	if end {
		o.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return watch.Event{Type: watch.Bookmark, Object: o}
}

func (w *watcher[T]) send(ctx context.Context, e watch.Event) bool {
	select {
	case w.result <- e:
		return true
	case <-w.done:
		return false
	case <-ctx.Done():
		return false
	}
}

func status(err error) *metav1.Status {
	if s, ok := err.(apierrors.APIStatus); ok {
		out := s.Status()
		return &out
	}
	return &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
}
