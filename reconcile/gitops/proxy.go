package gitops

import (
	"context"
	"fmt"
	"net/url"

	"padis.io/padis/api/v1alpha1"
)

// proxy is the URL of a proxy with its credentials.
func (r *Sources) proxy(ctx context.Context, namespace string, p *v1alpha1.GitProxy) (string, error) {
	if p.SecretRef == nil {
		return p.URL, nil
	}
	data, err := readSecret(ctx, r.live, namespace, p.SecretRef.Name)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return "", fmt.Errorf("url %q: it cannot be read: write it as http://HOST:PORT", p.URL)
	}
	u.User = url.UserPassword(string(data["username"]), string(data["password"]))
	return u.String(), nil
}
