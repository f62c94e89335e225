package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/wire"
)

func newUUID() string { return uuid.NewString() }

// Master runs the core: one goroutine takes one event after the other, all else only queues.
type Master struct {
	cfg    Config
	events chan func(*core)
	ready  atomic.Bool
	server *http.Server
	done   chan struct{}
}

// New makes a master; Run starts it.
func New(cfg Config) (*Master, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m := &Master{cfg: cfg, events: make(chan func(*core), 256), done: make(chan struct{})}
	m.server = &http.Server{Handler: m.handler(), ErrorLog: zap.NewStdLog(zap.NewNop()), ReadHeaderTimeout: 30 * time.Second}
	return m, nil
}

// URL is where clients reach the master.
func (m *Master) URL() string { return "http://" + m.cfg.Address }

// Run serves until the context ends. Open streams are cut, nothing is told to anybody: to the others it looks like
// a crash, which they must survive anyway.
func (m *Master) Run(ctx context.Context) error {
	defer close(m.done)
	served := make(chan error, 1)
	go func() { served <- m.server.Serve(m.cfg.Listener) }()
	defer m.server.Close()
	var reg registry
	if m.cfg.DataDir != "" {
		if err := os.MkdirAll(m.cfg.DataDir, 0o700); err != nil {
			return err
		}
		var err error
		if reg, err = loadRegistry(m.cfg.DataDir); err != nil {
			return err
		}
	}
	c := newCore(m.cfg, reg, time.Now())
	if m.cfg.DataDir != "" {
		c.save = func(r registry) error { return saveRegistry(m.cfg.DataDir, r) }
	}
	m.ready.Store(true)
	m.cfg.Log.Info("master is leading", zap.String("id", c.id), zap.String("address", m.cfg.Address), zap.Int("known_agents", len(c.recovered)))
	defer func() {
		for _, a := range c.agents {
			if a.out != nil {
				a.out.Close() // a hijacked connection is not the server's to close
			}
		}
	}()
	for {
		var due <-chan time.Time
		var timer *time.Timer
		if at := c.deadline(); !at.IsZero() {
			timer = time.NewTimer(time.Until(at))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("master: serve: %w", err)
		case <-due:
			c.tick(time.Now())
		case event := <-m.events:
			c.tick(time.Now()) // ticks that passed while there was nothing to do do not count for this event
			event(c)
			for more := true; more; { // what is queued already belongs to this turn
				select {
				case event := <-m.events:
					event(c)
				default:
					more = false
				}
			}
			c.tick(time.Now())
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// do runs a function in the core's goroutine and waits for it. It reports false if the master has ended.
func (m *Master) do(f func(*core)) bool {
	finished := make(chan struct{})
	if !m.post(func(c *core) { f(c); close(finished) }) {
		return false
	}
	select {
	case <-finished:
		return true
	case <-m.done:
		return false
	}
}

func (m *Master) post(f func(*core)) bool {
	select {
	case m.events <- f:
		return true
	case <-m.done:
		return false
	}
}

func (m *Master) handler() http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{"", "/master"} {
		mux.HandleFunc(prefix+"/api/v1/scheduler", m.scheduler)
		mux.HandleFunc(prefix+"/api/v1", m.operator)
		mux.HandleFunc(prefix+"/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		mux.HandleFunc(prefix+"/redirect", m.redirect)
	}
	mux.HandleFunc("/metrics/snapshot", m.metrics)
	mux.HandleFunc(wire.LinkPath, m.agent)
	return mux
}

func (m *Master) redirect(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Location", "//"+m.cfg.Address)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func (m *Master) metrics(w http.ResponseWriter, _ *http.Request) {
	values := map[string]float64{}
	m.do(func(c *core) {
		for _, metric := range c.measure() {
			values[metric.Name] = metric.GetValue()
		}
	})
	w.Header().Set("Content-Type", wire.JSON)
	_ = json.NewEncoder(w).Encode(values)
}

func (m *Master) unready(w http.ResponseWriter) bool {
	if m.ready.Load() {
		return false
	}
	wire.Refuse(http.StatusServiceUnavailable, "Master has not finished recovery").Write(w)
	return true
}

func (m *Master) scheduler(w http.ResponseWriter, r *http.Request) {
	if m.unready(w) {
		return
	}
	var call scheduler.Call
	if refusal := wire.ReadCall(w, r, &call); refusal != nil {
		refusal.Write(w)
		return
	}
	if err := refuseCall(&call); err != nil {
		wire.Refuse(http.StatusBadRequest, "Failed to validate scheduler::Call: %v", err).Write(w)
		return
	}
	id := r.Header.Get("Mesos-Stream-Id")
	if call.Type == scheduler.Call_SUBSCRIBE {
		m.subscribe(w, r, call.Subscribe, id)
		return
	}
	status, refusal := 0, wire.Refuse(http.StatusServiceUnavailable, "Master is shutting down")
	m.do(func(c *core) { status, refusal = c.call(&call, id) })
	if refusal != nil {
		refusal.Write(w)
		return
	}
	w.WriteHeader(status)
}

func (m *Master) subscribe(w http.ResponseWriter, r *http.Request, call *scheduler.Call_Subscribe, id string) {
	media, refusal := wire.Accepted(r)
	if refusal == nil && id != "" {
		refusal = wire.Refuse(http.StatusBadRequest, "Subscribe calls should not include the 'Mesos-Stream-Id' header")
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	out := wire.NewStream(m.cfg.NewUUID(), media)
	framework := ""
	if !m.do(func(c *core) {
		c.subscribe(call, out, out.ID)
		for _, f := range c.frameworks {
			if f.out == out {
				framework = f.id
			}
		}
	}) {
		return
	}
	out.Serve(w, r)
	m.post(func(c *core) { c.disconnected(framework, out) })
}

func (m *Master) operator(w http.ResponseWriter, r *http.Request) {
	if m.unready(w) {
		return
	}
	var call masterpb.Call
	refusal := wire.ReadCall(w, r, &call)
	media := ""
	if refusal == nil {
		media, refusal = wire.Accepted(r)
	}
	if refusal != nil {
		refusal.Write(w)
		return
	}
	if call.Type == masterpb.Call_SUBSCRIBE {
		out := wire.NewStream("", media)
		if m.do(func(c *core) { c.watch(out) }) {
			out.Serve(w, r)
			m.post(func(c *core) { delete(c.operators, out) })
		}
		return
	}
	var response *masterpb.Response
	if !m.do(func(c *core) { response, refusal = c.operate(&call) }) {
		refusal = wire.Refuse(http.StatusServiceUnavailable, "Master is shutting down")
	}
	switch {
	case refusal != nil:
		refusal.Write(w)
	case response == nil:
		w.WriteHeader(http.StatusOK)
	default:
		wire.Reply(w, media, response)
	}
}

// agent serves the link of one agent.
func (m *Master) agent(w http.ResponseWriter, r *http.Request) {
	if m.unready(w) {
		return
	}
	link, err := wire.Upgrade(w, r)
	if err != nil {
		m.cfg.Log.Warn("agent link refused", zap.String("remote", r.RemoteAddr), zap.Error(err))
		return
	}
	defer link.Close()
	first, err := link.Receive()
	var registration wire.Registration
	if err == nil && first.Kind != wire.Register {
		err = fmt.Errorf("first frame is %q", first.Kind)
	}
	if err == nil {
		err = json.Unmarshal(first.Data, &registration)
	}
	if err != nil {
		m.cfg.Log.Warn("agent did not register", zap.String("remote", r.RemoteAddr), zap.Error(err))
		return
	}
	var a *agent
	m.do(func(c *core) { a, err = c.register(link, registration) })
	if err != nil || a == nil {
		m.cfg.Log.Warn("agent refused", zap.String("remote", r.RemoteAddr), zap.Error(err))
		if err != nil {
			link.Send(wire.Frame{Kind: wire.Refused, Text: err.Error()})
		}
		return
	}
	for {
		f, err := link.Receive()
		if err != nil {
			break
		}
		if !m.post(func(c *core) {
			if a.out == link {
				c.frame(a, f)
			}
		}) {
			return
		}
	}
	m.post(func(c *core) { c.cut(a, link) })
}

// Addr is the address of the listener.
func (m *Master) Addr() net.Addr { return m.cfg.Listener.Addr() }
