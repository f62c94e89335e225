package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// trouble is the last thing that went wrong at an endpoint: a status, or that it could not be reached.
type trouble struct {
	endpoint endpoint
	status   int
	err      error
}

func (t trouble) String() string {
	if t.err != nil {
		return fmt.Sprintf("%s: %v", t.endpoint, t.err)
	}
	return fmt.Sprintf("%s answered %d %s", t.endpoint, t.status, http.StatusText(t.status))
}

// weight orders troubles by how much they say about the image. The registry itself knows best; of mirrors, one that
// refuses says more than one that is away, and that more than one that does not have it.
func (t trouble) weight() int {
	w := 0
	switch {
	case t.unauthorized():
		w = 3
	case t.status != http.StatusNotFound:
		w = 2
	default:
		w = 1
	}
	if !t.endpoint.mirror {
		w += 10
	}
	return w
}

func (t trouble) unauthorized() bool {
	return t.status == http.StatusUnauthorized || t.status == http.StatusForbidden
}

// failure is all that is known of a pull that failed.
type failure struct {
	image name
	// resolved tells that a registry knew the image.
	resolved bool
	troubles []trouble
	err      error
}

// architectureError says that an image is for other machines.
type architectureError struct {
	want string
	have []string
}

func (e *architectureError) Error() string {
	return fmt.Sprintf("it is for %s, and this agent is %s", strings.Join(e.have, ", "), e.want)
}

// notAnImageError says that what has the name is something else that registries keep.
type notAnImageError struct{ mediaType string }

func (e *notAnImageError) Error() string { return "its configuration is of type " + e.mediaType }

// Sentences of containerd and of the libraries below it; errors lose their types on their way from the daemon.
var (
	spacePhrases   = []string{"no space left on device", "disk quota exceeded"}
	corruptPhrases = []string{
		"unexpected commit digest", "unexpected commit size", "exceeds expected size", "past expected size", "wrong diff id", "mismatched image rootfs",
		"gzip: invalid", "zstd: invalid", "invalid magic", "archive/tar: ", "invalid character", "cannot unmarshal", "failed to validate manifest", "reports content size", "failed to extract layer: unexpected EOF",
	}
)

func mentions(err error, phrases []string) bool {
	text := err.Error()
	for _, p := range phrases {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// classify says in one word and one sentence why a pull failed, and what to do.
func classify(f failure) *runtime.StartError {
	var arch *architectureError
	var other *notAnImageError
	var declared *declarationError
	is := func(reason, format string, args ...any) *runtime.StartError {
		return &runtime.StartError{Reason: reason, Message: fmt.Sprintf("image %s: %s", f.image.full, fmt.Sprintf(format, args...))}
	}
	switch {
	case errors.As(f.err, &declared):
		return is(padisv1.ReasonRegistryUnavailable, "%v", declared)
	case errors.As(f.err, &arch):
		return is(padisv1.ReasonImageArchitecture, "%v: push an image for %s, or say in the template's constraints on which agents it can run", arch, arch.want)
	case errors.As(f.err, &other):
		return is(padisv1.ReasonImageInvalid, "the registry has something of that name that is no container image (%v): name another", other)
	case mentions(f.err, spacePhrases):
		return is(padisv1.ReasonInsufficientSpace, "there is no space for it on this agent: free some in the directory of containerd (/var/lib/containerd unless configured), or take away images that are not used (%v)", f.err)
	case mentions(f.err, corruptPhrases):
		return is(padisv1.ReasonImageCorrupt, "what the registry delivers is damaged: push the image again (%v)", f.err)
	case errdefs.IsNotImplemented(f.err):
		return is(padisv1.ReasonImageInvalid, "it has a format that cannot be run: build it again as an OCI image (%v)", f.err)
	}
	if !ofRegistry(f.err) {
		return is(padisv1.ReasonRuntimeUnavailable, "containerd could not take it: look at the log of containerd on this agent (%v)", f.err)
	}
	return f.byTrouble(is)
}

// ofRegistry tells whether an error comes from asking registries, not from containerd.
func ofRegistry(err error) bool {
	var reach *reachError
	var status remoteerrors.ErrUnexpectedStatus
	return errors.As(err, &reach) || errors.As(err, &status) || errors.Is(err, docker.ErrInvalidAuthorization) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errdefs.IsNotFound(err) || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "unexpected status")
}

func (f failure) byTrouble(is func(reason, format string, args ...any) *runtime.StartError) *runtime.StartError {
	if len(f.troubles) == 0 {
		return is(padisv1.ReasonRegistryUnavailable, "registry %s could not be asked: %v", f.image.host, f.err)
	}
	worst := f.troubles[0]
	var rest []string
	for _, t := range f.troubles[1:] {
		if t.weight() > worst.weight() {
			worst, t = t, worst
		}
		rest = append(rest, t.String())
	}
	also := ""
	if len(rest) > 0 {
		also = " (" + strings.Join(rest, "; ") + ")"
	}
	switch {
	case worst.unauthorized() && worst.endpoint.auth.empty():
		return is(padisv1.ReasonImageUnauthorized, "%s wants credentials or has no such image: name a Secret with credentials for %s in template.imagePullSecrets%s", worst.endpoint, worst.credentialsHost(f.image), also)
	case worst.unauthorized():
		return is(padisv1.ReasonImageUnauthorized, "%s refuses the credentials of user %q: correct the Secret of template.imagePullSecrets for %s%s", worst.endpoint, worst.user(), worst.credentialsHost(f.image), also)
	case worst.status == http.StatusNotFound && f.resolved:
		return is(padisv1.ReasonImageCorrupt, "%s knows it and lacks a part of it: push the image again%s", worst.endpoint, also)
	case worst.status == http.StatusNotFound:
		return is(padisv1.ReasonImageNotFound, "%s has no such image: push it, or correct the name or tag in template.image%s", worst.endpoint, also)
	case worst.err != nil:
		return is(padisv1.ReasonRegistryUnavailable, "%s cannot be reached from this agent: %v; %s%s", worst.endpoint, worst.err, worst.remedy(f.image), also)
	default:
		return is(padisv1.ReasonRegistryUnavailable, "%s answered %d %s; look at its log, it is asked again%s", worst.endpoint, worst.status, http.StatusText(worst.status), also)
	}
}

func (t trouble) credentialsHost(n name) string {
	if t.endpoint.mirror {
		return t.endpoint.host
	}
	return n.host
}

func (t trouble) user() string {
	if t.endpoint.auth.identityToken != "" {
		return "identity token"
	}
	return t.endpoint.auth.username
}

// remedy for an endpoint that cannot be reached.
func (t trouble) remedy(n name) string {
	text := t.err.Error()
	switch {
	case errors.Is(t.err, errPlainHTTP) && t.endpoint.mirror:
		return "write the mirror as http://" + t.endpoint.host + " in its Registry"
	case errors.Is(t.err, errPlainHTTP):
		return fmt.Sprintf("declare a Registry with host %q and plainHTTP: true", n.host)
	case strings.Contains(text, "x509: certificate signed by unknown authority"):
		return fmt.Sprintf("put the certificate of its authority into the ca of a Registry with host %q", n.host)
	case strings.Contains(text, "x509: "):
		return "renew its certificate for the name that images use"
	case strings.Contains(text, "no such host"):
		return "correct the host in template.image, or the name servers of the agent"
	}
	return "it is asked again; see that it runs and that the agent may connect to it, or declare a Registry with mirrors"
}
