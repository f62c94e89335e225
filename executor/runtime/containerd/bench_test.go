package containerd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/conformance"
)

// prepared is the Spec of an instance whose output nobody reads.
func (b *bed) prepared(t testing.TB, id string) runtime.Spec {
	t.Helper()
	s := runtime.Spec{
		ID: id, Dir: conformance.Sandbox(t), Hostname: "web-0", Command: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"},
		Container: &runtime.Container{Image: b.image, Limits: runtime.Limits{CPUMilli: 500, MemoryBytes: 64 << 20, Pids: 64}},
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "io"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stdout", "stderr"} {
		if err := syscall.Mkfifo(pipePath(s.Dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// BenchmarkStart measures containers from a local image, from Create to a running program, without a network; one after
// the other and sixteen at a time. "ctr" is what containerd's own tool needs for the same.
func BenchmarkStart(b *testing.B) {
	for _, binary := range []string{"runc", "crun"} {
		bed := newBed(b, binary)
		r := bed.open(b, "bench")
		b.Cleanup(func() { r.Close() })
		for _, parallel := range []int{1, 16} {
			b.Run(fmt.Sprint(binary, "-", parallel), func(b *testing.B) { benchmarkStart(b, bed, r, parallel) })
		}
		b.Run(binary+"-ctr", func(b *testing.B) { benchmarkCtr(b, bed, binary) })
	}
}

func benchmarkStart(b *testing.B, bed *bed, r *Runtime, parallel int) {
	n := 0
	for b.Loop() {
		b.StopTimer()
		specs := make([]runtime.Spec, parallel)
		for i := range specs {
			n++
			specs[i] = bed.prepared(b, fmt.Sprint(b.Name(), "-", n))
		}
		made := make([]runtime.Instance, parallel)
		var all sync.WaitGroup
		b.StartTimer()
		for i, s := range specs {
			all.Go(func() {
				var err error
				if made[i], err = r.Create(s); err == nil {
					err = made[i].Start()
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		b.StopTimer()
		for _, i := range made {
			if i == nil {
				continue
			}
			_ = i.Kill()
			i.Wait()
			if err := i.Close(); err != nil {
				b.Error(err)
			}
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "starts/s")
}

func benchmarkCtr(b *testing.B, bed *bed, binary string) {
	n := 0
	ctr := func(args ...string) {
		if out, err := exec.Command("ctr", append([]string{"-a", bed.daemon.Address, "-n", DefaultNamespace}, args...)...).CombinedOutput(); err != nil {
			b.Fatalf("ctr %q: %v: %s", args, err, out)
		}
	}
	for b.Loop() {
		n++
		id := fmt.Sprint("ctr-", binary, "-", n)
		ctr("run", "-d", "--null-io", "--seccomp", "--runc-binary", binary, "--cgroup", bed.parent+"/"+id, bed.image.Ref, id, "/bin/sleep", "1000")
		b.StopTimer()
		ctr("task", "rm", "--force", id)
		ctr("container", "rm", id)
		b.StartTimer()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "starts/s")
}
