package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apiruntime "padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
	executoraccess "padis.io/padis/executor/access"
	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos/files"
	"padis.io/padis/proto/padis/stream"
	"padis.io/padis/scheduler"
	"padis.io/padis/scheduler/access"
)

// echoing is an instance whose commands say what they read, and end with status 3.
type echoing struct{ runtime.Instance }

func (echoing) NetworkNamespace() int { return -1 }

func (echoing) Exec(s runtime.ExecSpec) (runtime.Process, error) {
	p := &echo{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_, _ = io.Copy(s.Stdout, s.Stdin)
	}()
	return p, nil
}

type echo struct{ done chan struct{} }

func (*echo) Resize(uint16, uint16) error { return nil }
func (*echo) Signal(string) error         { return nil }
func (p *echo) Wait() runtime.Exit {
	<-p.done
	return runtime.Exit{Code: 3}
}

// oneHost is an executor's side, and what the scheduler knows of it.
type oneHost struct{ at scheduler.Endpoint }

func (oneHost) Find(name string) (executoraccess.Instance, bool) {
	return executoraccess.Instance{Runtime: echoing{}, Logs: "kept"}, name == "shop.web.0.1"
}

func (oneHost) Read(_ context.Context, dir string, r stream.LogRequest, _ <-chan struct{}) (io.ReadCloser, error) {
	if r.Stream == "stderr" {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(dir + " " + r.Query().Encode())), nil
}

func (oneHost) Usage(context.Context, []string) (map[string]stream.Usage, error) {
	return map[string]stream.Usage{"shop.web.0.1": {CPUMilli: 250}, "another": {}}, nil
}

func (h oneHost) Endpoint(_, name string, _ bool) (scheduler.Endpoint, bool) {
	return h.at, name == "web-0"
}

func (oneHost) Sandbox(string, string, bool) (scheduler.Sandbox, bool) {
	return scheduler.Sandbox{}, false
}

func (oneHost) RecordsExec(namespace string) bool { return namespace == "bank" }

// The scheduler's side and the executor's side of access understand each other, with the keys of a real API server.
func TestTheDoorLeadsIntoInstances(t *testing.T) {
	api, err := sharedAPI()
	if err != nil {
		t.Fatal(err)
	}
	identity := api.SchedulerIdentity()
	host := oneHost{}
	server, err := executoraccess.New(executoraccess.Config{
		Instances: host, Logs: host, Usage: host, Log: zap.NewNop(),
		Dial: func(int, netip.AddrPort, time.Duration) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				_, _ = io.WriteString(b, "hello")
				_ = b.Close()
			}()
			return a, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	address, err := server.Listen("127.0.0.1:0")
	if err == nil {
		err = server.SetClientCA(identity.CA)
	}
	if err != nil {
		t.Fatal(err)
	}
	host.at = scheduler.Endpoint{Host: "host-1", Address: address.String(), Certificate: server.Certificate(), Container: "shop.web.0.1"}
	client, err := access.New(identity.Certificate, identity.Key)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{files: files.New(files.Config{})}
	if _, err := d.Exec(t.Context(), "shop", "web-0", live.Exec{}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("a stand-by: %v", err)
	}
	d.find.Store(&finder{loop: host, client: client})

	var out bytes.Buffer
	in := strings.Repeat("typed", 1<<18)
	status, err := d.Exec(t.Context(), "shop", "web-0", live.Exec{Command: []string{"echo"}, Stdin: strings.NewReader(in), Stdout: &out})
	if err != nil || status != 3 || out.String() != in {
		t.Errorf("exec: %d, %v, %d of %d bytes", status, err, out.Len(), len(in))
	}
	if _, err := d.Exec(t.Context(), "shop", "web-1", live.Exec{Command: []string{"echo"}}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("an instance that runs nowhere: %v", err)
	}
	conn, err := d.Forward(t.Context(), "shop", "web-0", 80)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); string(b) != "hello" {
		t.Errorf("forward: %q, %v", b, err)
	}
	_ = conn.Close()
	log, err := d.Log(t.Context(), "shop", "web-0", live.LogOptions{Stream: "all", TailLines: 3, LimitBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(log); err != nil || string(b) != "kept stream=all&tailLines=3" {
		t.Errorf("log: %q, %v", b, err)
	}
	if _, err := d.Log(t.Context(), "shop", "web-0", live.LogOptions{Stream: "stderr", TailLines: -1, LimitBytes: -1}); !apierrors.IsNotFound(err) {
		t.Errorf("no log: %v", err)
	}
	used, unreachable, err := d.Usage(t.Context(), []*apiruntime.Instance{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0"}}})
	if err != nil || len(unreachable) != 0 || len(used) != 1 || used[[2]string{"shop", "web-0"}].CPUMilli != 250 {
		t.Errorf("usage: %v, %v, %v", used, unreachable, err)
	}
	if d.Container("shop", "web-0") != "shop.web.0.1" || !d.Record("bank") || d.Record("shop") {
		t.Error("what is said of an instance is wrong")
	}
	host.at.Certificate = []byte("another")
	d.find.Store(&finder{loop: host, client: client})
	if _, err := d.Exec(t.Context(), "shop", "web-0", live.Exec{Command: []string{"echo"}}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("another executor: %v", err)
	}
}
