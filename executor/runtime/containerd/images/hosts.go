package images

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"github.com/distribution/reference"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// dockerHub is the registry of names without one; its API is elsewhere.
const (
	dockerHub    = "docker.io"
	dockerHubAPI = "registry-1.docker.io"
)

// name is what an image is called in full.
type name struct {
	// full is registry/repository:tag or registry/repository@digest.
	full string
	// host is the registry as names and secrets have it.
	host string
	// pinned tells that the name has a digest: what it means never changes.
	pinned bool
}

// parse completes a name: no registry is docker.io, no tag is latest, a digest makes a tag meaningless.
func parse(image string) (name, error) {
	ref, err := reference.ParseDockerRef(image)
	if err != nil {
		return name{}, &runtime.StartError{Reason: padisv1.ReasonImageInvalid, Message: fmt.Sprintf("image %q: %v; a name is REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST, in lower case", image, err)}
	}
	_, pinned := ref.(reference.Digested)
	return name{full: ref.String(), host: reference.Domain(ref), pinned: pinned}, nil
}

// credentials for one endpoint; all empty is none.
type credentials struct{ username, password, identityToken string }

func (c credentials) empty() bool { return c == credentials{} }

// endpoint is an address that is asked for an image.
type endpoint struct {
	scheme, host string
	// path is that of the API there, with its version.
	path string
	// mirror stands in for the registry that images name.
	mirror bool
	// fallback: a registry on this machine may speak plain HTTP without being told so.
	fallback bool
	// ca is the PEM of authorities beside the system's.
	ca   string
	auth credentials
}

// String is what people know it by.
func (e endpoint) String() string {
	if e.mirror {
		return "mirror " + e.scheme + "://" + e.host + strings.TrimSuffix(e.path, "/v2")
	}
	if e.host == dockerHubAPI {
		return "registry " + dockerHub
	}
	return "registry " + e.host
}

// endpoints says who is asked for images of a registry, in this order, and as whom: mirrors of the registry, mirrors of
// every registry, then the registry itself. Credentials go only to the host that they are for.
func endpoints(host string, registries []*padisv1.Registry, auths []*padisv1.RegistryAuth) ([]endpoint, error) {
	own := endpoint{scheme: "https", host: apiHost(host), path: "/v2", fallback: loopback(host), auth: credentialsOf(host, auths)}
	var all []endpoint
	mirrorsOnly := false
	for _, r := range concerning(host, registries) {
		for _, m := range r.Mirrors {
			e, err := mirror(r, m, auths)
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
		if r.PlainHttp {
			own.scheme, own.fallback = "http", false
		}
		if r.Ca != "" {
			own.ca, own.fallback = own.ca+r.Ca+"\n", false
		}
		mirrorsOnly = mirrorsOnly || r.MirrorsOnly
	}
	if mirrorsOnly && len(all) == 0 {
		return nil, &declarationError{fmt.Sprintf("registry %s may only be reached through mirrors, and none is declared for this agent: name some in the mirrors of a Registry with the host %q", host, host)}
	}
	if !mirrorsOnly {
		all = append(all, own)
	}
	return all, nil
}

// concerning are the declarations for a host: first those that name it, then those for all.
func concerning(host string, registries []*padisv1.Registry) []*padisv1.Registry {
	var exact, every []*padisv1.Registry
	for _, r := range registries {
		switch {
		case r.Host == "*":
			every = append(every, r)
		case normal(r.Host) == normal(host):
			exact = append(exact, r)
		}
	}
	return append(exact, every...)
}

func mirror(r *padisv1.Registry, base string, auths []*padisv1.RegistryAuth) (endpoint, error) {
	if !strings.Contains(base, "://") {
		base = "https://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return endpoint{}, &declarationError{fmt.Sprintf("Registry %q: mirror %q is no base URL; it must be like https://mirror.example.com", r.Name, base)}
	}
	p := path.Join("/", u.Path)
	if path.Base(p) != "v2" {
		p = path.Join(p, "v2")
	}
	return endpoint{scheme: u.Scheme, host: u.Host, path: p, mirror: true, ca: r.Ca, auth: credentialsOf(u.Host, auths)}, nil
}

func credentialsOf(host string, auths []*padisv1.RegistryAuth) credentials {
	for _, a := range auths {
		if normal(a.Registry) == normal(host) {
			return credentials{username: a.Username, password: a.Password, identityToken: a.IdentityToken}
		}
	}
	return credentials{}
}

// normal makes equal what means the same registry: files of Docker's have URLs, and several names for its own.
func normal(host string) string {
	if _, rest, ok := strings.Cut(host, "://"); ok {
		host = rest
	}
	host, _, _ = strings.Cut(host, "/")
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	switch host {
	case "index.docker.io", dockerHubAPI:
		return dockerHub
	}
	return host
}

func apiHost(host string) string {
	if normal(host) == dockerHub {
		return dockerHubAPI
	}
	return host
}

func loopback(host string) bool {
	if h, _, ok := strings.Cut(host, ":"); ok && !strings.HasPrefix(host, "[") {
		host = h
	}
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return ap.Addr().IsLoopback()
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && a.IsLoopback()
}

// declarationError says what is wrong with a Registry.
type declarationError struct{ text string }

func (e *declarationError) Error() string { return e.text }

// key is equal for pulls that may be made once for all who ask: the same image from the same places as the same user.
func key(n name, always bool, all []endpoint) string {
	return fmt.Sprintf("%s\n%t\n%+v", n.full, always, all)
}
