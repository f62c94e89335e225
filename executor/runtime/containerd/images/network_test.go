package images

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/tests/registry"
)

const large = 8 << 20

func TestRegistryDiesInTheMiddle(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{Stall: 300 * time.Millisecond})
	push(t, r, "web:1", registry.Config{Filler: []int64{large}})

	p := startProxy(t, r.Host())
	close(p.gate)
	p.limit.Store(large / 2)
	p.atLimit = p.die
	refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: p.address() + "/web:1"})
	d.nothingLeft()

	// One that says nothing more is as dead.
	p = startProxy(t, r.Host())
	close(p.gate)
	p.limit.Store(large / 2)
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	p.atLimit = func() { <-forever }
	if m := refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: p.address() + "/web:1"}); !strings.Contains(m, "no data came for 300ms") {
		t.Errorf("got %s", m)
	}
	d.nothingLeft()

	// A connection that breaks is no failure: what is missing is asked for again.
	p = startProxy(t, r.Host())
	close(p.gate)
	p.limit.Store(large / 2)
	var once sync.Once
	p.atLimit = func() { once.Do(p.cut) }
	pulled(t, s, runtime.Pull{Image: p.address() + "/web:1"})
	if n := p.passed.Load(); n > large*3/2 {
		t.Errorf("%d bytes for an image of %d", n, large)
	}
}

func TestEqualPullsAreMadeOnce(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	push(t, r, "web:1", registry.Config{Filler: []int64{large}})
	p := startProxy(t, r.Host())
	pull := runtime.Pull{Image: p.address() + "/web:1"}

	const callers = 5
	gone, leave := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	heard := make([]int64, callers)
	for i := range callers {
		wg.Go(func() {
			if _, err := s.Pull(deadline(t), pull, func(done, _ int64) { heard[i] = done }); err != nil {
				t.Error(err)
			}
		})
	}
	left := make(chan error)
	go func() {
		_, err := s.Pull(gone, pull, nil)
		left <- err
	}()
	waitFor(t, s, callers+1)
	leave()
	if err := <-left; err == nil || err.(*runtime.StartError).Reason != padisv1.ReasonKilled {
		t.Errorf("who gave up got %v", err)
	}
	close(p.gate)
	wg.Wait()
	for i, n := range heard {
		if n < large {
			t.Errorf("caller %d heard of %d bytes", i, n)
		}
	}
	// Two layers and the configuration; the manifest by its tag and by its digest.
	if blobs, manifests := r.Requests("GET", "/blobs/"), r.Requests("/manifests/"); blobs != 3 || manifests > 3+2 {
		t.Errorf("%d requests for blobs, %d for manifests (push made 3)", blobs, manifests)
	}
}

func TestAPullThatAllGiveUpLeavesNothing(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	push(t, r, "web:1", registry.Config{Filler: []int64{large}})
	p := startProxy(t, r.Host())
	close(p.gate)
	ctx, giveUp := context.WithCancel(context.Background())
	p.limit.Store(large / 2)
	half := make(chan struct{})
	resume := make(chan struct{})
	var once sync.Once
	p.atLimit = func() { once.Do(func() { close(half) }); <-resume }
	go func() { <-half; giveUp() }()
	pull := runtime.Pull{Image: p.address() + "/web:1"}
	if _, err := s.Pull(ctx, pull, nil); err == nil {
		t.Fatal("a pull that was given up succeeded")
	}
	// The next one waits until the first has tidied up, and has all.
	close(resume)
	pulled(t, s, pull)
	if _, err := d.store(Config{Now: func() time.Time { return time.Now().Add(time.Hour) }}).Remove(context.Background(), time.Minute); err != nil {
		t.Fatal(err)
	}
	d.nothingLeft()
}

// waitFor returns when so many callers wait for one flight.
func waitFor(t *testing.T, s *Store, callers int) {
	t.Helper()
	ctx := deadline(t)
	for {
		s.mu.Lock()
		n := 0
		for _, f := range s.flights {
			n += f.callers
		}
		s.mu.Unlock()
		if n == callers {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d callers wait, want %d", n, callers)
		case <-time.After(time.Millisecond):
		}
	}
}

// An executor that was killed leaves a lease and half a layer. The next one goes on from there.
func TestPullGoesOnAfterACrash(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	img, err := registry.Busybox(registry.Config{Filler: []int64{large}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Push("web:1", img); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[1].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	var all bytes.Buffer
	if _, err := all.ReadFrom(rc); err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2LayerGzip, Digest: digest.FromBytes(all.Bytes()), Size: int64(all.Len())}

	p := startProxy(t, r.Host())
	close(p.gate)
	pull := runtime.Pull{Image: p.address() + "/web:1"}
	n, err := parse(pull.Image)
	if err != nil {
		t.Fatal(err)
	}
	to, err := endpoints(n.host, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := s.namespaced(deadline(t))
	lease, err := s.lease(ctx, key(n, false, to))
	if err != nil {
		t.Fatal(err)
	}
	w, err := content.OpenWriter(leases.WithLease(ctx, lease.ID), d.ContentStore(), content.WithRef("layer-"+desc.Digest.String()), content.WithDescriptor(desc))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(all.Bytes()[:large*3/4]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	pulled(t, s, pull)
	if n := p.passed.Load(); n > large/2+(2<<20) {
		t.Errorf("%d bytes were asked for, a quarter of %d was missing", n, large)
	}
	if got := d.left(); strings.Contains(got, "lease") || strings.Contains(got, "ingest") {
		t.Errorf("after the pull:\n%s", got)
	}
}

func TestDiskFull(t *testing.T) {
	d, r := startDaemon(t, 6<<20), registry.Start(t, registry.Options{})
	s := d.store(Config{})
	push(t, r, "web:1", registry.Config{Filler: []int64{large}})
	refused(t, s, padisv1.ReasonInsufficientSpace, runtime.Pull{Image: r.Ref("web:1")})
	d.nothingLeft()
}

// One that accepts connections and says nothing is reported when the time for it is over.
func TestRegistrySaysNothing(t *testing.T) {
	d := startDaemon(t, 0)
	s := d.store(Config{Connect: 200 * time.Millisecond, Stall: 200 * time.Millisecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, plain := range []bool{true, false} {
		began := time.Now()
		refused(t, s, padisv1.ReasonRegistryUnavailable, runtime.Pull{Image: l.Addr().String() + "/web:1", Registries: []*padisv1.Registry{{Host: l.Addr().String(), PlainHttp: plain}}})
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	}
}

func TestImagesInUseStay(t *testing.T) {
	d, r := startDaemon(t, 0), registry.Start(t, registry.Options{})
	later := time.Now().Add(time.Hour)
	s := d.store(Config{Now: func() time.Time { return later }})
	push(t, r, "web:1", registry.Config{})
	push(t, r, "web:2", registry.Config{Env: []string{"N=2"}})
	early := d.store(Config{})
	pulled(t, early, runtime.Pull{Image: r.Ref("web:1")})
	pulled(t, early, runtime.Pull{Image: r.Ref("web:2")})
	ctx := s.namespaced(deadline(t))
	if _, err := d.ContainerService().Create(ctx, containers.Container{ID: "one", Image: r.Ref("web:1"), Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2"}, Spec: &anypb.Any{}}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Remove(ctx, time.Minute); err != nil || len(got) != 1 || got[0] != r.Ref("web:2") {
		t.Errorf("removed %v, %v", got, err)
	}
	// Its time begins when it is no longer in use.
	if err := d.ContainerService().Delete(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Remove(ctx, time.Minute); err != nil || len(got) != 0 {
		t.Errorf("removed %v, %v", got, err)
	}
	later = later.Add(time.Hour)
	if got, err := s.Remove(ctx, time.Minute); err != nil || len(got) != 1 {
		t.Errorf("removed %v, %v", got, err)
	}
	d.nothingLeft()
}
