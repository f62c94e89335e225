package gitops

import (
	"context"
	"fmt"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// account sees that there is the service account by whose rights a Sync writes. Bindings name it and stay when it is removed, so that
// the API server would let the Sync go on.
func account(ctx context.Context, c client.Reader, y *v1alpha1.Sync) error {
	if y.Spec.ServiceAccount == "" {
		return nil
	}
	name := types.NamespacedName{Namespace: y.Namespace, Name: y.Spec.ServiceAccount}
	err := c.Get(ctx, name, &corev1.ServiceAccount{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("spec.serviceAccount %q: there is no service account %s, so that nothing can be written: create it, or correct the name", y.Spec.ServiceAccount, name)
	} else if err != nil {
		return fmt.Errorf("read service account %s: %w", name, err)
	}
	return nil
}
