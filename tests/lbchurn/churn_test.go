package lbchurn

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"padis.io/padis/executor/lb/bgp/routers"
)

func TestMain(m *testing.M) { routers.Main(m) }

// executor is the binary of the directors: what make has built, or one of its own.
func executor(t *testing.T) string {
	t.Helper()
	if os.Getenv("PADIS_BIN") != "" {
		path, err := Executor()
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := filepath.Join(t.TempDir(), "padis-executor")
	if out, err := exec.Command("go", "build", "-o", path, "padis.io/padis/cmd/padis-executor").CombinedOutput(); err != nil {
		t.Fatalf("build the executor: %v: %s", err, out)
	}
	return path
}

func churned(t *testing.T, o Options, l Load) Report {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces with daemons in them take root")
	}
	if err := First(); err != nil {
		t.Fatal(err)
	}
	o.Executor, o.Log = executor(t), func(format string, args ...any) { t.Logf(format, args...) }
	o.Directors, o.Skew, o.Seed = 8, 100*time.Millisecond, uint64(time.Now().UnixNano())
	r, err := New(t, o).Churn(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %+v", o.Seed, r)
	return r
}

// What make test-lb-churn does for longer and with more connections.
func TestNoConnectionNotices(t *testing.T) {
	for _, kind := range routers.Kinds() {
		t.Run(kind, func(t *testing.T) {
			r := churned(t, Options{Router: kind, Hosts: 5, Places: 14, Servers: 50},
				// Whether a second is enough is for make test-lb-churn to say, which has the machine alone.
				Load{Seconds: 12, Connections: 600, Changes: 150, Interval: 400 * time.Millisecond, Drain: 4 * time.Second, Stall: 5 * time.Second})
			if r.Resets+r.Stalls+r.Wrong > 0 {
				t.Errorf("%d connections were reset, %d stalled, %d got wrong data", r.Resets, r.Stalls, r.Wrong)
			}
			if r.Messages < 600*12 || r.Total() < 20 {
				t.Errorf("%d messages and %d changes are too few to show anything", r.Messages, r.Total())
			}
		})
	}
}

// Without relays connections break: the count is one of something.
func TestWithoutRelaysTheyNotice(t *testing.T) {
	r := churned(t, Options{Router: "bird", Hosts: 2, Places: 6, Servers: 8, NoRelays: true},
		Load{Seconds: 6, Connections: 200, Changes: 150, Interval: 200 * time.Millisecond, Drain: 4 * time.Second})
	if r.Resets == 0 {
		t.Error("no connection was reset")
	}
}
