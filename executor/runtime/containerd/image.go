package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
)

const (
	// knownImages bounds how many images are remembered.
	knownImages = 256
	// accountsSize bounds what is read of an image's /etc/passwd and /etc/group.
	accountsSize = 1 << 20
	leaseTime    = 10 * time.Minute
)

// image is what starting a container needs to know of its image. An image of one digest never changes, so that is found
// out once.
type image struct {
	config imagespec.ImageConfig
	// chain names the unpacked file system.
	chain string
	accounts
}

// accounts are the texts of /etc/passwd and /etc/group.
type accounts struct{ passwd, group []byte }

type imageCache struct {
	mu   sync.Mutex
	from map[string]*image
}

func (c *imageCache) get(digest string) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.from[digest]
}

func (c *imageCache) put(digest string, i *image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from == nil || len(c.from) >= knownImages {
		c.from = map[string]*image{}
	}
	c.from[digest] = i
}

func (r *Runtime) image(ctx context.Context, of runtime.Image) (*image, error) {
	if i := r.known.get(of.Digest); i != nil {
		return i, nil
	}
	v, err, _ := r.loading.Do(of.Digest, func() (any, error) {
		i, err := r.load(ctx, of)
		if err == nil {
			r.known.put(of.Digest, i)
		}
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("read image %s (%s): %w; pull it again", of.Ref, of.Digest, err)
	}
	return v.(*image), nil
}

func (r *Runtime) load(ctx context.Context, of runtime.Image) (*image, error) {
	var manifest imagespec.Manifest
	if err := r.readJSON(ctx, digest.Digest(of.Digest), &manifest); err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	var config imagespec.Image
	if err := r.readJSON(ctx, manifest.Config.Digest, &config); err != nil {
		return nil, fmt.Errorf("its configuration: %w", err)
	}
	i := &image{config: config.Config, chain: identity.ChainID(config.RootFS.DiffIDs).String()}
	var err error
	if i.accounts, err = r.accountsOf(ctx, i.chain); err != nil {
		return nil, fmt.Errorf("its users: %w", err)
	}
	return i, nil
}

func (r *Runtime) readJSON(ctx context.Context, d digest.Digest, into any) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d, err)
	}
	b, err := content.ReadBlob(ctx, r.client.ContentStore(), imagespec.Descriptor{Digest: d})
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// accountsOf reads the users of an unpacked image, through a look at it that a lease keeps for as long as it takes.
func (r *Runtime) accountsOf(ctx context.Context, chain string) (a accounts, err error) {
	ctx, done, err := r.client.WithLease(ctx, leases.WithRandomID(), leases.WithExpiration(leaseTime))
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	key := "p-view-" + uuid.NewString()
	mounts, err := r.snapshots.View(ctx, key, chain)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, r.snapshots.Remove(context.WithoutCancel(ctx), key)) }()
	err = mount.WithReadonlyTempMount(ctx, mounts, func(root string) error {
		a, err = readAccounts(root)
		return err
	})
	return a, err
}

// readAccounts reads the users below a root directory that strangers have written: links lead nowhere else, and what is
// no file, or too large, is an error.
func readAccounts(root string) (a accounts, err error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return a, fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	if a.passwd, err = readInside(dir, "etc/passwd"); err == nil {
		a.group, err = readInside(dir, "etc/group")
	}
	return a, err
}

func readInside(root int, name string) ([]byte, error) {
	fd, err := openInside(root, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > accountsSize {
		return nil, fmt.Errorf("%s is no file, or has more than %d bytes", name, accountsSize)
	}
	return io.ReadAll(io.LimitReader(f, accountsSize))
}

// openInside opens a path as a process would whose root directory is root.
func openInside(root int, name string, flags uint64) (int, error) {
	return unix.Openat2(root, name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
}
