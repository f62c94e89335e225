package master

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
	"padis.io/padis/mesos/wire/memnet"
)

// double plays a master. What it does to a call is up to the fields; by default it takes it.
type double struct {
	t    *testing.T
	addr string
	// subscribe answers a SUBSCRIBE; by default it sends SUBSCRIBED and then whatever say sends.
	subscribe func(w http.ResponseWriter, call *scheduler.Call)
	// answer answers another call.
	answer func(w http.ResponseWriter, call *scheduler.Call)
	// operator answers the operator API.
	operator http.HandlerFunc

	mu    sync.Mutex
	calls []*scheduler.Call
	times []time.Time
	// events go out on the stream that is open.
	events chan []byte
	// hangup ends the stream that is open.
	hangup chan struct{}
}

func newDouble(t *testing.T, addr string) *double {
	d := &double{t: t, addr: addr, events: make(chan []byte), hangup: make(chan struct{})}
	d.subscribe = func(w http.ResponseWriter, _ *scheduler.Call) {
		d.stream(w, mesos.Subscribed{FrameworkID: "fw-1", Master: "10.0.0.1:5050", Heartbeat: 15 * time.Second})
	}
	d.answer = func(w http.ResponseWriter, _ *scheduler.Call) { w.WriteHeader(http.StatusAccepted) }
	d.operator = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	return d
}

const testStream = "5d4bb1d9-1fb3-4b1f-9e2a-5d3b7e0e0a11"

// response lets whoever answers see that the client has gone.
type response struct {
	http.ResponseWriter
	gone <-chan struct{}
}

func (r *response) Flush() { r.ResponseWriter.(http.Flusher).Flush() }

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w = &response{w, r.Context().Done()}
	if r.URL.Path == operatorPath {
		d.operator(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var call scheduler.Call
	if err := call.Unmarshal(body); err != nil || r.URL.Path != schedulerPath || r.Method != http.MethodPost ||
		r.Header.Get("Content-Type") != protobuf || r.Header.Get("Accept") != protobuf {
		d.t.Errorf("%s: bad request %s %s %v: %v", d.addr, r.Method, r.URL, r.Header, err)
	}
	d.mu.Lock()
	d.calls = append(d.calls, &call)
	d.times = append(d.times, time.Now())
	d.mu.Unlock()
	stream := r.Header.Get(streamHeader)
	if call.Type == scheduler.Call_SUBSCRIBE {
		if stream != "" {
			d.t.Errorf("%s: SUBSCRIBE with a stream id", d.addr)
		}
		d.subscribe(w, &call)
		return
	}
	if stream != testStream {
		d.t.Errorf("%s: %s with stream id %q", d.addr, call.Type, stream)
	}
	d.answer(w, &call)
}

// stream opens the stream of events with these, and goes on with those of say until hung up.
func (d *double) stream(w http.ResponseWriter, first ...mesos.Event) {
	w.Header().Set("Content-Type", protobuf)
	w.Header().Set(streamHeader, testStream)
	for _, e := range first {
		w.Write(frame(d.t, e))
	}
	w.(http.Flusher).Flush()
	for {
		select {
		case b := <-d.events:
			w.Write(b)
			w.(http.Flusher).Flush()
		case <-d.hangup:
			return
		case <-w.(*response).gone:
			return
		}
	}
}

func (d *double) say(e mesos.Event) { d.events <- frame(d.t, e) }

// seen lists the types of the calls so far.
func (d *double) seen() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, c := range d.calls {
		out = append(out, c.Type.String())
	}
	return strings.Join(out, " ")
}

func (d *double) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.calls)
}

func (d *double) call(i int) *scheduler.Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[i]
}

func frame(t *testing.T, e mesos.Event) []byte {
	w, err := wire.ToEvent(e, "fw-1")
	if err != nil {
		t.Error(err)
		return nil
	}
	b, err := w.Marshal()
	if err != nil {
		t.Error(err)
		return nil
	}
	return wire.AppendFrame(nil, b)
}

func heartbeatFrame(t *testing.T) []byte {
	b, err := (&scheduler.Event{Type: scheduler.Event_HEARTBEAT}).Marshal()
	if err != nil {
		t.Error(err)
	}
	return wire.AppendFrame(nil, b)
}

// runner is a Client that runs, and what it told.
type runner struct {
	*Client
	events chan mesos.Event
	cancel context.CancelFunc
	result chan error
}

func config(n *memnet.Network, masters string) Config {
	return Config{
		Masters: masters, Framework: Framework{Name: "padis"}, Logger: zap.NewNop(), Dial: n.Dial,
		Rand: func() float64 { return 0 },
	}
}

func start(t *testing.T, cfg Config, frameworkID string) *runner {
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &runner{Client: c, events: make(chan mesos.Event, 1000), cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- c.Run(ctx, frameworkID, func(e mesos.Event) { r.events <- e }) }()
	return r
}

func (r *runner) stop(t *testing.T) {
	r.cancel()
	if err := <-r.result; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func next[E mesos.Event](t *testing.T, r *runner) E {
	t.Helper()
	e := <-r.events
	got, ok := e.(E)
	if !ok {
		t.Fatalf("got %T %+v, want %T", e, e, got)
	}
	return got
}

// scene runs a test in made-up time against doubles of masters.
func scene(t *testing.T, play func(t *testing.T, n *memnet.Network)) {
	synctest.Test(t, func(t *testing.T) { play(t, new(memnet.Network)) })
}
