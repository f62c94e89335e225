package gitops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/render"
	"padis.io/padis/reconcile/gitops/render/helm"
	"padis.io/padis/reconcile/gitops/render/sops"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// settings are all that a result depends on beside the repository.
type settings struct {
	variables map[string]string
	// secret are the variables that come from Secrets.
	secret map[string]bool
	keys   sops.Identities
	digest string
	// charts renders Helm charts; nil if that is not offered. It is no setting of the Sync.
	charts func(helm.Request) (helm.Response, error)
}

// readSettings reads the variables and keys of a Sync.
func readSettings(ctx context.Context, c client.Reader, y *v1alpha1.Sync) (settings, error) {
	var s settings
	if len(y.Spec.Variables) > 0 {
		s.variables, s.secret = map[string]string{}, map[string]bool{}
	}
	var from []any
	for i, v := range y.Spec.Variables {
		values, of, err := variables(ctx, c, y.Namespace, v)
		if apierrors.IsNotFound(err) && v.Optional {
			continue
		} else if err != nil {
			return s, fmt.Errorf("spec.variables[%d]: %w", i, err)
		}
		for name, value := range values {
			s.variables[name] = value
			if s.secret[name] = v.SecretRef != nil; !s.secret[name] {
				delete(s.secret, name)
			}
		}
		from = append(from, of)
	}
	if ref := y.Spec.DecryptionSecretRef; ref != nil {
		data, err := readSecret(ctx, c, y.Namespace, ref.Name)
		if err != nil {
			return s, fmt.Errorf("spec.decryptionSecretRef: %w", err)
		}
		var keys []string
		for _, k := range slices.Sorted(maps.Keys(data)) {
			if strings.HasSuffix(k, ".agekey") {
				keys = append(keys, string(data[k]))
			}
		}
		if s.keys, err = sops.Parse(strings.Join(keys, "\n")); err != nil {
			return s, fmt.Errorf("spec.decryptionSecretRef: secret %s: %w", ref.Name, err)
		}
	}
	keys := s.keys.Digest()
	b, err := json.Marshal([]any{y.Spec.SourceRef, y.Spec.Path, y.Spec.TargetNamespace, y.Spec.ServiceAccount, y.Spec.Prune, y.Spec.PruneLimit, y.Spec.Drift, from, keys[:], y.Spec.Helm})
	if err != nil {
		return s, err
	}
	sum := sha256.Sum256(b)
	s.digest = hex.EncodeToString(sum[:16])
	return s, nil
}

// Charts renders Helm charts within bounds: the method Render of a helm/child.Runner is one.
type Charts func(context.Context, helm.Request) (helm.Response, error)

// until gives what renders charts as long as a context lasts.
func (c Charts) until(ctx context.Context) func(helm.Request) (helm.Response, error) {
	if c == nil {
		return nil
	}
	return func(req helm.Request) (helm.Response, error) { return c(ctx, req) }
}

// chartOf is what a Sync says of its chart.
func chartOf(y *v1alpha1.Sync) *render.Helm {
	h := y.Spec.Helm
	if h == nil {
		return nil
	}
	out := &render.Helm{ValuesFiles: h.ValuesFiles}
	if h.Values != nil {
		out.Values = h.Values.Raw
	}
	return out
}

// variables reads the values that an entry stands for, and of tells one set of them from another. The latter is in a digest
// that is shown: it holds no values of Secrets, for short ones can be guessed.
func variables(ctx context.Context, c client.Reader, namespace string, v v1alpha1.SyncVariable) (values map[string]string, of any, err error) {
	switch {
	case v.ConfigMapRef != nil:
		var m corev1.ConfigMap
		if err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: v.ConfigMapRef.Name}, &m); err != nil {
			return nil, nil, fmt.Errorf("read configmap %s/%s: %w", namespace, v.ConfigMapRef.Name, err)
		}
		return m.Data, m.Data, nil
	case v.SecretRef != nil:
		var m corev1.Secret
		if err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: v.SecretRef.Name}, &m); err != nil {
			return nil, nil, fmt.Errorf("read secret %s/%s: %w", namespace, v.SecretRef.Name, err)
		}
		values = make(map[string]string, len(m.Data))
		for k, b := range m.Data {
			values[k] = string(b)
		}
		return values, []string{string(m.UID), m.ResourceVersion}, nil
	}
	values = map[string]string{v.Name: v.Value}
	return values, values, nil
}

// refers tells whether a Sync has variables or keys from a ConfigMap or Secret of its namespace.
func refers(y *v1alpha1.Sync, secret bool, name string) bool {
	if d := y.Spec.DecryptionSecretRef; secret && d != nil && d.Name == name {
		return true
	}
	return slices.ContainsFunc(y.Spec.Variables, func(v v1alpha1.SyncVariable) bool {
		if secret {
			return v.SecretRef != nil && v.SecretRef.Name == name
		}
		return v.ConfigMapRef != nil && v.ConfigMapRef.Name == name
	})
}
