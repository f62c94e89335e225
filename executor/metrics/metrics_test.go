package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"padis.io/padis/proto/padis/stream"
)

// world is an executor with instances.
type world struct {
	instances []Instance
	counters  Counters
}

func (w *world) Instances() []Instance { return w.instances }
func (w *world) Counters() Counters    { return w.counters }

// Read gives every process its PID as everything; odd ones have just ended.
func (w *world) Read(pid int) (stream.Usage, error) {
	if pid%2 == 1 {
		return stream.Usage{}, errors.New("it has ended")
	}
	n := uint64(pid)
	return stream.Usage{
		CPUNanos: n * 1e9, MemoryBytes: n, MemoryLimitBytes: 2 * n, RxBytes: 3 * n, TxBytes: 4 * n, ReadBytes: 5 * n, WriteBytes: 6 * n, Processes: 7 * n, TCPEstablished: 8 * n,
		TCPListen: 9 * n, OOMKills: 10 * n,
	}, nil
}

func example() *world {
	w := &world{instances: []Instance{
		{Namespace: "shop", App: "web", Name: "web-1", Tenant: "retail", Container: "c2", Phase: "Running", PID: 3},
		{Namespace: "shop", App: "web", Name: "web-0", Tenant: "retail", Container: "c1", Phase: "Running", PID: 2, Ready: true},
		{Namespace: "shop", App: "db", Name: "db-0", Container: "c3", Phase: "Fetching"},
	}}
	w.counters = Counters{Version: "1.0", Pulls: 4, PullFailures: 1, PullBytes: 1 << 40, Adoptions: 2, Starts: 5, StartFailures: 1, Reconnects: 3, LogBytes: 100, LogDroppedBytes: 7}
	for _, d := range []time.Duration{10 * time.Millisecond, time.Second, time.Hour} {
		w.counters.StartDuration.Observe(d)
	}
	return w
}

func text(w *world) string {
	var b bytes.Buffer
	write(&b, w, w)
	return b.String()
}

// parse reads the text as Prometheus does.
func parse(t testing.TB, s string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(strings.NewReader(s))
	if err != nil {
		t.Fatalf("%v in\n%s", err, s)
	}
	return all
}

func gatherer(all map[string]*dto.MetricFamily) prometheus.Gatherer {
	return prometheus.GathererFunc(func() (out []*dto.MetricFamily, err error) {
		for _, f := range all {
			out = append(out, f)
		}
		return out, nil
	})
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(gatherer(parse(t, text(example()))))
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestText(t *testing.T) {
	got := text(example())
	for _, want := range []string{
		`padis_executor_build_info{version="1.0"} 1`,
		`padis_executor_instances{phase="Fetching"} 1`, `padis_executor_instances{phase="Running"} 2`,
		`padis_executor_pull_bytes_total 1.099511627776e+12`, `padis_executor_adoptions_total 2`, `padis_executor_log_dropped_bytes_total 7`,
		`padis_executor_start_duration_seconds_bucket{le="0.05"} 1`, `padis_executor_start_duration_seconds_bucket{le="1"} 2`, `padis_executor_start_duration_seconds_bucket{le="300"} 2`,
		`padis_executor_start_duration_seconds_bucket{le="+Inf"} 3`, `padis_executor_start_duration_seconds_sum 3601.01`, `padis_executor_start_duration_seconds_count 3`,
		`padis_instance_ready{namespace="shop",app="web",instance="web-0",tenant="retail",container="c1"} 1`,
		`padis_instance_ready{namespace="shop",app="web",instance="web-1",tenant="retail",container="c2"} 0`,
		`padis_instance_ready{namespace="shop",app="db",instance="db-0",tenant="",container="c3"} 0`,
		`padis_instance_cpu_seconds_total{namespace="shop",app="web",instance="web-0",tenant="retail",container="c1"} 2`,
		`padis_instance_oom_kills_total{namespace="shop",app="web",instance="web-0",tenant="retail",container="c1"} 20`,
	} {
		if strings.Count(got, want+"\n") != 1 {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	// One that has just ended, and one that does not run yet, use nothing.
	for name, f := range parse(t, got) {
		if strings.HasPrefix(name, "padis_instance_") && name != "padis_instance_ready" && len(f.GetMetric()) != 1 {
			t.Errorf("%s of %d instances", name, len(f.GetMetric()))
		}
	}
}

// Whatever instances are called, the text can be read, and the names are those.
func FuzzLabels(f *testing.F) {
	f.Add("shop", `we"b\`, "web\n0", "\xff")
	f.Fuzz(func(t *testing.T, namespace, app, name, tenant string) {
		w := &world{instances: []Instance{{Namespace: namespace, App: app, Name: name, Tenant: tenant, Container: name, Phase: app, PID: 2}}}
		m := parse(t, text(w))["padis_instance_processes"].GetMetric()
		if len(m) != 1 {
			t.Fatalf("%d metrics", len(m))
		}
		got := map[string]string{}
		for _, l := range m[0].GetLabel() {
			got[l.GetName()] = l.GetValue()
		}
		want := map[string]string{"namespace": namespace, "app": app, "instance": name, "tenant": tenant, "container": name}
		for k, v := range want {
			if got[k] != strings.ToValidUTF8(v, "\uFFFD") {
				t.Errorf("%s is %q, want %q", k, got[k], v)
			}
		}
	})
}

func TestHandler(t *testing.T) {
	h := Handler(example(), example())
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" || rec.Body.String() != text(example()) {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
	rec = httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/metrics", nil))
	if rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", rec.Code)
	}
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// An executor that replaces another serves as soon as the other's address is free.
func TestServe(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zap.WarnLevel)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Serve(ctx, other.Addr().String(), Handler(example(), example()), zap.New(core))
	}()
	until(t, "it says that the address is taken", func() bool { return logged.Len() > 0 })
	other.Close()
	var body string
	until(t, "it serves", func() bool {
		resp, err := http.Get(fmt.Sprintf("http://%s/metrics", other.Addr()))
		if err != nil {
			return false
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		body = string(b)
		return true
	})
	if body != text(example()) {
		t.Errorf("got %q", body)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("still serving")
	}
	Serve(ctx, other.Addr().String(), http.NotFoundHandler(), zap.NewNop())
}

// BenchmarkHundred is a scrape of a host with a hundred instances, without what measuring them costs.
func BenchmarkHundred(b *testing.B) {
	w := example()
	for i := range 100 {
		w.instances = append(w.instances, Instance{Namespace: "shop", App: "web", Name: fmt.Sprint("web-", i), Container: fmt.Sprint("c-", i), Phase: "Running", PID: 2})
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = text(w)
	}
}
