package agent

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
	"padis.io/padis/mesos/wire/memnet"
)

// double plays an agent that acknowledges what it takes, unless told otherwise.
type double struct {
	t *testing.T
	// status answers a call other than SUBSCRIBE; 202 if nil.
	status func(call *executor.Call) int
	// subscribe answers a SUBSCRIBE; by default it opens the stream.
	subscribe func(w http.ResponseWriter, r *http.Request)
	// mute leaves updates unacknowledged.
	mute bool

	mu    sync.Mutex
	calls []*executor.Call
	times []time.Time
	// events go out on the stream that is open.
	events chan []byte
	// hangup ends the stream that is open.
	hangup chan struct{}
}

func newDouble(t *testing.T) *double {
	d := &double{t: t, events: make(chan []byte, 1000), hangup: make(chan struct{})}
	d.subscribe = d.stream
	return d
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var call executor.Call
	if err := call.Unmarshal(body); err != nil || r.URL.Path != "/api/v1/executor" || r.Method != http.MethodPost ||
		r.Header.Get("Content-Type") != protobuf || r.Header.Get("Accept") != protobuf || r.Header.Get("Authorization") != "Bearer token" ||
		call.FrameworkID.Value != "fw-1" || call.ExecutorID.Value != "ex-1" {
		d.t.Errorf("bad request %s %s %v %v: %v", r.Method, r.URL, r.Header, call, err)
	}
	d.mu.Lock()
	d.calls = append(d.calls, &call)
	d.times = append(d.times, time.Now())
	d.mu.Unlock()
	if call.Type == executor.Call_SUBSCRIBE {
		d.subscribe(w, r)
		return
	}
	status := http.StatusAccepted
	if d.status != nil {
		status = d.status(&call)
	}
	if status == http.StatusAccepted && call.Type == executor.Call_UPDATE && !d.mute {
		d.say(mesos.Acknowledged{TaskID: call.Update.Status.TaskID.Value, UUID: call.Update.Status.UUID})
	}
	w.WriteHeader(status)
}

func (d *double) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", protobuf)
	w.Write(d.frame(mesos.ExecutorSubscribed{AgentID: "a", Hostname: "h", FrameworkID: "fw-1", ExecutorID: "ex-1"}))
	w.(http.Flusher).Flush()
	for {
		select {
		case b := <-d.events:
			w.Write(b)
			w.(http.Flusher).Flush()
		case <-d.hangup:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (d *double) frame(e mesos.ExecutorEvent) []byte {
	w, err := wire.ToExecutorEvent(e, "fw-1")
	if err != nil {
		d.t.Error(err)
		return nil
	}
	b, err := w.Marshal()
	if err != nil {
		d.t.Error(err)
		return nil
	}
	return wire.AppendFrame(nil, b)
}

func (d *double) say(e mesos.ExecutorEvent) { d.events <- d.frame(e) }

func (d *double) all() []*executor.Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// seen writes the calls so far as text: updates as task:state, what a SUBSCRIBE lists in brackets.
func (d *double) seen() string {
	var out []string
	for _, c := range d.all() {
		switch c.Type {
		case executor.Call_SUBSCRIBE:
			var listed []string
			for _, t := range c.Subscribe.UnacknowledgedTasks {
				listed = append(listed, t.TaskID.Value)
			}
			for _, u := range c.Subscribe.UnacknowledgedUpdates {
				listed = append(listed, short(u))
			}
			out = append(out, "SUBSCRIBE["+strings.Join(listed, " ")+"]")
		case executor.Call_UPDATE:
			out = append(out, short(*c.Update))
		default:
			out = append(out, c.Type.String()+":"+string(c.GetMessage().GetData()))
		}
	}
	return strings.Join(out, " ")
}

func short(u executor.Call_Update) string {
	return u.Status.TaskID.Value + ":" + strings.TrimPrefix(u.Status.GetState().String(), "TASK_")
}

// runner is a Client that runs, and what it told.
type runner struct {
	*Client
	events chan mesos.ExecutorEvent
	cancel context.CancelFunc
	result chan error
}

func config(n *memnet.Network) Config {
	return Config{
		Endpoint: "10.0.0.9:5051", AgentID: "a", FrameworkID: "fw-1", ExecutorID: "ex-1", Token: "token",
		Checkpoint: true, RecoveryTimeout: 15 * time.Minute, SubscriptionBackoffMax: 2 * time.Second,
		Logger: zap.NewNop(), Rand: func() float64 { return 0 }, Dial: n.Dial,
	}
}

func start(t *testing.T, cfg Config) *runner {
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &runner{Client: c, events: make(chan mesos.ExecutorEvent, 1000), cancel: cancel, result: make(chan error, 1)}
	go func() { r.result <- c.Run(ctx, func(e mesos.ExecutorEvent) { r.events <- e }) }()
	return r
}

func (r *runner) stop() {
	r.cancel()
	<-r.result
}

func next[E mesos.ExecutorEvent](t *testing.T, r *runner) E {
	t.Helper()
	e := <-r.events
	got, ok := e.(E)
	if !ok {
		t.Fatalf("got %T %+v, want %T", e, e, got)
	}
	return got
}

func scene(t *testing.T, play func(t *testing.T, n *memnet.Network)) {
	synctest.Test(t, func(t *testing.T) { play(t, new(memnet.Network)) })
}
