package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"

	"padis.io/padis/tests/registry"
)

// daemon is a containerd of a test's own.
type daemon struct {
	*containerd.Client
	t *testing.T
}

// startDaemon runs containerd with its data in root, or a directory of its own.
func startDaemon(t *testing.T, root string) *daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containerd needs root")
	}
	path, err := exec.LookPath("containerd")
	if err != nil {
		t.Fatalf("%v: install Debian's package containerd", err)
	}
	dir, err := os.MkdirTemp("", "ctrd") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if root == "" {
		root = filepath.Join(dir, "root")
	}
	socket := filepath.Join(dir, "sock")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.devmapper\"]\n[grpc]\n  address = %q\n[ttrpc]\n  address = %q\n",
		root, filepath.Join(dir, "state"), socket, socket+".ttrpc")
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "--config", filepath.Join(dir, "config.toml"))
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() && os.Getenv("PADIS_TEST_CONTAINERD_LOG") != "" {
			t.Log(log.String())
		}
	})
	client, err := containerd.New(socket, containerd.WithDefaultNamespace("padis"), containerd.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
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
