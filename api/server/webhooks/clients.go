package webhooks

import (
	"bytes"
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"padis.io/padis/api/server/roles"
	"padis.io/padis/api/v1alpha1"
)

const (
	// User is who webhooks are in the audit log.
	User = "system:padis:webhook"
	// manager is who owns the field that they write.
	manager = "padis-webhook"
	// tokenKey is the key of the Secret of a webhook.
	tokenKey = "token"
	// Of each GitSource, eventBurst events are written at once, and then eventRate a second.
	eventBurst, eventRate = 10, 1. / 60
)

// clients is the API.
type clients struct {
	sources dynamic.NamespaceableResourceInterface
	core    corev1client.CoreV1Interface
	events  record.EventBroadcaster
	tell    record.EventRecorder
}

func newClients(loopback *rest.Config) (*clients, error) {
	cfg := rest.CopyConfig(loopback)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: User, Groups: []string{roles.Masters}}
	objects, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	core, err := corev1client.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	events := record.NewBroadcaster(record.WithCorrelatorOptions(record.CorrelatorOptions{BurstSize: eventBurst, QPS: eventRate}))
	events.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: core.Events("")})
	return &clients{
		sources: objects.Resource(v1alpha1.GroupVersion.WithResource("gitsources")), core: core,
		events: events, tell: events.NewRecorder(kruntime.NewScheme(), corev1.EventSource{Component: "padis"}),
	}, nil
}

func (c *clients) close() { c.events.Shutdown() }

func (c *clients) source(ctx context.Context, name types.NamespacedName) (*v1alpha1.GitSource, error) {
	u, err := c.sources.Namespace(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	s := &v1alpha1.GitSource{}
	return s, kruntime.DefaultUnstructuredConverter.FromUnstructured(u.Object, s)
}

func (c *clients) token(ctx context.Context, name types.NamespacedName) ([]byte, error) {
	s, err := c.core.Secrets(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	// Files that Secrets are made of end with a newline that no sender has.
	return bytes.TrimRight(s.Data[tokenKey], "\r\n"), nil
}

func (c *clients) fetch(ctx context.Context, s *v1alpha1.GitSource, why string) error {
	// The UID, so that one which was made anew under the name is not meant.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": s.UID, "annotations": map[string]string{v1alpha1.AnnotationFetch: why}}})
	if err != nil {
		return err
	}
	_, err = c.sources.Namespace(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: manager})
	return err
}

func (c *clients) event(s *v1alpha1.GitSource, kind, reason, message string) {
	c.tell.Event(&corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "GitSource", Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
	}, kind, reason, message)
}
