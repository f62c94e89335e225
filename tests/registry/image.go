package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// busybox is in Debian's package busybox-static: a shell and 260 tools in one file without libraries.
const busybox = "/bin/busybox"

// Config is what an image says beside its files. Zero values are those of a small Linux image of this machine.
type Config struct {
	Entrypoint, Cmd []string
	// Env is put over a PATH.
	Env              []string
	Labels           map[string]string
	User, WorkingDir string
	// Platform like "linux/arm64" or "linux/arm/v7"; empty is that of this machine. The files stay as they are.
	Platform string
	// Files by absolute path, beside those of the image.
	Files map[string]string
	// Filler are the sizes of layers of noise, which compress to nothing less: for slow and large downloads.
	Filler []int64
	// Seed makes noise another noise.
	Seed uint64
}

// Busybox makes an image with a shell and its tools; Cmd is a shell unless said otherwise. Its users are root, app
// (1000, in group app) and nobody.
func Busybox(c Config) (v1.Image, error) {
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%w: install Debian's package busybox-static", err)
	}
	binary, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	entries := []entry{
		{header: tar.Header{Name: "bin/", Mode: 0o755}}, {header: tar.Header{Name: "bin/busybox", Mode: 0o755}, body: binary},
		{header: tar.Header{Name: "etc/passwd", Mode: 0o644}, body: []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{header: tar.Header{Name: "etc/group", Mode: 0o644}, body: []byte("root:x:0:\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n")},
		{header: tar.Header{Name: "root/", Mode: 0o700}}, {header: tar.Header{Name: "home/app/", Mode: 0o755, Uid: 1000, Gid: 1000}},
	}
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			entries = append(entries, entry{header: tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink, Mode: 0o777}})
		}
	}
	if c.Entrypoint == nil && c.Cmd == nil {
		c.Cmd = []string{"/bin/sh"}
	}
	return build(entries, c)
}

// Program makes an image whose entrypoint, unless said otherwise, is the static program at path; there is nothing else
// in it.
func Program(path string, c Config) (v1.Image, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if c.Entrypoint == nil {
		c.Entrypoint = []string{"/program"}
	}
	return build([]entry{{header: tar.Header{Name: "program", Mode: 0o755}, body: binary}}, c)
}

// Index makes one name of images for several platforms.
func Index(images ...v1.Image) (v1.ImageIndex, error) {
	index := v1.ImageIndex(empty.Index)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	return index, nil
}

// entry is a file of a layer. Its type follows from its name where it is not given.
type entry struct {
	header tar.Header
	body   []byte
}

func build(entries []entry, c Config) (v1.Image, error) {
	for _, d := range []string{"dev/", "proc/", "sys/", "etc/"} {
		entries = append(entries, entry{header: tar.Header{Name: d, Mode: 0o755}})
	}
	entries = append(entries, entry{header: tar.Header{Name: "tmp/", Mode: 0o1777}})
	for _, path := range slices.Sorted(maps.Keys(c.Files)) {
		entries = append(entries, entry{header: tar.Header{Name: strings.TrimPrefix(path, "/"), Mode: 0o644}, body: []byte(c.Files[path])})
	}
	first, err := layer(entries, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	layers := []v1.Layer{first}
	for i, size := range c.Filler {
		l, err := noise(size, c.Seed, i)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	return configure(img, c)
}

func noise(size int64, seed uint64, number int) (v1.Layer, error) {
	b := make([]byte, size)
	var key [32]byte
	copy(key[:], fmt.Sprintf("%d/%d", seed, number))
	if _, err := rand.NewChaCha8(key).Read(b); err != nil {
		return nil, err
	}
	return layer([]entry{{header: tar.Header{Name: fmt.Sprintf("noise%d", number), Mode: 0o644}, body: b}}, gzip.NoCompression)
}

func configure(img v1.Image, c Config) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if c.Platform != "" {
		p, err := v1.ParsePlatform(c.Platform)
		if err != nil {
			return nil, err
		}
		platform = *p
	}
	file.OS, file.Architecture, file.Variant = platform.OS, platform.Architecture, platform.Variant
	file.Config = v1.Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Labels: c.Labels, User: c.User, WorkingDir: c.WorkingDir,
		Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...),
	}
	return mutate.ConfigFile(img, file)
}

// layer packs files. Equal files give an equal digest.
func layer(entries []entry, level int) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.header
		if h.Typeflag == 0 && strings.HasSuffix(h.Name, "/") {
			h.Typeflag = tar.TypeDir
		}
		h.Size, h.ModTime, h.Format = int64(len(e.body)), time.Unix(0, 0), tar.FormatUSTAR
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompressionLevel(level))
}

// Push stores an image under a name without the registry, as in "web:1", and returns its digest.
func (r *Registry) Push(as string, img v1.Image) (string, error) {
	ref, err := r.parse(as)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, img, r.remote()...); err != nil {
		return "", fmt.Errorf("push %s: %w", as, err)
	}
	digest, err := img.Digest()
	return digest.String(), err
}

// PushIndex stores an index and its images under a name, and returns the index' digest.
func (r *Registry) PushIndex(as string, index v1.ImageIndex) (string, error) {
	ref, err := r.parse(as)
	if err != nil {
		return "", err
	}
	if err := remote.WriteIndex(ref, index, r.remote()...); err != nil {
		return "", fmt.Errorf("push %s: %w", as, err)
	}
	digest, err := index.Digest()
	return digest.String(), err
}

// PushBusybox is Push of Busybox.
func (r *Registry) PushBusybox(as string, c Config) (string, error) {
	img, err := Busybox(c)
	if err != nil {
		return "", err
	}
	return r.Push(as, img)
}

// Delete takes away whatever has a digest ("web@sha256:..."), and with it its tags.
func (r *Registry) Delete(as string) error {
	ref, err := r.parse(as)
	if err != nil {
		return err
	}
	return remote.Delete(ref, r.remote()...)
}

func (r *Registry) parse(as string) (name.Reference, error) {
	options := []name.Option{}
	if !r.options.TLS {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(r.Ref(as), options...)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", as, err)
	}
	return ref, nil
}

func (r *Registry) remote() []remote.Option {
	options := []remote.Option{remote.WithJobs(2)}
	if r.options.TLS {
		options = append(options, remote.WithTransport(transport([]byte(r.ca))))
	}
	for user, password := range r.options.Users {
		return append(options, remote.WithAuth(&authn.Basic{Username: user, Password: password}))
	}
	return options
}

// Layers are the digests of an image's layers, the lowest first.
func Layers(img v1.Image) ([]string, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var digests []string
	for _, l := range layers {
		d, err := l.Digest()
		if err != nil {
			return nil, err
		}
		digests = append(digests, d.String())
	}
	return digests, nil
}
