package images

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestClassify(t *testing.T) {
	own, mirror := endpoint{scheme: "https", host: "r.acme.com", path: "/v2"}, endpoint{scheme: "http", host: "m:5000", path: "/v2", mirror: true}
	known := own
	known.auth = credentials{username: "ann", password: "secret"}
	token := own
	token.auth = credentials{identityToken: "secret"}
	missing := fmt.Errorf("r.acme.com/web:1: %w", errdefs.ErrNotFound)
	away := &reachError{"dial tcp: i/o timeout"}
	for _, c := range []struct {
		err      error
		resolved bool
		troubles []trouble
		reason   string
		says     string
	}{
		{errors.New("write /x: no space left on device: unknown"), true, nil, padisv1.ReasonInsufficientSpace, "free some"},
		{errors.New("unexpected commit digest sha256:0"), true, nil, padisv1.ReasonImageCorrupt, "push the image again"},
		{&architectureError{"linux/amd64", []string{"linux/arm64"}}, true, nil, padisv1.ReasonImageArchitecture, "it is for linux/arm64, and this agent is linux/amd64"},
		{&notAnImageError{"application/vnd.helm"}, true, nil, padisv1.ReasonImageInvalid, "application/vnd.helm"},
		{fmt.Errorf("old: %w", errdefs.ErrNotImplemented), true, nil, padisv1.ReasonImageInvalid, "OCI"},
		{&declarationError{"Registry x"}, false, nil, padisv1.ReasonRegistryUnavailable, "Registry x"},
		{errors.New("transport: broken"), true, nil, padisv1.ReasonRuntimeUnavailable, "log of containerd"},
		{away, false, nil, padisv1.ReasonRegistryUnavailable, "registry r.acme.com"},
		{missing, false, []trouble{{own, 404, nil}}, padisv1.ReasonImageNotFound, "registry r.acme.com has no such image"},
		{missing, true, []trouble{{own, 404, nil}}, padisv1.ReasonImageCorrupt, "lacks a part"},
		{missing, false, []trouble{{mirror, 0, errors.New("refused")}, {own, 404, nil}}, padisv1.ReasonImageNotFound, "(mirror http://m:5000: refused)"},
		{away, false, []trouble{{mirror, 404, nil}, {own, 0, errors.New("i/o timeout")}}, padisv1.ReasonRegistryUnavailable, "(mirror http://m:5000 answered 404 Not Found)"},
		{missing, false, []trouble{{mirror, 404, nil}, {mirror, 401, nil}}, padisv1.ReasonImageUnauthorized, "Secret with credentials for m:5000"},
		{docker.ErrInvalidAuthorization, false, []trouble{{own, 401, nil}}, padisv1.ReasonImageUnauthorized, "template.imagePullSecrets"},
		{docker.ErrInvalidAuthorization, false, []trouble{{known, 403, nil}}, padisv1.ReasonImageUnauthorized, `user "ann"`},
		{docker.ErrInvalidAuthorization, false, []trouble{{token, 401, nil}}, padisv1.ReasonImageUnauthorized, "identity token"},
		{away, false, []trouble{{own, 503, nil}}, padisv1.ReasonRegistryUnavailable, "503 Service Unavailable"},
		{away, false, []trouble{{own, 0, errors.New("lookup r.acme.com: no such host")}}, padisv1.ReasonRegistryUnavailable, "name servers"},
		{away, false, []trouble{{own, 0, errors.New("x509: certificate has expired")}}, padisv1.ReasonRegistryUnavailable, "renew"},
		{away, false, []trouble{{mirror, 0, errPlainHTTP}}, padisv1.ReasonRegistryUnavailable, "http://m:5000"},
	} {
		got := classify(failure{image: name{full: "r.acme.com/web:1", host: "r.acme.com"}, resolved: c.resolved, troubles: c.troubles, err: c.err})
		if got.Reason != c.reason || !strings.Contains(got.Message, c.says) || !strings.HasPrefix(got.Message, "image r.acme.com/web:1: ") || strings.Contains(got.Message, "secret") {
			t.Errorf("%v %v:\n got %s: %s\nwant %s: ...%s...", c.err, c.troubles, got.Reason, got.Message, c.reason, c.says)
		}
	}
}
