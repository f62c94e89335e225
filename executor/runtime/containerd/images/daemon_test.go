package images

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime/containerd/containerdtest"
	"padis.io/padis/tests/registry"
)

// daemon is a containerd of a test's own.
type daemon struct {
	*containerd.Client
	t *testing.T
}

// startDaemon runs containerd. With bytes, everything that it keeps is on a disk of that size.
func startDaemon(t *testing.T, bytes int64) *daemon {
	t.Helper()
	c := containerdtest.Start(t)
	if bytes > 0 {
		c.Kill()
		if err := unix.Mount("tmpfs", c.Root, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
			t.Fatal(err)
		}
		c.Restart(t)
	}
	client, err := containerd.New(c.Address, containerd.WithDefaultNamespace("padis"), containerd.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return &daemon{Client: client, t: t}
}

func (d *daemon) store(c Config) *Store { return New(d.Client, c) }

// left lists everything that containerd keeps: images, content, downloads begun, snapshots, leases.
func (d *daemon) left() string {
	d.t.Helper()
	ctx := New(d.Client, Config{}).namespaced(context.Background())
	var all []string
	add := func(kind, name string, err error) {
		if err != nil {
			d.t.Fatalf("list %s: %v", kind, err)
		}
		if name != "" {
			all = append(all, kind+" "+name)
		}
	}
	records, err := d.ImageService().List(ctx)
	add("images", "", err)
	for _, r := range records {
		add("image", r.Name, nil)
	}
	add("content", "", d.ContentStore().Walk(ctx, func(i content.Info) error { add("content", i.Digest.String(), nil); return nil }))
	ingests, err := d.ContentStore().ListStatuses(ctx)
	add("ingests", "", err)
	for _, i := range ingests {
		add("ingest", i.Ref, nil)
	}
	add("snapshots", "", d.SnapshotService("overlayfs").Walk(ctx, func(_ context.Context, i snapshots.Info) error { add("snapshot", i.Name, nil); return nil }))
	ls, err := d.LeasesService().List(ctx)
	add("leases", "", err)
	for _, l := range ls {
		add("lease", l.ID, nil)
	}
	return strings.Join(all, "\n")
}

// nothingLeft fails the test if a failed pull left something.
func (d *daemon) nothingLeft() {
	d.t.Helper()
	if got := d.left(); got != "" {
		d.t.Errorf("left behind:\n%s", got)
	}
}

func push(t *testing.T, r *registry.Registry, as string, c registry.Config) string {
	t.Helper()
	digest, err := r.PushBusybox(as, c)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}
