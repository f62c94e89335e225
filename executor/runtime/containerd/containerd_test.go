package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/conformance"
	"padis.io/padis/executor/runtime/containerd/containerdtest"
	"padis.io/padis/executor/runtime/reaper"
)

// TestMain is, by its first argument, also the init of a container, and a program in one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == reaper.Verb {
		os.Exit(reaper.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == attributesVerb {
		os.Exit(changeAttributes())
	}
	os.Exit(m.Run())
}

// bed is a containerd with images, for one test.
type bed struct {
	daemon *containerdtest.Daemon
	client *client.Client
	parent string
	binary string

	image, says runtime.Image
}

func newBed(t testing.TB, binary string) *bed {
	t.Helper()
	start := containerdtest.Start
	if binary == "crun" {
		start = containerdtest.StartForCrun
	}
	b := &bed{daemon: start(t), binary: binary, parent: "/padis-test-" + hex.EncodeToString(fmt.Append(nil, rand.Uint32()))}
	t.Cleanup(func() { containerdtest.RemoveCgroups(b.parent) })
	var err error
	if b.client, err = client.New(b.daemon.Address, client.WithDefaultNamespace(DefaultNamespace)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.client.Close() })
	b.image = b.load(t, "example.com/tools:1", v1.Config{Env: []string{"FROM_IMAGE=yes"}})
	b.says = b.load(t, "example.com/says:1", v1.Config{Entrypoint: []string{"echo", "entry"}, Cmd: []string{"point"}, User: "nobody", WorkingDir: "/tmp"})
	return b
}

// load brings an image with busybox to containerd, unpacked.
func (b *bed) load(t testing.TB, ref string, config v1.Config) runtime.Image {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tools(t))), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", goruntime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	ctx := namespaces.WithNamespace(context.Background(), DefaultNamespace)
	found, err := b.client.Import(ctx, &archive)
	if err != nil || len(found) != 1 {
		t.Fatalf("import: %v, %v", found, err)
	}
	if err := client.NewImage(b.client, found[0]).Unpack(ctx, "overlayfs"); err != nil {
		t.Fatal(err)
	}
	return runtime.Image{Ref: ref, Digest: found[0].Target.Digest.String()}
}

// tools is a layer with busybox.
func tools(t testing.TB) []byte {
	t.Helper()
	const busybox = "/bin/busybox"
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatalf("%v: install what the tests need: apt-get install busybox-static", err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "etc", "usr", "usr/bin", "data", "root", "proc", "sys", "dev"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	for _, tool := range strings.Fields("sh sleep cat id hostname true echo ls ps grep cut head tail tr wc readlink setsid dd chown touch stty env") {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: path.Join("bin", tool), Linkname: busybox, Mode: 0o777}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte("root:x:0:\nnogroup:x:65534:\n"))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "data/of-the-image", Mode: 0o644}, []byte("yes\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (b *bed) open(t testing.TB, owner string) *Runtime {
	t.Helper()
	log := zap.NewNop()
	if testing.Verbose() {
		log = zaptest.NewLogger(t)
	}
	r, err := Open(context.Background(), Config{Address: b.daemon.Address, Owner: owner, CgroupParent: b.parent, RuntimeBinary: b.binary, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// traces lists what there is because of containers.
func (b *bed) traces(t testing.TB) []string {
	ctx := namespaces.WithNamespace(context.Background(), DefaultNamespace)
	all := []string{fmt.Sprint("shims: ", b.daemon.Shims())}
	records, err := b.client.ContainerService().List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range records {
		all = append(all, "container "+c.ID)
	}
	err = b.client.SnapshotService("overlayfs").Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		if i.Kind != snapshots.KindCommitted {
			all = append(all, "snapshot "+i.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range b.daemon.Mounts() {
		all = append(all, "mount "+m)
	}
	for _, c := range containerdtest.Cgroups(b.parent) {
		if strings.HasPrefix(path.Base(c), "p-") {
			all = append(all, "control group "+c)
		}
	}
	// Namespaces live as long as somebody has them open.
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && (strings.HasPrefix(to, "net:") || strings.Contains(to, "pidfd")) {
			all = append(all, "descriptor "+to)
		}
	}
	slices.Sort(all)
	return all
}

func testConformance(t *testing.T, binary string) {
	b := newBed(t, binary)
	conformance.RunKeeper(t, conformance.Containers{
		Open: func(t testing.TB) (runtime.Keeper, func()) {
			r := b.open(t, "framework-1")
			return r, func() { _ = r.Close() }
		},
		Image: b.image, ImageThatSays: b.says,
		Restart: func(t testing.TB) { b.daemon.Restart(t) },
		Traces:  b.traces,
	})
}

func TestConformanceRunc(t *testing.T) { testConformance(t, "") }
func TestConformanceCrun(t *testing.T) { testConformance(t, "crun") }
