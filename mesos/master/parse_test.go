package master

import (
	"net"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos"
)

func TestParseMasters(t *testing.T) {
	for in, want := range map[string]masters{
		"http://a:5050,b,c":             {scheme: "http", hosts: []string{"a:5050", "b:5050", "c:5050"}},
		"http://a/":                     {scheme: "http", hosts: []string{"a:5050"}},
		"https://a:443":                 {scheme: "https", hosts: []string{"a:443"}},
		"http://[fd00::1], [fd00::2]:1": {scheme: "http", hosts: []string{"[fd00::1]:5050", "[fd00::2]:1"}},
		"zk://a:2181,b/mesos":           {scheme: "zk", hosts: []string{"a:2181", "b:2181"}, path: "/mesos"},
		"zk://a/cell/mesos/":            {scheme: "zk", hosts: []string{"a:2181"}, path: "/cell/mesos"},
	} {
		got, err := parseMasters(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q gave %+v, %v", in, got, err)
		}
	}
	for in, why := range map[string]string{
		"":                "expected http://",
		"a:5050":          "expected http://",
		"ftp://a":         "expected http://",
		"http://":         "not HOST",
		"http://a,,b":     "not HOST",
		"http://a:0":      "port",
		"http://a:65536":  "port",
		"http://a:x":      "port",
		"http://fd00::1":  "brackets",
		"http://a/mesos":  "not HOST",
		"zk://a:2181":     "path",
		"zk://a:2181/":    "path",
		"zk://u:p@/mesos": "not HOST",
	} {
		if got, err := parseMasters(in); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q gave %+v, %v; want an error about %q", in, got, err, why)
		}
	}
	m, err := parseMasters("zk://u:p:q@r@a/mesos")
	if err != nil || m.user.String() != "u:p%3Aq%40r" || m.hosts[0] != "a:2181" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestNewNamesAllThatIsWrong(t *testing.T) {
	_, err := New(Config{Framework: Framework{FailoverTimeout: -time.Second}})
	for _, want := range []string{"masters", "name", "negative", "logger", "chance"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not speak of %s", err, want)
		}
	}
}

func TestRedirect(t *testing.T) {
	const from = "http://10.0.0.1:5050/api/v1/scheduler"
	for location, want := range map[string]string{
		"//10.0.0.2:5050":                   "http://10.0.0.2:5050/api/v1/scheduler",
		"//10.0.0.2:5050/":                  "http://10.0.0.2:5050/api/v1/scheduler",
		"//10.0.0.2:5050/api/v1/scheduler":  "http://10.0.0.2:5050/api/v1/scheduler",
		"https://m/api/v1/scheduler":        "https://m/api/v1/scheduler",
		"//[fd00::1]:5050/api/v1/scheduler": "http://[fd00::1]:5050/api/v1/scheduler",
		"/master/api/v1/scheduler":          "http://10.0.0.1:5050/master/api/v1/scheduler",
	} {
		if got, err := redirect(from, location); err != nil || got != want {
			t.Errorf("%q gave %q, %v", location, got, err)
		}
	}
	for _, location := range []string{"", "ftp://x", "http://", "//:%zz", "mailto:x"} {
		if got, err := redirect(from, location); err == nil {
			t.Errorf("%q gave %q", location, got)
		}
	}
}

func TestLowest(t *testing.T) {
	for want, names := range map[string][]string{
		"json.info_0000000003": {"json.info_0000000010", "json.info_0000000003", "log_replicas", "info_0000000001", "json.info_x"},
		"":                     {"log_replicas", "json.info_"},
	} {
		if got := lowest(names); got != want {
			t.Errorf("%v: %q", names, got)
		}
	}
}

func TestParseMasterInfo(t *testing.T) {
	for in, want := range map[string]string{
		`{"address":{"hostname":"m","ip":"10.0.0.1","port":5050},"hostname":"m","port":5050}`: "10.0.0.1:5050",
		`{"address":{"ip":"fd00::1","port":5050}}`:                                            "[fd00::1]:5050",
		`{"address":{"hostname":"m","port":5051}}`:                                            "m:5051",
		`{"hostname":"m","port":5050}`:                                                        "m:5050",
		`{"pid":"master@10.0.0.1:5050"}`:                                                      "10.0.0.1:5050",
	} {
		if got, err := parseMasterInfo([]byte(in)); err != nil || got != want {
			t.Errorf("%s gave %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "{", "{}", `{"hostname":"m"}`, `{"hostname":"m","port":70000}`, `{"pid":"master@x"}`, `{"port":"x"}`} {
		if got, err := parseMasterInfo([]byte(in)); err == nil {
			t.Errorf("%s gave %q", in, got)
		}
	}
}

// Over real TCP, and IPv6 at that.
func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6 loopback: ", err)
	}
	d := newDouble(t, "m")
	s := httptest.NewUnstartedServer(d)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	cfg := Config{
		Masters: "http://" + l.Addr().String(), Framework: Framework{Name: "padis", Principal: "p", Secret: "s"}, Logger: zap.NewNop(),
		Rand: func() float64 { return 0 },
	}
	r := start(t, cfg, "")
	within[mesos.Subscribed](t, r)
	if err := r.Send(t.Context(), mesos.Revive{}); err != nil {
		t.Fatal(err)
	}
	r.stop(t)
}

func FuzzParseMasters(f *testing.F) {
	for _, s := range []string{"http://a:5050,b", "zk://u:p@a,b:1/mesos", "https://[::1]", "zk://@/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		m, err := parseMasters(in)
		if err != nil {
			return
		}
		for _, h := range m.hosts {
			if host, port, err := net.SplitHostPort(h); err != nil || host == "" || port == "" {
				t.Fatalf("%q gave host %q", in, h)
			}
		}
	})
}

func FuzzParseMasterInfo(f *testing.F) {
	f.Add([]byte(`{"address":{"hostname":"m","ip":"10.0.0.1","port":5050},"pid":"master@10.0.0.1:5050"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if got, err := parseMasterInfo(in); err == nil && got == "" {
			t.Fatalf("%q gave nothing", in)
		}
	})
}

func FuzzRedirect(f *testing.F) {
	f.Add("//10.0.0.2:5050/api/v1/scheduler")
	f.Fuzz(func(t *testing.T, location string) {
		if got, err := redirect("http://a:1/api/v1/scheduler", location); err == nil && !strings.HasPrefix(got, "http") {
			t.Fatalf("%q gave %q", location, got)
		}
	})
}

func FuzzDecodeAgents(f *testing.F) {
	f.Add(recordedAgents(f))
	f.Fuzz(func(_ *testing.T, in []byte) { decodeAgents(in) })
}
