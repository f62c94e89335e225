package images

import (
	"strings"
	"testing"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/tests/registry"
)

func TestMirrors(t *testing.T) {
	d := startDaemon(t, 0)
	s := d.store(Config{})
	own, mirror := registry.Start(t, registry.Options{}), registry.Start(t, registry.Options{})
	with := func(image string, only bool, mirrors ...string) runtime.Pull {
		return runtime.Pull{Image: own.Ref(image), Registries: []*padisv1.Registry{{Name: "test", Host: own.Host(), Mirrors: mirrors, MirrorsOnly: only}}}
	}
	for _, r := range []*registry.Registry{own, mirror} {
		push(t, r, "web:1", registry.Config{})
		push(t, r, "web:2", registry.Config{Env: []string{"N=2"}})
	}
	push(t, own, "own:1", registry.Config{Env: []string{"N=own"}})
	push(t, own, "own:2", registry.Config{Env: []string{"N=own2"}, Filler: []int64{100_000}})
	dead := "http://127.0.0.1:1"

	before := own.Requests()
	pulled(t, s, with("web:1", false, mirror.URL()))
	if n := own.Requests() - before; n != 0 {
		t.Errorf("%d requests at the registry, its mirror had everything", n)
	}
	pulled(t, s, with("web:2", true, dead, mirror.URL()))
	if n := own.Requests() - before; n != 0 {
		t.Errorf("%d requests at the registry, which must not be asked", n)
	}
	// What the mirror lacks comes from the registry, and what a dead one cannot give, too.
	pulled(t, s, with("own:1", false, mirror.URL()))
	pulled(t, s, with("own:2", false, dead))
	if m := refused(t, s, padisv1.ReasonRegistryUnavailable, with("web:3", true, dead)); !strings.Contains(m, dead) {
		t.Errorf("got %s", m)
	}
	refused(t, s, padisv1.ReasonImageNotFound, with("web:3", true, mirror.URL()))
	refused(t, s, padisv1.ReasonImageNotFound, with("web:3", false, dead))
	refused(t, s, padisv1.ReasonRegistryUnavailable, with("web:3", true))
}

func TestMirrorDiesInTheMiddle(t *testing.T) {
	d := startDaemon(t, 0)
	s := d.store(Config{})
	own, mirror := registry.Start(t, registry.Options{}), registry.Start(t, registry.Options{})
	for _, r := range []*registry.Registry{own, mirror} {
		push(t, r, "web:1", registry.Config{Filler: []int64{large}})
	}
	p := startProxy(t, mirror.Host())
	close(p.gate)
	p.limit.Store(large / 2)
	p.atLimit = p.die
	pulled(t, s, runtime.Pull{Image: own.Ref("web:1"), Registries: []*padisv1.Registry{{Host: "*", Mirrors: []string{"http://" + p.address()}}}})
	if own.Requests("GET", "/blobs/") == 0 {
		t.Error("the registry was not asked for the rest")
	}
}

func TestDamagedMirror(t *testing.T) {
	d := startDaemon(t, 0)
	own, mirror := registry.Start(t, registry.Options{}), registry.Start(t, registry.Options{})
	img, err := registry.Busybox(registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := registry.Layers(img)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*registry.Registry{own, mirror} {
		if _, err := r.Push("web:1", img); err != nil {
			t.Fatal(err)
		}
	}
	if err := mirror.Corrupt(layers[0]); err != nil {
		t.Fatal(err)
	}
	pull := runtime.Pull{Image: own.Ref("web:1"), Registries: []*padisv1.Registry{{Host: "*", Mirrors: []string{mirror.URL()}, MirrorsOnly: true}}}
	refused(t, d.store(Config{}), padisv1.ReasonImageCorrupt, pull)
	pull.Registries[0].MirrorsOnly = false
	pulled(t, d.store(Config{}), pull)
}

func TestTLS(t *testing.T) {
	d := startDaemon(t, 0)
	s := d.store(Config{})
	r := registry.Start(t, registry.Options{TLS: true, Users: map[string]string{"ann": "secret"}})
	push(t, r, "web:1", registry.Config{})
	auths := []*padisv1.RegistryAuth{{Registry: "https://" + r.Host() + "/v2/", Username: "ann", Password: "secret"}}
	if m := refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: r.Ref("web:1"), Auths: auths}); !strings.Contains(m, "put the certificate of its authority into the ca of a Registry") {
		t.Errorf("got %s", m)
	}
	refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: r.Ref("web:1"), Auths: auths, Registries: []*padisv1.Registry{{Name: "bad", Host: r.Host(), Ca: "nothing"}}})
	d.nothingLeft()
	pulled(t, s, runtime.Pull{Image: r.Ref("web:1"), Auths: auths, Registries: []*padisv1.Registry{{Host: r.Host(), Ca: r.CA()}}})

	// Plain HTTP where TLS is expected: the remedy is named.
	plain := registry.Start(t, registry.Options{})
	push(t, plain, "web:1", registry.Config{})
	if m := refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: plain.Ref("web:1"), Registries: []*padisv1.Registry{{Host: plain.Host(), Ca: r.CA()}}}); !strings.Contains(m, "plainHTTP: true") {
		t.Errorf("got %s", m)
	}
	pulled(t, s, runtime.Pull{Image: plain.Ref("web:1"), Registries: []*padisv1.Registry{{Host: plain.Host(), PlainHttp: true}}})
}
