package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// Reason says why there is no revision, or no file.
type Reason string

// The reasons.
const (
	ReasonInvalid              Reason = "Invalid"
	ReasonUnreachable          Reason = "Unreachable"
	ReasonTimeout              Reason = "Timeout"
	ReasonCertificateUntrusted Reason = "CertificateUntrusted"
	ReasonProxyRefused         Reason = "ProxyRefused"
	ReasonHostKeyUnknown       Reason = "HostKeyUnknown"
	ReasonHostKeyChanged       Reason = "HostKeyChanged"
	ReasonAuthenticationFailed Reason = "AuthenticationFailed"
	ReasonRepositoryNotFound   Reason = "RepositoryNotFound"
	ReasonRepositoryEmpty      Reason = "RepositoryEmpty"
	ReasonRefNotFound          Reason = "RefNotFound"
	ReasonHistoryRewritten     Reason = "HistoryRewritten"
	ReasonTooLarge             Reason = "TooLarge"
	ReasonServerRefused        Reason = "ServerRefused"
	ReasonSymlinkRefused       Reason = "SymlinkRefused"
	ReasonCacheDamaged         Reason = "CacheDamaged"
)

// Error is why there is no revision, or no file.
type Error struct {
	Reason Reason
	// Source is its name, and Path the file that it is about, if any.
	Source, Path string
	// Message says what is and what to do.
	Message string
	Err     error
}

func (e *Error) Error() string {
	var s string
	if e.Source != "" {
		s = "source " + e.Source + ": "
	}
	if e.Path != "" {
		s += e.Path + ": "
	}
	return fmt.Sprintf("%s%s (%s)", s, e.Message, e.Reason)
}

// Passing tells whether it may be gone the next time, though nobody has changed anything.
func (e *Error) Passing() bool { return e.Reason == ReasonCacheDamaged }

func (e *Error) Unwrap() error { return e.Err }

// ReasonOf an error of this package; Unreachable for others.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonUnreachable
}

func fail(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Message: fmt.Sprintf(format, args...)}
}

func otherHashes(kind string) *Error {
	return fail(ReasonServerRefused, "the repository has %s hashes, and only those of sha1 are read: make it with git init --object-format=sha1, and push the files there", kind)
}

// classify turns what the transports say into an Error; one that is inside is kept.
func classify(ctx context.Context, r remote, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	text := strings.ToLower(err.Error())
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	var unknown x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case ctx.Err() != nil:
		e = fail(ReasonTimeout, "%s has not answered in time: it is tried again; allow more time if the repository is large", where(r))
	case errors.As(err, &unknown), errors.As(err, &certificate):
		e = fail(ReasonCertificateUntrusted, "the certificate of %s is not believed: %v; set the certificate of its authority", where(r), err)
	case has("object-format=sha256"):
		// go-git cannot read the very first line of such a server, and says what it has in it.
		e = otherHashes("sha256")
	case has("proxy authentication required", "status code: 407"):
		e = fail(ReasonProxyRefused, "the proxy on the way to %s does not accept the credentials, or there are none: look at the Secret of the proxy", where(r))
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed), has("unable to authenticate", "permission denied", "access denied"):
		e = fail(ReasonAuthenticationFailed, "%s does not accept the credentials, or there are none: look at the Secret, and at what its user may read", where(r))
	case errors.Is(err, transport.ErrRepositoryNotFound), has("does not appear to be a git repository", "repository not found", "does not exist", "not found"):
		e = fail(ReasonRepositoryNotFound, "%s has no repository %s, or the credentials may not see it: what was applied stays; correct the url", where(r), r.path)
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		e = fail(ReasonRepositoryEmpty, "repository %s has no commits yet: push one", r.path)
	case errors.Is(err, plumbing.ErrObjectNotFound):
		e = fail(ReasonCacheDamaged, "an object is missing that the server should have sent: %v; it is fetched anew", err)
	case errors.As(err, &network):
		e = fail(ReasonUnreachable, "%s cannot be reached: %v; it is tried again", where(r), err)
	case has("upload-pack: not our ref", "not our ref", "filtering not recognized"):
		e = fail(ReasonServerRefused, "%s does not give the commit: %v; name a branch that it is on, too", where(r), err)
	default:
		e = fail(ReasonUnreachable, "%s: %v; it is tried again", where(r), err)
	}
	e.Err = err
	return e
}

func where(r remote) string {
	if r.scheme == "file" {
		return "this host"
	}
	if r.port != "" {
		return net.JoinHostPort(r.host, r.port)
	}
	return r.host
}
