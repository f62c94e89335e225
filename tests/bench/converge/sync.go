package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

var (
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	apps       = schema.GroupVersionResource{Group: "padis.io", Version: "v1alpha1", Resource: "apps"}
	sources    = schema.GroupVersionResource{Group: "padis.io", Version: "v1alpha1", Resource: "gitsources"}
	syncs      = schema.GroupVersionResource{Group: "padis.io", Version: "v1alpha1", Resource: "syncs"}
)

// bed is a namespace that a Sync keeps as a repository says. Both have the namespace's name.
type bed struct {
	client    dynamic.Interface
	namespace string
	repo      *repository
	plane     *plane
}

func createNamespace(ctx context.Context, c dynamic.Interface, name string) error {
	_, err := c.Resource(namespaces).Create(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}, metav1.CreateOptions{})
	return err
}

// declare has a repository fetched and synced.
func (b *bed) declare(ctx context.Context, url string) error {
	for _, o := range []struct {
		resource schema.GroupVersionResource
		kind     string
		spec     map[string]any
	}{
		{syncs, "Sync", map[string]any{"sourceRef": map[string]any{"name": b.namespace}, "prune": true, "timeout": "30m", "healthTimeout": "30m"}},
		{sources, "GitSource", map[string]any{"url": url, "interval": "24h", "timeout": "10m"}},
	} {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "padis.io/v1alpha1", "kind": o.kind, "metadata": map[string]any{"name": b.namespace}, "spec": o.spec}}
		if _, err := b.client.Resource(o.resource).Namespace(b.namespace).Create(ctx, u, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// fetch has the repository fetched now, as a webhook would.
func (b *bed) fetch(ctx context.Context) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"padis.io/fetch":"%d"}}}`, time.Now().UnixNano())
	_, err := b.client.Resource(sources).Namespace(b.namespace).Patch(ctx, b.namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// when waits until an object is as told, and says when that was.
func (b *bed) when(ctx context.Context, resource schema.GroupVersionResource, name string, is func(*unstructured.Unstructured) bool) (time.Time, error) {
	for {
		w, err := b.client.Resource(resource).Namespace(b.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			return time.Time{}, err
		}
		for e := range w.ResultChan() {
			if u, ok := e.Object.(*unstructured.Unstructured); ok && is(u) {
				w.Stop()
				return time.Now(), nil
			}
		}
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err()
		}
	}
}

func fetched(commit string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool { return text(u, "status", "commit") == commit }
}

// applied: all of the commit is written, though not all of it may be healthy yet.
func applied(commit string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool {
		if text(u, "status", "lastAppliedCommit") == commit {
			return true
		}
		conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Ready" && c["reason"] == "WaitingForHealth" {
				return text(u, "status", "lastAttemptedCommit") == commit
			}
		}
		return false
	}
}

// healthy: the commit is applied, and all that it declares runs.
func healthy(commit string) func(*unstructured.Unstructured) bool {
	return func(u *unstructured.Unstructured) bool { return text(u, "status", "lastAppliedCommit") == commit }
}

func text(u *unstructured.Unstructured, path ...string) string {
	s, _, _ := unstructured.NestedString(u.Object, path...)
	return s
}

// moments are when something was seen of a commit, and the processor time of the control plane until it was applied.
type moments struct {
	begun, fetched, applied, healthy time.Time
	processor                        time.Duration
}

// follow begins something, and sees what becomes of a commit.
func (b *bed) follow(ctx context.Context, commit string, begin func() error) (m moments, err error) {
	before, err := b.plane.cpu()
	if err != nil {
		return m, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range []struct {
		at       *time.Time
		resource schema.GroupVersionResource
		is       func(*unstructured.Unstructured) bool
	}{{&m.fetched, sources, fetched(commit)}, {&m.applied, syncs, applied(commit)}, {&m.healthy, syncs, healthy(commit)}} {
		group.Go(func() error {
			at, err := b.when(ctx, w.resource, b.namespace, w.is)
			*w.at = at
			if w.at == &m.applied && err == nil {
				m.processor, err = b.plane.cpu()
				m.processor -= before
			}
			return err
		})
	}
	m.begun = time.Now()
	return m, errors.Join(begin(), group.Wait())
}

// versions are the versions of all objects that the Sync keeps.
func (b *bed) versions(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, resource := range []schema.GroupVersionResource{apps, configMaps} {
		l, err := b.client.Resource(resource).Namespace(b.namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return nil, err
		}
		for _, o := range l.Items {
			out[resource.Resource+"/"+o.GetName()] = o.GetResourceVersion()
		}
	}
	return out, nil
}

// nothing commits something that says nothing of objects, and says how long the Sync took to see that from the fetch on.
func (b *bed) nothing(ctx context.Context, round int) (time.Duration, error) {
	if err := os.WriteFile(b.repo.dir+"/README.md", fmt.Appendf(nil, "# Round %d\n", round), 0o644); err != nil {
		return 0, err
	}
	commit, err := b.repo.commit(ctx)
	if err != nil {
		return 0, err
	}
	m, err := b.follow(ctx, commit, func() error { return b.fetch(ctx) })
	return m.healthy.Sub(m.fetched), err
}

// change commits a change of the ConfigMap i, and says when its fetch was asked for, when it was done and when the object had changed.
func (b *bed) change(ctx context.Context, i, round int) (begun, done, there time.Time, err error) {
	path, value := b.repo.path(i), strconv.Itoa(8+round)
	was, err := os.ReadFile(path)
	if err != nil {
		return begun, done, there, err
	}
	changed := strings.Replace(string(was), "threads = 4", "threads = "+value, 1)
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		return begun, done, there, err
	}
	commit, err := b.repo.commit(ctx)
	if err != nil {
		return begun, done, there, err
	}
	group, watching := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		there, err = b.when(watching, configMaps, b.repo.name(i), func(u *unstructured.Unstructured) bool {
			return strings.Contains(text(u, "data", "settings.ini"), "threads = "+value)
		})
		return err
	})
	var m moments
	group.Go(func() (err error) {
		m, err = b.follow(watching, commit, func() error { return b.fetch(ctx) })
		return err
	})
	err = group.Wait()
	return m.begun, m.fetched, there, err
}

// drift has somebody else change one field of the App i, and says how long that lasted.
func (b *bed) drift(ctx context.Context, i int) (time.Duration, error) {
	count := func(n int64) func(*unstructured.Unstructured) bool {
		return func(u *unstructured.Unstructured) bool {
			is, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
			return is == n
		}
	}
	if _, err := b.client.Resource(apps).Namespace(b.namespace).Patch(ctx, b.repo.name(i), types.MergePatchType, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		return 0, err
	}
	began := time.Now()
	at, err := b.when(ctx, apps, b.repo.name(i), count(2))
	return at.Sub(began), err
}
