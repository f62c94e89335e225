// Package images brings images from registries to this host, unpacked, and takes away what nobody uses.
// Edge: talks to containerd and registries.
//
// The client pulls: it asks the registries itself and hands the layers to containerd, so that mirrors, credentials and
// authorities are ours to decide (hosts.go) and what goes wrong is ours to explain (classify.go).
package images

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"go.uber.org/zap"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Config of a store. Zero values are the defaults.
type Config struct {
	// Snapshotter that images are unpacked into; empty is "overlayfs".
	Snapshotter string
	Log         *zap.Logger
	// Connect bounds connecting to a registry (5 s), Stall how long one may send nothing (15 s).
	Connect, Stall time.Duration
	// Now is the clock by which images are unused.
	Now func() time.Time
}

// Store is the images of one containerd, in the default namespace of its client. Its methods may be called at the same
// time.
type Store struct {
	client   *containerd.Client
	config   Config
	platform platforms.MatchComparer

	mu      sync.Mutex
	flights map[string]*flight

	// usage is held for reading from finding an image to noting that it is used, and for writing while one is removed.
	usage sync.RWMutex
}

// New makes a store.
func New(client *containerd.Client, c Config) *Store {
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Connect <= 0 {
		c.Connect = 5 * time.Second
	}
	if c.Stall <= 0 {
		c.Stall = 15 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Store{client: client, config: c, platform: platforms.Default(), flights: map[string]*flight{}}
}

// Pull brings an image to the host, unpacked, as runtime.Keeper says. If ctx ends, the caller gets an error, and the
// download ends if nobody else waits for it.
func (s *Store) Pull(ctx context.Context, p runtime.Pull, progress func(done, total int64)) (runtime.Image, error) {
	n, err := parse(p.Image)
	if err != nil {
		return runtime.Image{}, err
	}
	ctx = s.namespaced(ctx)
	if n.pinned || !p.Always {
		img, ok, err := s.present(ctx, n)
		if err != nil {
			return runtime.Image{}, s.explain(failure{image: n, err: err})
		}
		if ok {
			return img, nil
		}
	}
	all, err := endpoints(n.host, p.Registries, p.Auths)
	if err != nil {
		return runtime.Image{}, s.explain(failure{image: n, err: err})
	}
	k := key(n, p.Always, all)
	f, err := s.join(ctx, k, func(ctx context.Context, progress *counter) (runtime.Image, error) {
		return s.download(ctx, k, n, all, progress)
	})
	if err != nil {
		return runtime.Image{}, givenUp(n, err)
	}
	return s.follow(ctx, n, f, progress)
}

func (s *Store) namespaced(ctx context.Context) context.Context {
	if ns := s.client.DefaultNamespace(); ns != "" {
		return namespaces.WithNamespace(ctx, ns)
	}
	return ctx
}

// present tells whether an image is here, unpacked, and if so notes that it was used.
func (s *Store) present(ctx context.Context, n name) (runtime.Image, bool, error) {
	s.usage.RLock()
	defer s.usage.RUnlock()
	record, err := s.client.ImageService().Get(ctx, n.full)
	if errdefs.IsNotFound(err) {
		return runtime.Image{}, false, nil
	} else if err != nil {
		return runtime.Image{}, false, err
	}
	unpacked, err := containerd.NewImageWithPlatform(s.client, record, s.platform).IsUnpacked(ctx, s.config.Snapshotter)
	if err != nil && !errdefs.IsNotFound(err) {
		return runtime.Image{}, false, err
	}
	if err != nil || !unpacked {
		return runtime.Image{}, false, nil
	}
	img, err := s.describe(ctx, record)
	if err != nil {
		return runtime.Image{}, false, err
	}
	return img, true, s.touch(ctx, record)
}

// describe finds the manifest for this host.
func (s *Store) describe(ctx context.Context, record images.Image) (runtime.Image, error) {
	target := record.Target
	for depth := 0; images.IsIndexType(target.MediaType); depth++ {
		children := images.LimitManifests(images.FilterPlatforms(images.ChildrenHandler(s.client.ContentStore()), s.platform), s.platform, 1)
		below, err := children(ctx, target)
		if err != nil {
			return runtime.Image{}, err
		}
		if len(below) == 0 || depth > 4 {
			return runtime.Image{}, fmt.Errorf("index %s of %s has nothing for this platform: %w", target.Digest, record.Name, errdefs.ErrNotFound)
		}
		target = below[0]
	}
	return runtime.Image{Ref: record.Name, Digest: target.Digest.String()}, nil
}

// explain makes a sentence of a failure, and logs it with all that is known.
func (s *Store) explain(f failure) error {
	e := classify(f)
	if !errors.Is(f.err, context.Canceled) {
		s.config.Log.Warn("an image could not be pulled", zap.String("image", f.image.full), zap.String("reason", e.Reason), zap.Stringers("endpoints", f.troubles), zap.Error(f.err))
	}
	return e
}

// givenUp is the error of a caller that did not wait for the end.
func givenUp(n name, err error) error {
	return &runtime.StartError{Reason: padisv1.ReasonKilled, Message: fmt.Sprintf("image %s: the pull was given up: %v", n.full, err)}
}
