// Package status shows what reconcilers found out: it replaces whole statuses and remembers what it wrote. Edge: talks to
// the API server.
package status

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Keeper knows the statuses of one kind as they are shown, also while the cache still has older ones. A reconciler that
// compared with a cache that lags behind would take back what it wrote a moment ago. Safe for concurrent use.
type Keeper[S any] struct {
	mu    sync.Mutex
	wrote map[types.UID]wrote[S]
}

type wrote[S any] struct {
	version string
	status  S
	at      time.Time
}

// Shown gives the status that o shows: that of the cached object, or what was written after the cache saw it.
func (k *Keeper[S]) Shown(o client.Object, cached S) S {
	k.mu.Lock()
	defer k.mu.Unlock()
	w, ok := k.wrote[o.GetUID()]
	if !ok {
		return cached
	}
	if order, err := resourceversion.CompareResourceVersion(o.GetResourceVersion(), w.version); err == nil && order > 0 {
		return cached
	}
	return w.status
}

// Wait gives the time that is left until o may be written again, if writes are to be at least interval apart.
func (k *Keeper[S]) Wait(o client.Object, now time.Time, interval time.Duration) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	w, ok := k.wrote[o.GetUID()]
	if !ok {
		return 0
	}
	return max(0, w.at.Add(interval).Sub(now))
}

// Replace puts s in place of the whole status of the object that o names. Nothing else is touched, and what others wrote
// in between does not matter: the status has one writer. An object that is gone meanwhile is no error.
func (k *Keeper[S]) Replace(ctx context.Context, c client.StatusClient, o client.Object, s S, now time.Time) error {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": o.GetUID()},
		{"op": "add", "path": "/status", "value": s},
	})
	if err != nil {
		return fmt.Errorf("status of %s: %w", client.ObjectKeyFromObject(o), err)
	}
	target := o.DeepCopyObject().(client.Object)
	if err := c.Status().Patch(ctx, target, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("write status of %s: %w", client.ObjectKeyFromObject(o), err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wrote == nil {
		k.wrote = map[types.UID]wrote[S]{}
	}
	k.wrote[o.GetUID()] = wrote[S]{target.GetResourceVersion(), s, now}
	return nil
}

// Drop forgets an object that is gone.
func (k *Keeper[S]) Drop(uid types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.wrote, uid)
}

// Retain forgets all objects but those that alive approves.
func (k *Keeper[S]) Retain(alive func(types.UID) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.wrote, func(uid types.UID, _ wrote[S]) bool { return !alive(uid) })
}

// Timed gives the conditions after with the times at which their status last changed, as API objects have them: in whole
// seconds.
func Timed(before, after []metav1.Condition, now time.Time) []metav1.Condition {
	out := make([]metav1.Condition, len(after))
	for n, c := range after {
		c.LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
		for _, b := range before {
			if b.Type == c.Type && b.Status == c.Status {
				c.LastTransitionTime = b.LastTransitionTime
			}
		}
		out[n] = c
	}
	return out
}
