package images

import (
	"fmt"
	"strings"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestParse(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct {
		in, full, host string
		pinned         bool
	}{
		{"busybox", "docker.io/library/busybox:latest", "docker.io", false},
		{"acme/web:1", "docker.io/acme/web:1", "docker.io", false},
		{"index.docker.io/acme/web", "docker.io/acme/web:latest", "docker.io", false},
		{"localhost/web", "localhost/web:latest", "localhost", false},
		{"registry.acme.com:5000/a/b/c:v1", "registry.acme.com:5000/a/b/c:v1", "registry.acme.com:5000", false},
		{"registry.acme.com/web:v1" + digest, "registry.acme.com/web" + digest, "registry.acme.com", true},
	} {
		got, err := parse(c.in)
		if want := (name{c.full, c.host, c.pinned}); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", c.in, got, err, want)
		}
	}
	for _, in := range []string{"", "Web", "a b", "web:", "web@sha256:12", "http://registry/web", strings.Repeat("a", 300)} {
		if got, err := parse(in); err == nil {
			t.Errorf("%q became %+v", in, got)
		}
	}
}

// Who is asked, in which order, as whom, with which authorities.
func TestEndpoints(t *testing.T) {
	auths := []*padisv1.RegistryAuth{
		{Registry: "https://index.docker.io/v1/", Username: "hub", Password: "p"}, {Registry: "mirror.acme.com:5000", IdentityToken: "token"}, {Registry: "Registry.acme.com:443", Username: "acme", Password: "p"},
	}
	every := &padisv1.Registry{Name: "every", Host: "*", Mirrors: []string{"https://mirror.acme.com:5000/cache/"}, Ca: "CA1"}
	for _, c := range []struct {
		host       string
		registries []*padisv1.Registry
		want       string
	}{
		{"docker.io", nil, "https registry-1.docker.io /v2 hub"},
		{"docker.io", []*padisv1.Registry{every}, "https mirror.acme.com:5000 /cache/v2 mirror token CA1; https registry-1.docker.io /v2 hub CA1"},
		{"registry.acme.com", []*padisv1.Registry{every, {Host: "registry.acme.com", Mirrors: []string{"http://a:1", "b"}, PlainHttp: true}}, "http a:1 /v2 mirror; https b /v2 mirror; https mirror.acme.com:5000 /cache/v2 mirror token CA1; http registry.acme.com /v2 acme CA1"},
		{"other.acme.com", []*padisv1.Registry{{Host: "registry.acme.com", Mirrors: []string{"http://a:1"}}}, "https other.acme.com /v2"},
		{"registry.acme.com", []*padisv1.Registry{{Host: "*", MirrorsOnly: true, Mirrors: []string{"http://a:1/v2"}}}, "http a:1 /v2 mirror"},
		{"127.0.0.1:5000", nil, "https 127.0.0.1:5000 /v2 fallback"},
		{"localhost:5000", []*padisv1.Registry{{Host: "localhost:5000", PlainHttp: true}}, "http localhost:5000 /v2"},
		{"[::1]:5000", []*padisv1.Registry{{Host: "[::1]:5000", Ca: "CA2"}}, "https [::1]:5000 /v2 CA2"},
	} {
		all, err := endpoints(c.host, c.registries, auths)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range all {
			line := fmt.Sprintf("%s %s %s", e.scheme, e.host, e.path)
			for _, more := range []struct {
				is   bool
				text string
			}{{e.mirror, "mirror"}, {e.fallback, "fallback"}, {e.auth.username != "", e.auth.username}, {e.auth.identityToken != "", e.auth.identityToken}, {e.ca != "", strings.TrimSpace(e.ca)}} {
				if more.is {
					line += " " + more.text
				}
			}
			got = append(got, line)
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.host, text, c.want)
		}
	}
	for _, r := range []*padisv1.Registry{{Host: "*", MirrorsOnly: true}, {Host: "*", Mirrors: []string{"ftp://x"}}, {Host: "*", Mirrors: []string{"http://"}}} {
		if got, err := endpoints("docker.io", []*padisv1.Registry{r}, nil); err == nil {
			t.Errorf("%v became %v", r, got)
		}
	}
}
