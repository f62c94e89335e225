package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pollPause is the time between looks at something that is waited for.
const pollPause = 300 * time.Millisecond

// declare applies an object, server-side, as the owner of the fields that it sets.
func (a reader) declare(ctx context.Context, manager, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return a.client.Patch(types.ApplyPatchType).AbsPath(path).Param("fieldManager", manager).Param("force", "true").Body(body).Do(ctx).Error()
}

// merge patches an object, and decodes what it is then into out.
func (a reader) merge(ctx context.Context, manager, path string, patch, out any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	result := a.client.Patch(types.MergePatchType).AbsPath(path).Param("fieldManager", manager).Body(body).Do(ctx)
	if err := result.Error(); err != nil {
		return err
	}
	b, err := result.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// replace stores an object in place of the version that it was read from.
func (a reader) replace(ctx context.Context, manager, path string, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return a.client.Put().AbsPath(path).Param("fieldManager", manager).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
}

// remove deletes an object.
func (a reader) remove(ctx context.Context, path string) error {
	return a.client.Delete().AbsPath(path).Do(ctx).Error()
}

// await looks until done says so, or fails. What it is waited for is told when time is up.
func await(ctx context.Context, timeout time.Duration, what func() string, done func(context.Context) (bool, error)) error {
	late := time.NewTimer(timeout)
	defer late.Stop()
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return fmt.Errorf("not done after %s: %s; it goes on, look again with the same command or raise --timeout", timeout, what())
		case <-tick.C:
		}
	}
}

// onlyBy tells whether nobody but the manager has set fields, statuses aside.
func onlyBy(fields []metav1.ManagedFieldsEntry, manager string) bool {
	for _, f := range fields {
		if f.Manager != manager && f.Subresource == "" {
			return false
		}
	}
	return true
}
