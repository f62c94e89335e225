package images

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// parallel is how many layers are downloaded at the same time.
	parallel = 3
	// leaseFor bounds how long what a killed executor downloaded is kept for the next one to go on with.
	leaseFor = 24 * time.Hour
	// tidying bounds the time to take back a pull that failed.
	tidying = 30 * time.Second
)

// quiet takes what the client's libraries log.
var quiet = logrus.NewEntry(&logrus.Logger{Out: io.Discard, Formatter: new(logrus.TextFormatter), Hooks: make(logrus.LevelHooks), Level: logrus.PanicLevel})

// download pulls from the endpoints. What it leaves is either the image or nothing. What is damaged in a mirror may be
// whole in the registry.
func (s *Store) download(ctx context.Context, key string, n name, all []endpoint, progress *counter) (runtime.Image, error) {
	img, err := s.attempt(ctx, key, n, all, progress)
	var e *runtime.StartError
	direct := slices.DeleteFunc(slices.Clone(all), func(e endpoint) bool { return e.mirror })
	if errors.As(err, &e) && e.Reason == padisv1.ReasonImageCorrupt && len(direct) > 0 && len(direct) < len(all) {
		return s.attempt(ctx, key, n, direct, progress)
	}
	return img, err
}

func (s *Store) attempt(ctx context.Context, key string, n name, all []endpoint, progress *counter) (runtime.Image, error) {
	ctx = log.WithLogger(ctx, quiet) // what matters of it is in our own sentence
	j := &journal{}
	d := &pull{store: s, progress: progress}
	img, err := s.leased(ctx, key, func(ctx context.Context) (runtime.Image, error) {
		hosts, idle, err := s.hosts(all, j)
		if err != nil {
			return runtime.Image{}, err
		}
		defer idle()
		d.Resolver = docker.NewResolver(docker.ResolverOptions{Hosts: func(string) ([]docker.RegistryHost, error) { return hosts, nil }})
		pulled, err := s.client.Pull(ctx, n.full, containerd.WithResolver(d), containerd.WithPlatformMatcher(s.platform), containerd.WithPullUnpack,
			containerd.WithPullSnapshotter(s.config.Snapshotter), containerd.WithMaxConcurrentDownloads(parallel), containerd.WithImageHandlerWrapper(d.watch), containerd.WithPullLabel(usedLabel, s.stamp()))
		if err != nil {
			return runtime.Image{}, err
		}
		return s.describe(ctx, pulled.Metadata())
	})
	if err != nil {
		return runtime.Image{}, s.explain(failure{image: n, resolved: d.resolved, troubles: j.troubles(), err: err})
	}
	progress.complete()
	return img, nil
}

// leased runs a pull under a lease, which keeps containerd from collecting what no image refers to yet.
func (s *Store) leased(ctx context.Context, key string, do func(context.Context) (runtime.Image, error)) (runtime.Image, error) {
	lease, err := s.lease(ctx, key)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("lease: %w", err)
	}
	img, err := do(leases.WithLease(ctx, lease.ID))
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidying)
	defer cancel()
	var options []leases.DeleteOpt
	if err != nil {
		options = append(options, leases.SynchronousDelete)
	}
	if e := s.client.LeasesService().Delete(tidy, lease, options...); e != nil && !errdefs.IsNotFound(e) && err == nil {
		return runtime.Image{}, fmt.Errorf("lease: %w", e)
	}
	return img, err
}

// lease makes the lease of a pull, or finds that of an executor that was killed: its name follows from what is pulled,
// so that the next pull has what the last one had.
func (s *Store) lease(ctx context.Context, key string) (leases.Lease, error) {
	id := fmt.Sprintf("padis-pull-%x", sha256.Sum256([]byte(key)))[:43]
	lease, err := s.client.LeasesService().Create(ctx, leases.WithID(id), leases.WithExpiration(leaseFor))
	if errdefs.IsAlreadyExists(err) {
		return leases.Lease{ID: id}, nil
	}
	return lease, err
}

// pull is a resolver that watches what is resolved and fetched through it.
type pull struct {
	remotes.Resolver
	store    *Store
	progress *counter
	// resolved is written before anything is fetched, and read after the pull.
	resolved bool
}

func (p *pull) Resolve(ctx context.Context, ref string) (string, ocispec.Descriptor, error) {
	full, desc, err := p.Resolver.Resolve(ctx, ref)
	p.resolved = err == nil
	return full, desc, err
}

func (p *pull) Fetcher(ctx context.Context, ref string) (remotes.Fetcher, error) {
	f, err := p.Resolver.Fetcher(ctx, ref)
	if err != nil {
		return nil, err
	}
	return remotes.FetcherFunc(func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		rc, err := f.Fetch(ctx, desc)
		if err != nil || !images.IsLayerType(desc.MediaType) {
			return rc, err
		}
		return &counted{ReadCloser: rc, digest: desc.Digest.String(), progress: p.progress}, nil
	}), nil
}

// counted counts a layer as it comes. A download that is gone on with seeks first.
type counted struct {
	io.ReadCloser
	digest   string
	at       int64
	progress *counter
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.at += int64(n)
	c.progress.at(c.digest, c.at)
	return n, err
}

func (c *counted) Seek(offset int64, whence int) (int64, error) {
	s, ok := c.ReadCloser.(io.Seeker)
	if !ok {
		return 0, errors.New("cannot go on in the middle of a layer")
	}
	at, err := s.Seek(offset, whence)
	if err == nil {
		c.at = at
		c.progress.at(c.digest, at)
	}
	return at, err
}

// watch looks at what has been fetched before anything follows from it: layers of an image that cannot run here are
// never asked for.
func (p *pull) watch(h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h.Handle(ctx, desc)
		switch {
		case images.IsIndexType(desc.MediaType) && errdefs.IsNotFound(err):
			return children, p.otherPlatforms(ctx, desc, err)
		case err != nil:
			return children, err
		case images.IsManifestType(desc.MediaType):
			return children, p.expect(children)
		case images.IsConfigType(desc.MediaType):
			return children, p.check(ctx, desc)
		case images.IsLayerType(desc.MediaType):
			p.progress.at(desc.Digest.String(), desc.Size)
		}
		return children, nil
	})
}

func (p *pull) expect(children []ocispec.Descriptor) error {
	config := false
	for _, c := range children {
		switch {
		case images.IsLayerType(c.MediaType):
			p.progress.expect(c.Digest.String(), c.Size)
		case images.IsConfigType(c.MediaType):
			config = true
		}
	}
	if !config && len(children) > 0 {
		return &notAnImageError{mediaType: children[0].MediaType}
	}
	return nil
}

// check compares the platform of an image without an index.
func (p *pull) check(ctx context.Context, desc ocispec.Descriptor) error {
	b, err := content.ReadBlob(ctx, p.store.client.ContentStore(), desc)
	if err != nil {
		return err
	}
	var config ocispec.Image
	if err := json.Unmarshal(b, &config); err != nil {
		return fmt.Errorf("configuration %s: %w", desc.Digest, err)
	}
	if config.Architecture == "" || p.store.platform.Match(platforms.Normalize(config.Platform)) {
		return nil
	}
	return p.wrong(config.Platform)
}

// otherPlatforms explains an index in which nothing fits; missing says what containerd made of it.
func (p *pull) otherPlatforms(ctx context.Context, desc ocispec.Descriptor, missing error) error {
	b, err := content.ReadBlob(ctx, p.store.client.ContentStore(), desc)
	if err != nil {
		return missing
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return missing
	}
	var have []ocispec.Platform
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" { // attestations are of no platform
			have = append(have, *m.Platform)
		}
	}
	return p.wrong(have...)
}

func (p *pull) wrong(have ...ocispec.Platform) error {
	e := &architectureError{want: platforms.Format(platforms.DefaultSpec())}
	for _, h := range have {
		e.have = append(e.have, platforms.Format(h))
	}
	if len(have) == 0 {
		e.have = []string{"no platform at all"}
	}
	return e
}
