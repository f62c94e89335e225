package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"padis.io/padis/api/server/live"
	"padis.io/padis/api/v1alpha1"
)

// admissionChain is asked before each write: namespaces must exist and objects must fit together.
type admissionChain struct {
	addresses *live.Store[addressObject]
	who       access

	// Set by connect, before connected is closed.
	connected  chan struct{}
	namespaces corev1client.NamespaceInterface
	cached     cache.SharedIndexInformer
	declared   *declared
}

var (
	_ admission.MutationInterface   = &admissionChain{}
	_ admission.ValidationInterface = &admissionChain{}
)

func newAdmission(projections *live.Stores, who access) *admissionChain {
	return &admissionChain{addresses: projections.Addresses, who: who, connected: make(chan struct{})}
}

// connect gives it the clients, which need a server that is built. Until then writes that it must judge are put off.
func (c *admissionChain) connect(loopback *rest.Config, namespaces corev1client.NamespaceInterface, cached cache.SharedIndexInformer) error {
	d, err := newDeclared(loopback)
	if err != nil {
		return err
	}
	c.declared, c.namespaces, c.cached = d, namespaces, cached
	close(c.connected)
	return nil
}

func (c *admissionChain) isConnected() bool {
	select {
	case <-c.connected:
		return true
	default:
		return false
	}
}

// Handles says which operations it wants to see.
func (c *admissionChain) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update || op == admission.Delete
}

// Admit refuses objects for namespaces that do not exist. It changes nothing, but comes before the object itself is
// looked at, so that this is the first that one learns.
func (c *admissionChain) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetOperation() != admission.Create || a.GetSubresource() != "" || a.GetNamespace() == "" || a.GetResource().GroupResource() == namespaceResource.GroupResource() {
		return nil
	}
	if !c.isConnected() {
		return starting()
	}
	name := a.GetNamespace()
	deleting, found := c.cachedNamespace(name)
	if !found {
		// The cache may be behind by a moment.
		ns, err := c.namespaces.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			refused := apierrors.NewNotFound(namespaceResource.GroupResource(), name)
			refused.ErrStatus.Message = fmt.Sprintf("namespace %q does not exist: create it with: padis create namespace %s", name, name)
			return refused
		}
		if err != nil {
			return err
		}
		deleting = ns.DeletionTimestamp != nil
	}
	if deleting {
		refused := apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(),
			fmt.Errorf("namespace %q is being deleted: wait until it is gone and create it anew, or use another one", name))
		refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{Type: "NamespaceTerminating", Field: "metadata.namespace"})
		return refused
	}
	return nil
}

func (c *admissionChain) cachedNamespace(name string) (deleting, found bool) {
	o, exists, err := c.cached.GetStore().GetByKey(name)
	if err != nil || !exists {
		return false, false
	}
	m, err := meta.Accessor(o)
	if err != nil {
		return false, false
	}
	return m.GetDeletionTimestamp() != nil, true
}

func starting() error {
	err := apierrors.NewServiceUnavailable("the API server is starting: try again in a moment")
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return err
}

// Validate refuses objects that contradict others, and the deletion of what others need.
func (c *admissionChain) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetSubresource() != "" {
		return nil
	}
	resource := a.GetResource().GroupResource()
	if resource == namespaceResource.GroupResource() {
		if a.GetOperation() == admission.Delete && slices.Contains(systemNamespaces, a.GetName()) {
			return apierrors.NewForbidden(resource, a.GetName(), errors.New("this namespace is always there: delete what is in it instead"))
		}
		return nil
	}
	if resource.Group == rbacv1.GroupName && a.GetOperation() != admission.Delete {
		return c.who.checkGrant(ctx, a)
	}
	if resource.Group != v1alpha1.GroupVersion.Group {
		return nil
	}
	if resource.Resource == "syncs" && a.GetOperation() != admission.Delete {
		if err := c.who.checkSync(ctx, a); err != nil {
			return err
		}
	}
	if !c.isConnected() {
		return starting()
	}
	if a.GetOperation() == admission.Delete {
		return c.checkDelete(ctx, resource, a.GetName())
	}
	return c.checkWrite(ctx, resource, a)
}

func (c *admissionChain) checkDelete(ctx context.Context, resource schema.GroupResource, name string) error {
	var (
		why string
		err error
	)
	switch resource.Resource {
	case "ippools":
		why, err = c.poolUsers(ctx, name)
	case "networks":
		why, err = c.networkUsers(ctx, name)
	}
	if err != nil {
		return err
	}
	if why != "" {
		return apierrors.NewForbidden(resource, name, errors.New(why))
	}
	return nil
}
