package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/containerd/containerdtest"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func reason(err error) string {
	var start *runtime.StartError
	if errors.As(err, &start) {
		return start.Reason
	}
	return fmt.Sprintf("no StartError, but %v", err)
}

// started is a running container whose output nobody reads.
func (b *bed) started(t *testing.T, r *Runtime, id string) *instance {
	t.Helper()
	i, err := r.Create(b.prepared(t, id))
	if err == nil {
		err = i.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return i.(*instance)
}

// TestWorseEnds is what happens to containers beside their program's end.
func TestWorseEnds(t *testing.T) {
	b := newBed(t, "")
	r := b.open(t, "framework-1")
	t.Cleanup(func() { r.Close() })
	ctx := context.Background()
	for name, f := range map[string]func(*testing.T){
		"a killed shim": func(t *testing.T) {
			i := b.started(t, r, "killed-shim")
			stat, err := os.ReadFile(i.proc("stat"))
			if err != nil {
				t.Fatal(err)
			}
			var state string
			var parent int
			if _, err := fmt.Sscan(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), &state, &parent); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(parent, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if e := i.Wait(); e != (runtime.Exit{Code: 137, Signal: "SIGKILL"}) {
				t.Errorf("%+v", e)
			}
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		},
		"a host that started anew": func(t *testing.T) {
			// What is left then: the record, without a task.
			first := b.open(t, "framework-1")
			i := b.started(t, first, "rebooted")
			first.Close()
			if err := i.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := r.end(ctx, i.name); err != nil {
				t.Fatal(err)
			}
			if found, err := r.Found(ctx); err != nil || !slices.Contains(found, "rebooted") {
				t.Errorf("found %q, %v", found, err)
			}
			if _, err := r.Adopt(ctx, "rebooted"); reason(err) != padisv1.ReasonContainerGone {
				t.Error(err)
			}
			if err := r.Discard(ctx, "rebooted"); err != nil {
				t.Error(err)
			}
		},
		"an executor that dies between the note and the deletion": func(t *testing.T) {
			first := b.open(t, "framework-1")
			i := b.started(t, first, "noted")
			first.Close()
			if err := i.writeExit(runtime.Exit{Code: 4, OOMKilled: true}); err != nil {
				t.Fatal(err)
			}
			if err := r.end(ctx, i.name); err != nil {
				t.Fatal(err)
			}
			next, err := r.Adopt(ctx, "noted")
			if err != nil {
				t.Fatal(err)
			}
			if e := next.Wait(); e != (runtime.Exit{Code: 4, OOMKilled: true}) {
				t.Errorf("%+v", e)
			}
			if next.PID() != 0 || next.NetworkNamespace() != -1 {
				t.Errorf("process %d, network namespace %d", next.PID(), next.NetworkNamespace())
			}
			if err := next.Close(); err != nil {
				t.Error(err)
			}
		},
		"a record without anything": func(t *testing.T) {
			s := b.prepared(t, "half-made")
			img, err := r.image(ctx, s.Container.Image)
			if err != nil {
				t.Fatal(err)
			}
			spec, err := r.spec(ctx, s, img, r.name(s.ID))
			if err == nil {
				err = r.record(ctx, s, r.name(s.ID), spec)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Adopt(ctx, s.ID); reason(err) != padisv1.ReasonContainerGone {
				t.Error(err)
			}
			if err := r.Discard(ctx, s.ID); err != nil {
				t.Error(err)
			}
		},
		"a file system that containerd's garbage collection would take": func(t *testing.T) {
			i := b.started(t, r, "kept")
			if err := r.collectNow(ctx); err != nil {
				t.Fatal(err)
			}
			out, err := i.Run([]string{"cat", "/data/of-the-image"}, time.Minute)
			if err != nil || out.Text != "yes" {
				t.Errorf("%+v, %v", out, err)
			}
			if err := i.Kill(); err != nil {
				t.Error(err)
			}
			i.Wait()
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		},
		"other owners": func(t *testing.T) {
			other := b.open(t, "framework-2")
			defer other.Close()
			i := b.started(t, other, "same-name")
			if found, err := r.Found(ctx); err != nil || slices.Contains(found, "same-name") {
				t.Errorf("found %q, %v", found, err)
			}
			if err := r.Discard(ctx, "same-name"); err != nil {
				t.Error(err)
			}
			if _, err := r.tasks.Get(ctx, &tasks.GetRequest{ContainerID: i.name}); err != nil {
				t.Errorf("another's container was discarded: %v", err)
			}
			if err := other.Discard(ctx, "same-name"); err != nil {
				t.Error(err)
			}
		},
		"a process instead of an image": func(t *testing.T) {
			if _, err := r.Create(runtime.Spec{ID: "plain"}); reason(err) != padisv1.ReasonInvalidLaunch {
				t.Error(err)
			}
		},
		"no pipes": func(t *testing.T) {
			s := b.prepared(t, "no-pipes")
			if err := os.RemoveAll(filepath.Join(s.Dir, "io")); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Create(s); reason(err) != padisv1.ReasonContainerFailed {
				t.Error(err)
			}
			if _, err := r.containers.Get(ctx, r.name(s.ID)); !errdefs.IsNotFound(err) {
				t.Errorf("a record is left: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t)
		})
	}
}

func TestSpaceIsFreed(t *testing.T) {
	t.Parallel()
	b := newBed(t, "")
	r := b.open(t, "framework-1")
	t.Cleanup(func() { r.Close() })
	trees := func() int {
		all, err := filepath.Glob(filepath.Join(b.daemon.Root, "io.containerd.snapshotter.v1.overlayfs", "snapshots", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	// The first container of an image has the image looked at, and that goes, too.
	if _, err := r.image(context.Background(), b.image); err != nil {
		t.Fatal(err)
	}
	if err := r.collectNow(context.Background()); err != nil {
		t.Fatal(err)
	}
	before := trees()
	i := b.started(t, r, "short")
	if trees() != before+1 {
		t.Errorf("%d file systems with a container, %d without", trees(), before)
	}
	if err := i.Kill(); err != nil {
		t.Fatal(err)
	}
	i.Wait()
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); trees() != before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d file systems, there were %d", trees(), before)
		}
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	if _, err := Open(context.Background(), Config{Address: filepath.Join(t.TempDir(), "none"), Owner: "f"}); reason(err) != padisv1.ReasonRuntimeUnavailable || !strings.Contains(err.Error(), "--containerd") {
		t.Error(err)
	}
	if _, err := Open(context.Background(), Config{}); err == nil {
		t.Error("without an owner")
	}
	if _, err := Open(context.Background(), Config{Owner: "f", CgroupParent: "relative"}); err == nil {
		t.Error("a relative control group")
	}
}

func TestRequestsWaitForContainerd(t *testing.T) {
	d := containerdtest.Start(t)
	r, err := Open(context.Background(), Config{Address: d.Address, Owner: "f"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d.Kill()
	answer := make(chan error, 1)
	go func() {
		_, err := r.Found(context.Background())
		answer <- err
	}()
	d.Restart(t)
	if err := <-answer; err != nil && !errdefs.IsUnavailable(err) {
		t.Error(err)
	}
	if _, err := r.Found(context.Background()); err != nil {
		t.Error(err)
	}
}
