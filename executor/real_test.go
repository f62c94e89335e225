package executor

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"padis.io/padis/executor/runtime/containerd"
	"padis.io/padis/executor/runtime/containerd/containerdtest"
	"padis.io/padis/executor/volume/hostfs"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/tests/registry"
)

// counts writes a line for each number until it is told to stop.
const counts = `i=0; while [ ! -e /data/stop ]; do i=$((i+1)); echo line $i; echo $i > /data/count; sleep 0.01; done; exit 3`

// Real containers go on while executors come and go, and none of what they write is lost.
func TestRealContainersOutliveTheirExecutors(t *testing.T) {
	daemon := containerdtest.Start(t)
	images := registry.Start(t, registry.Options{})
	if _, err := images.PushBusybox("web:1", registry.Config{}); err != nil {
		t.Fatal(err)
	}
	parent, state := fmt.Sprintf("/padis-test-%08x", rand.Uint32()), t.TempDir()
	t.Cleanup(func() { containerdtest.RemoveCgroups(parent) })
	data := filepath.Join(state, "instances", "c1", "volumes", "data")
	executor := func() (*world, func()) {
		keeper, err := containerd.Open(t.Context(), containerd.Config{Address: daemon.Address, Owner: "fw", CgroupParent: parent, Log: zaptest.NewLogger(t)})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, func(_ *world, c *Config) {
			c.Containers, c.Host.State, c.Volumes = keeper, state, hostfs.New(hostfs.Config{State: state})
		})
		return w, func() { keeper.Close() }
	}
	web := func(l *padisv1.Launch) {
		l.Template.Image, l.Template.Command, l.Template.Args = images.Ref("web:1"), []string{"sh", "-c"}, []string{counts}
		l.Template.Resources = &padisv1.Resources{MemoryMib: 64}
		l.Template.Volumes = []*padisv1.Volume{{Name: "data", MountPath: "/data", Source: &padisv1.Volume_EmptyDir{EmptyDir: &padisv1.EmptyDir{}}}}
		l.Registries = []*padisv1.Registry{{Host: images.Host(), PlainHttp: true}}
	}
	count := func() int {
		b, _ := os.ReadFile(filepath.Join(data, "count")) // none is 0
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}

	w, end := executor()
	w.launch(1, "c1", web)
	w.until("c1", "TASK_RUNNING Ready ready")
	before, ok := w.Lookup("c1")
	w.cancel()
	w.over()
	end()
	for alone, deadline := count(), time.Now().Add(20*time.Second); count() < alone+10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on alone")
		}
	}

	w, end = executor()
	w.until("scheduler", "0 [c1]")
	w.launch(1, "t2", web, func(l *padisv1.Launch) { l.Container, l.Adopt, l.WasReady = "c1", true, true })
	w.until("t2", "TASK_RUNNING Ready ready")
	if after, _ := w.Lookup("c1"); !ok || after.PID != before.PID || after.PID == 0 {
		t.Errorf("process %d became %d", before.PID, after.PID)
	}
	if err := os.WriteFile(filepath.Join(data, "stop"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.until("t2", "TASK_FAILED Exited exit=3")
	if r := w.report("t2"); !strings.HasPrefix(r.GetImageDigest(), "sha256:") || r.GetContainer() != "c1" {
		t.Errorf("reported %v", r)
	}
	out, err := os.ReadFile(filepath.Join(state, "instances", "c1", "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if line != fmt.Sprint("line ", i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
	w.Handle(mesos.Shutdown{})
	w.over()
	if left, err := w.Containers.Found(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	end()
}
