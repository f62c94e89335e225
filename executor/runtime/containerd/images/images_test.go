package images

import (
	"context"
	"strings"
	"testing"
	"time"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/tests/registry"
)

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func pulled(t *testing.T, s *Store, p runtime.Pull) runtime.Image {
	t.Helper()
	img, err := s.Pull(deadline(t), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// refused is the sentence of a pull that must fail for a reason.
func refused(t *testing.T, s *Store, reason string, p runtime.Pull) string {
	t.Helper()
	img, err := s.Pull(deadline(t), p, nil)
	if err == nil {
		t.Fatalf("%s was pulled: %+v", p.Image, img)
	}
	e, ok := err.(*runtime.StartError)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Reason != reason {
		t.Fatalf("reason %s, want %s: %s", e.Reason, reason, e.Message)
	}
	if !strings.Contains(e.Message, p.Image) {
		t.Errorf("the image is not named: %s", e.Message)
	}
	t.Log(e.Message)
	return e.Message
}

func TestPull(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{Dir: t.TempDir()})
	s := d.store(Config{})
	digest := push(t, r, "web:1", registry.Config{Filler: []int64{3 << 20, 1 << 20}})
	var last, total int64
	img, err := s.Pull(deadline(t), runtime.Pull{Image: r.Ref("web:1")}, func(done, all int64) {
		if done < last || all < done {
			t.Errorf("progress went from %d to %d of %d", last, done, all)
		}
		last, total = done, all
	})
	if err != nil {
		t.Fatal(err)
	}
	if img != (runtime.Image{Ref: r.Ref("web:1"), Digest: digest}) {
		t.Errorf("got %+v, pushed %s", img, digest)
	}
	if last != total || total < 4<<20 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if got := d.left(); strings.Contains(got, "lease") || strings.Contains(got, "ingest") {
		t.Errorf("after a pull:\n%s", got)
	}

	// What is here is not asked for again: with the registry away, the tag and the digest are served.
	asked := r.Requests()
	r.Stop()
	if again := pulled(t, s, runtime.Pull{Image: r.Ref("web:1")}); again != img {
		t.Errorf("then %+v", again)
	}
	refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: r.Ref("web:1"), Always: true})
	if now := r.Requests(); now != asked {
		t.Errorf("%d requests after it was stopped", now-asked)
	}
	if got, err := s.Remove(context.Background(), time.Hour); err != nil || len(got) != 0 {
		t.Errorf("removed %v, %v of what was used now", got, err)
	}
	late := d.store(Config{Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	if got, err := late.Remove(context.Background(), time.Hour); err != nil || len(got) != 1 || got[0] != img.Ref {
		t.Errorf("removed %v, %v", got, err)
	}
	d.nothingLeft()
}

func TestAlwaysSeesThatATagMoved(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	first := push(t, r, "web:1", registry.Config{})
	if got := pulled(t, s, runtime.Pull{Image: r.Ref("web:1"), Always: true}); got.Digest != first {
		t.Errorf("got %s, pushed %s", got.Digest, first)
	}
	second := push(t, r, "web:1", registry.Config{Env: []string{"NEW=1"}})
	if got := pulled(t, s, runtime.Pull{Image: r.Ref("web:1")}); got.Digest != first {
		t.Errorf("asked again without being told to: %s", got.Digest)
	}
	if got := pulled(t, s, runtime.Pull{Image: r.Ref("web:1"), Always: true}); got.Digest != second {
		t.Errorf("got %s, pushed %s", got.Digest, second)
	}
	// By digest nothing is asked twice, whatever was said.
	pin := runtime.Pull{Image: r.Ref("web@" + first), Always: true}
	if got := pulled(t, s, pin); got.Digest != first || got.Ref != pin.Image {
		t.Errorf("got %+v", got)
	}
	asked := r.Requests()
	pulled(t, s, pin)
	if now := r.Requests(); now != asked {
		t.Errorf("%d requests for an image that is here by digest", now-asked)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	push(t, r, "web:1", registry.Config{})
	refused(t, s, padisv1.ReasonImageNotFound, runtime.Pull{Image: r.Ref("web:2")})
	refused(t, s, padisv1.ReasonImageNotFound, runtime.Pull{Image: r.Ref("none:1")})
	refused(t, s, padisv1.ReasonImageNotFound, runtime.Pull{Image: r.Ref("web@sha256:" + strings.Repeat("0", 64))})
	refused(t, s, padisv1.ReasonImageInvalid, runtime.Pull{Image: "Not An Image"})
	began := time.Now()
	refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: "127.0.0.1:1/web:1"})
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a closed port took %v", took)
	}
	d.nothingLeft()
}

func TestCredentials(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{Users: map[string]string{"ann": "secret"}})
	s := d.store(Config{})
	push(t, r, "web:1", registry.Config{})
	as := func(host, user, password string) runtime.Pull {
		return runtime.Pull{Image: r.Ref("web:1"), Auths: []*padisv1.RegistryAuth{{Registry: host, Username: user, Password: password}}}
	}
	if m := refused(t, s, padisv1.ReasonImageUnauthorized, runtime.Pull{Image: r.Ref("web:1")}); !strings.Contains(m, "imagePullSecrets") {
		t.Errorf("no remedy: %s", m)
	}
	if m := refused(t, s, padisv1.ReasonImageUnauthorized, as(r.Host(), "ann", "wrong")); !strings.Contains(m, `"ann"`) || strings.Contains(m, "wrong") {
		t.Errorf("got %s", m)
	}
	refused(t, s, padisv1.ReasonImageUnauthorized, as("127.0.0.1:1", "ann", "secret"))
	d.nothingLeft()
	pulled(t, s, as(r.Host(), "ann", "secret"))
}

func TestArchitecture(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	push(t, r, "other:1", registry.Config{Platform: "linux/s390x", Filler: []int64{1 << 20}})
	if m := refused(t, s, padisv1.ReasonImageArchitecture, runtime.Pull{Image: r.Ref("other:1")}); !strings.Contains(m, "linux/s390x") {
		t.Errorf("got %s", m)
	}
	// Its layers were not even asked for: one blob is its configuration.
	if n := r.Requests("GET", "/v2/other/blobs/"); n != 1 {
		t.Errorf("%d blobs were asked for", n)
	}
	build := func(c registry.Config) string {
		img, err := registry.Busybox(c)
		if err != nil {
			t.Fatal(err)
		}
		other, err := registry.Busybox(registry.Config{Platform: "linux/ppc64le"})
		if err != nil {
			t.Fatal(err)
		}
		index, err := registry.Index(other, img)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.PushIndex("both:1", index); err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest.String()
	}
	build(registry.Config{Platform: "linux/s390x"})
	if m := refused(t, s, padisv1.ReasonImageArchitecture, runtime.Pull{Image: r.Ref("both:1")}); !strings.Contains(m, "linux/ppc64le, linux/s390x") {
		t.Errorf("got %s", m)
	}
	d.nothingLeft()
	want := build(registry.Config{})
	if got := pulled(t, s, runtime.Pull{Image: r.Ref("both:1")}); got.Digest != want {
		t.Errorf("got %s, want %s", got.Digest, want)
	}
}

func TestCorruptLayer(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	img, err := registry.Busybox(registry.Config{Filler: []int64{100_000}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push("web:1", img); err != nil {
		t.Fatal(err)
	}
	layers, err := registry.Layers(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Corrupt(layers[1]); err != nil {
		t.Fatal(err)
	}
	refused(t, s, padisv1.ReasonImageCorrupt, runtime.Pull{Image: r.Ref("web:1")})
	d.nothingLeft()
}
