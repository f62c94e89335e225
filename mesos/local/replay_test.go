package local

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"padis.io/padis/mesos/local/agent"
)

// line is one line of a recording.
type line struct {
	T       float64           `json:"t"`
	Conn    string            `json:"conn"`
	Dir     string            `json:"dir"`
	Kind    string            `json:"kind"`
	Status  *int              `json:"http_status"`
	Req     int               `json:"req"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    any               `json:"body"`
}

func loadRecording(t *testing.T, name string) []line {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "recordings", name+".jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []line
	for d := json.NewDecoder(z); ; {
		var l line
		if err := d.Decode(&l); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
}

// get walks into decoded JSON.
func get(v any, path ...string) any {
	for _, p := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[p]
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func str(v any, path ...string) string { s, _ := get(v, path...).(string); return s }

func list(v any, path ...string) []any { l, _ := get(v, path...).([]any); return l }

// replay drives a master and agents with the calls of a recording and keeps what they answer.
type replay struct {
	t        *testing.T
	scenario scenario
	lines    []line
	begin    time.Time
	network  *network
	cluster  *Cluster
	client   *http.Client
	masterID string
	address  string            // of the master
	agents   []string          // addresses, by number
	executor map[string]string // EXEC_NAME -> address of its agent

	mu         sync.Mutex
	got        map[string][]line // events by conn
	answers    map[string]line   // "conn req" or "conn #n" -> answer
	streams    map[string]*openStream
	containers map[string]*fakeExecutor // by container
	byName     map[string]*fakeExecutor // by EXEC_NAME, the latest
	offers     map[string]string        // recorded id -> ours
	recorded   map[string][]line        // conn -> recorded OFFERS in order
	seenOffers map[string]int
	raw        map[string]int
	launchers  map[int]*fakeLauncher
}

type openStream struct {
	id     string
	cancel context.CancelFunc
	done   chan struct{}
}

// fakeExecutor is a process that exists only in the recording.
type fakeExecutor struct {
	container, id, name string
	launcher            *fakeLauncher
	ended               bool
}

// fakeLauncher starts executors of the recording.
type fakeLauncher struct {
	r       *replay
	number  int
	reports agent.Reports
}

func (l *fakeLauncher) Bind(reports agent.Reports) { l.reports = reports }

func (l *fakeLauncher) Start(launch agent.Launch) {
	e := &fakeExecutor{container: launch.Container, id: launch.Executor, launcher: l}
	for _, v := range launch.Env {
		if name, ok := strings.CutPrefix(v, "EXEC_NAME="); ok {
			e.name = name
		}
	}
	l.r.mu.Lock()
	l.r.containers[e.container] = e
	l.r.byName[e.name] = e
	l.r.mu.Unlock()
	if outcome, ok := l.r.scenario.launches[e.id]; ok {
		go func() {
			<-time.After(100 * time.Millisecond)
			l.end(e, outcome.status, strings.ReplaceAll(outcome.failure, "CONTAINER", e.container))
		}()
		return
	}
	go l.reports.Started(e.container, 4242, 1)
}

func (l *fakeLauncher) Kill(container string) {
	l.r.mu.Lock()
	e := l.r.containers[container]
	l.r.mu.Unlock()
	go func() {
		<-time.After(20 * time.Millisecond)
		e.launcher.r.exit(e, 9)
	}()
}

func (l *fakeLauncher) Adopt(container string, _ int, _ uint64, _ string) {
	l.r.mu.Lock()
	e := l.r.containers[container]
	e.launcher = l
	ended := e.ended
	l.r.mu.Unlock()
	if ended {
		go l.reports.Ended(container, -1, "")
	}
}

func (l *fakeLauncher) end(e *fakeExecutor, status int, failure string) {
	l.r.mu.Lock()
	first := !e.ended
	e.ended = true
	reports := e.launcher.reports
	l.r.mu.Unlock()
	if first {
		reports.Ended(e.container, status, failure)
	}
}

// exit ends an executor: its connection and its process.
func (r *replay) exit(e *fakeExecutor, status int) {
	if e == nil {
		r.t.Errorf("%.3f an executor should end that never started", r.now())
		return
	}
	r.closeStream(e.name)
	r.mu.Lock()
	l := e.launcher
	r.mu.Unlock()
	l.end(e, status, "")
}

func (r *replay) closeStream(conn string) {
	r.mu.Lock()
	s := r.streams[conn]
	delete(r.streams, conn)
	r.mu.Unlock()
	if s != nil {
		s.cancel()
		<-s.done
	}
}

// TestReplay holds master and agents against the recordings of Apache Mesos 1.11.
func TestReplay(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			lines := loadRecording(t, sc.name)
			synctest.Test(t, func(t *testing.T) {
				r := newReplay(t, sc, lines)
				r.start(dir)
				r.run()
				r.compare()
				r.stop()
			})
		})
	}
}

var masterIDPattern = regexp.MustCompile(`^(.*)-\d{4}$`)

func newReplay(t *testing.T, sc scenario, lines []line) *replay {
	r := &replay{
		t: t, scenario: sc, lines: lines, network: newNetwork(), executor: map[string]string{}, got: map[string][]line{}, answers: map[string]line{},
		streams: map[string]*openStream{}, containers: map[string]*fakeExecutor{}, byName: map[string]*fakeExecutor{}, offers: map[string]string{},
		recorded: map[string][]line{}, seenOffers: map[string]int{}, raw: map[string]int{}, launchers: map[int]*fakeLauncher{},
	}
	r.client = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return r.network.dialFrom("")(ctx, address)
		},
	}}
	return r
}

// start brings up what the recording shows: the same ids, ports, attributes and resources, ticks in the same phase.
func (r *replay) start(dir string) {
	type offered struct{ address, attributes, resources string }
	agents := map[int]offered{}
	for _, l := range r.lines {
		if l.Conn == "sched1" && str(l.Body, "type") == "SUBSCRIBED" && r.masterID == "" {
			r.masterID = masterIDPattern.FindStringSubmatch(str(l.Body, "subscribed", "framework_id", "value"))[1]
			r.address = str(l.Body, "subscribed", "master_info", "pid")[len("master@"):]
		}
		if l.Dir != "in" || str(l.Body, "type") != "OFFERS" {
			continue
		}
		r.recorded[l.Conn] = append(r.recorded[l.Conn], l)
		for _, o := range list(l.Body, "offers", "offers") {
			id := str(o, "agent_id", "value")
			n, err := strconv.Atoi(id[strings.LastIndex(id, "-S")+2:])
			if err != nil {
				r.t.Fatal(err)
			}
			if _, known := agents[n]; !known {
				port, _ := get(o, "url", "address", "port").(float64)
				agents[n] = offered{fmt.Sprintf("127.0.0.1:%d", int(port)), flagText(list(o, "attributes")), flagText(list(o, "resources"))}
			}
		}
	}
	phase, interval := r.ticks()
	cfg := Config{Dir: dir, Listen: func(address string) (net.Listener, error) {
		if address == "" {
			address = r.address
		}
		return r.network.listen(address)
	}}
	cfg.Master = r.scenario.master
	cfg.Master.ID, cfg.Master.AllocationInterval = r.masterID, interval
	for _, n := range slices.Sorted(maps.Keys(agents)) {
		l := &fakeLauncher{r: r, number: n}
		r.launchers[n] = l
		r.agents = append(r.agents, agents[n].address)
		a := r.scenario.agent
		a.Attributes, a.Resources, a.Hostname, a.BootID, a.Launcher = agents[n].attributes, agents[n].resources, "127.0.0.1", "boot", l
		a.Dial = r.network.dialFrom(agents[n].address)
		cfg.Agents = append(cfg.Agents, a)
	}
	made := time.Now()
	var err error
	if r.cluster, err = Start(Config{Dir: cfg.Dir, Listen: cfg.Listen, Master: cfg.Master}); err != nil {
		r.t.Fatal(err)
	}
	for i := range cfg.Agents {
		address := r.agents[i]
		r.cluster.cfg.Agents = append(r.cluster.cfg.Agents, cfg.Agents[i])
		r.cluster.agents = append(r.cluster.agents, nil)
		r.cluster.cfg.Listen = func(a string) (net.Listener, error) { return r.network.listen(cmp.Or(a, address)) }
		if err := r.cluster.RestartAgent(i); err != nil {
			r.t.Fatal(err)
		}
		synctest.Wait()
		<-time.After(200 * time.Millisecond) // registered, in this order
	}
	// The scenario begins so that its ticks fall where the recording has them.
	begin := made.Add(10*interval - phase)
	<-time.After(time.Until(begin))
	r.begin = begin
}

// ticks finds the phase and the interval of allocation in the times of offers that no call provoked.
func (r *replay) ticks() (phase, interval time.Duration) {
	var times []float64
	provoked := -1.0
	for _, l := range r.lines {
		kind := str(l.Body, "type")
		switch {
		case l.Dir == "out" && (kind == "SUBSCRIBE" || kind == "REVIVE") && strings.HasPrefix(l.Conn, "sched"), l.Conn == "raw1":
			provoked = l.T
		case l.Dir == "in" && kind == "OFFERS" && l.T-provoked > 0.15 && !slices.ContainsFunc(r.scenario.notTicks, func(t float64) bool { return math.Abs(t-l.T) < 0.1 }):
			times = append(times, l.T)
		}
	}
	if r.scenario.tick > 0 {
		times = []float64{r.scenario.tick}
	}
	if len(times) == 0 {
		return 500 * time.Millisecond, time.Second
	}
	every := 1.0012 // what an interval of 1 s takes in the recordings
	if n := math.Round(times[len(times)-1] - times[0]); n > 0 {
		every = (times[len(times)-1] - times[0]) / n
	}
	const early = 0.008 // the offers reach the scheduler a moment after the tick
	first := math.Mod(times[0]-early, every)
	return time.Duration(first * 1e9), time.Duration(every * 1e9)
}

// flagText turns attributes or resources of an offer back into the text of a flag.
func flagText(items []any) string {
	var parts []string
	for _, item := range items {
		value := str(item, "text", "value")
		switch str(item, "type") {
		case "SCALAR":
			v, _ := get(item, "scalar", "value").(float64)
			value = strconv.FormatFloat(v, 'f', -1, 64)
		case "RANGES":
			var ranges []string
			for _, x := range list(item, "ranges", "range") {
				begin, _ := get(x, "begin").(float64)
				end, _ := get(x, "end").(float64)
				ranges = append(ranges, fmt.Sprintf("%d-%d", int(begin), int(end)))
			}
			value = "[" + strings.Join(ranges, ",") + "]"
		case "SET":
			var names []string
			for _, x := range list(item, "set", "item") {
				names = append(names, fmt.Sprint(x))
			}
			value = "{" + strings.Join(names, ",") + "}"
		}
		parts = append(parts, str(item, "name")+":"+value)
	}
	// Mesos lists scalars first in the total of an agent, as its flags did.
	slices.SortStableFunc(parts, func(a, b string) int {
		return cmp.Compare(strings.Count(a, "["), strings.Count(b, "["))
	})
	return strings.Join(parts, ";")
}

// run does what the harness of the recording did, when it did it.
func (r *replay) run() {
	var wait sync.WaitGroup
	timed := slices.DeleteFunc(slices.Clone(r.scenario.steps), func(s step) bool { return s.note != "" })
	for i, l := range r.lines {
		if l.Dir == "in" {
			continue
		}
		for len(timed) > 0 && timed[0].at <= l.T {
			<-time.After(time.Until(r.begin.Add(time.Duration(timed[0].at * 1e9))))
			synctest.Wait()
			timed[0].do(r)
			timed = timed[1:]
		}
		<-time.After(time.Until(r.begin.Add(time.Duration(l.T * 1e9))))
		synctest.Wait()
		switch {
		case l.Dir == "meta":
			r.note(l)
		case r.blocked(i):
			wait.Go(func() { r.send(l) })
			synctest.Wait()
		default:
			r.send(l)
		}
	}
	<-time.After(3 * time.Second)
	wait.Wait()
}

// blocked tells whether the answer to a call came only after other things had to happen.
func (r *replay) blocked(i int) bool {
	l := r.lines[i]
	for _, a := range r.lines[i+1:] {
		if a.Conn == l.Conn && a.Dir == "in" && a.Kind == "http" && a.Req == l.Req {
			return a.T-l.T > 1
		}
	}
	return false
}

var exitPattern = regexp.MustCompile(`^executor exits (?:with code )?(\d+)`)

func (r *replay) note(l line) {
	text, _ := l.Body.(string)
	switch {
	case strings.HasPrefix(l.Conn, "exec"):
		if m := exitPattern.FindStringSubmatch(text); m != nil {
			code, _ := strconv.Atoi(m[1])
			r.mu.Lock()
			e := r.byName[l.Conn]
			r.mu.Unlock()
			r.exit(e, code<<8)
		}
	case strings.HasPrefix(l.Conn, "sched") && strings.HasPrefix(text, "event stream ended"):
		synctest.Wait()
		r.mu.Lock()
		s := r.streams[l.Conn]
		if old := r.streams["replaced "+l.Conn]; old != nil {
			s = old // the scheduler subscribed again on another connection
			delete(r.streams, "replaced "+l.Conn)
		}
		r.mu.Unlock()
		if s == nil {
			return
		}
		select {
		case <-s.done:
		default:
			if !slices.Contains(r.scenario.hangsUp, l.Conn) {
				r.t.Errorf("%.3f %s: the stream should have ended", l.T, l.Conn)
			}
		}
		s.cancel()
		<-s.done
	default:
		for _, step := range r.scenario.steps {
			if step.note != "" && strings.Contains(text, step.note) {
				step.do(r)
			}
		}
	}
}

func (r *replay) stop() {
	r.mu.Lock()
	var open []string
	for conn := range r.streams {
		open = append(open, conn)
	}
	executors := slices.Collect(maps.Values(r.containers))
	r.mu.Unlock()
	for _, address := range r.agents {
		r.network.gate(address).set(false)
	}
	for _, conn := range open {
		r.closeStream(conn)
	}
	r.cluster.Stop()
	for _, e := range executors {
		e.ended = true
	}
	r.client.CloseIdleConnections()
	synctest.Wait()
}
