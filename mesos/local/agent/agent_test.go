package agent

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"padis.io/padis/mesos/local/wire"
)

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{5 * time.Second: "5secs", 15 * time.Minute: "15mins", 1500 * time.Millisecond: "1.5secs", 0: "0ns", time.Hour: "1hrs", 20 * time.Millisecond: "20ms"} {
		if got := durationText(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func tarball(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFetch(t *testing.T) {
	var hits atomic.Int32
	files := map[string][]byte{
		"/bin/tool":   []byte("#!/bin/sh\n"),
		"/all.tar.gz": tarball(t, map[string]string{"sub/one": "1"}),
		"/all.zip":    zipped(t, "two", "2"),
		"/evil.tgz":   tarball(t, map[string]string{"../../outside": "x"}),
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		b, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(b)
	}))
	defer web.Close()
	local := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(local, []byte("l"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFetcher()
	cache := t.TempDir()
	fetch := func(dir string, uris ...mesos.CommandInfo_URI) error {
		return f.fetchAll(context.Background(), Launch{Dir: dir, Cache: cache, Command: mesos.CommandInfo{URIs: uris}})
	}
	tool := mesos.CommandInfo_URI{Value: web.URL + "/bin/tool", Executable: new(true), Cache: new(true)}
	var wait sync.WaitGroup
	for range 5 {
		dir := t.TempDir()
		wait.Go(func() {
			if err := fetch(dir, tool); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(filepath.Join(dir, "tool")); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("tool: %v %v", info, err)
			}
		})
	}
	wait.Wait()
	if n := hits.Load(); n != 1 {
		t.Errorf("a cached file was downloaded %d times", n)
	}
	dir := t.TempDir()
	err := fetch(dir, mesos.CommandInfo_URI{Value: web.URL + "/all.tar.gz"}, mesos.CommandInfo_URI{Value: web.URL + "/all.zip"},
		mesos.CommandInfo_URI{Value: "file://" + local, OutputFile: new("here/copy")}, mesos.CommandInfo_URI{Value: local, Extract: new(false)})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"sub/one": "1", "two": "2", "here/copy": "l", "local": "l"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	for _, bad := range []mesos.CommandInfo_URI{
		{Value: web.URL + "/missing"}, {Value: "ftp://x/y"}, {Value: web.URL + "/bin/tool", OutputFile: new("../out")}, {Value: web.URL + "/"},
		{Value: web.URL + "/evil.tgz"}, {Value: "http://127.0.0.1:1/x"}, {Value: "relative"},
	} {
		if err := fetch(t.TempDir(), bad); err == nil {
			t.Errorf("%v was fetched", bad)
		}
	}
}

// quiet is a launcher that starts nothing.
type quiet struct{ started []Launch }

func (*quiet) Bind(Reports)                      {}
func (q *quiet) Start(l Launch)                  { q.started = append(q.started, l) }
func (*quiet) Kill(string)                       {}
func (*quiet) Adopt(string, int, uint64, string) {}

func testCore() *core {
	c := newCore(Config{IP: "127.0.0.1", WorkDir: "/work", BootID: "b", Launcher: &quiet{}, Log: zap.NewNop(), NewUUID: uuid.NewString,
		ExecutorRegistrationTimeout: time.Minute, ExecutorReregistrationTimeout: 2 * time.Second, ExecutorShutdownGrace: 5 * time.Second,
	}, mesos.AgentInfo{Port: new(int32(5051))}, time.Unix(1e9, 0))
	c.id = "S0"
	return c
}

// A journal leads to the state it came from, wherever it was cut: same executors, same tasks, same pending updates;
// and so does its compact form.
func TestJournalLeadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := testCore()
		c.noteAgent()
		tasks := 0
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for range steps {
			info := mesos.FrameworkInfo{User: "u", Name: "n", ID: &mesos.FrameworkID{Value: rapid.SampledFrom([]string{"f", "g"}).Draw(t, "framework")}, Checkpoint: new(true)}
			executors := c.executors()
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				tasks++
				c.run(info, []mesos.TaskInfo{{Name: "t", TaskID: mesos.TaskID{Value: fmt.Sprint("t", tasks)}, AgentID: mesos.AgentID{Value: "S0"},
					Executor: &mesos.ExecutorInfo{ExecutorID: mesos.ExecutorID{Value: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "executor")}}}}, []bool{true})
			case 2:
				for _, e := range executors {
					if e.state == registering {
						c.started(e.container, 100+tasks, 7)
						e.state = running
					}
					for _, task := range e.byAge() {
						if terminal(task.state) {
							continue
						}
						u := uuid.New()
						state := rapid.SampledFrom([]mesos.TaskState{mesos.TASK_RUNNING, mesos.TASK_FINISHED}).Draw(t, "state")
						c.update(e.framework, e, mesos.TaskStatus{TaskID: task.info.TaskID, State: &state, UUID: u[:]}, true)
					}
				}
			case 3:
				for _, key := range sortedKeys(c.updates) {
					if s := c.updates[key]; len(s.pending) > 0 {
						c.schedulerAcknowledged(key.framework, key.task, s.pending[0].UUID)
						break
					}
				}
			case 4:
				if len(executors) > 0 {
					c.ended(rapid.SampledFrom(executors).Draw(t, "ended").container, 0, "")
				}
			}
		}
		want := picture(c)
		records := slices.Clone(c.journal)
		again := testCore()
		_, processes := again.replay(records)
		if got := picture(again); got != want {
			t.Fatalf("the journal leads to\n%s\nnot to\n%s", got, want)
		}
		compact := testCore()
		compact.replay(again.snapshot(processes))
		if got := picture(compact); got != want {
			t.Fatalf("the compact journal leads to\n%s\nnot to\n%s", got, want)
		}
		cut := testCore()
		cut.replay(records[:rapid.IntRange(0, len(records)).Draw(t, "cut")])
		cut.recover("other boot", nil)
		cut.tick(time.Unix(2e9, 0))
	})
}

// picture is what must survive a restart, as text.
func picture(c *core) string {
	var lines []string
	for _, e := range c.executors() {
		lines = append(lines, fmt.Sprint("executor ", e.framework.id, " ", e.id, " ", e.container, " ended ", e.state == terminated))
		for _, task := range e.byAge() {
			lines = append(lines, fmt.Sprint("task ", e.id, " ", task.info.TaskID.Value, " ", task.state))
		}
	}
	for _, key := range sortedKeys(c.updates) {
		for _, s := range c.updates[key].pending {
			lines = append(lines, fmt.Sprintf("pending %v %v %x", key, s.GetState(), s.UUID))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func FuzzDecodeJournal(f *testing.F) {
	f.Add([]byte(`{"k":"agent","a":"S0","o":"b"}` + "\n" + `{"k":"framework","f":"f"}` + "\n"))
	f.Add([]byte(`{"k":"exec`))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decodeJournal(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		c := testCore()
		boot, processes := c.replay(records)
		c.recover(boot, processes)
		c.snapshot(processes)
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"))
	f.Fuzz(func(_ *testing.T, b []byte) { parseStat(b) })
}

func FuzzOutputName(f *testing.F) {
	f.Add("http://x/../../etc/passwd", "")
	f.Add("http://x/y", "../z")
	f.Fuzz(func(t *testing.T, uri, output string) {
		name, err := outputName(mesos.CommandInfo_URI{Value: uri, OutputFile: &output})
		if err == nil && !filepath.IsLocal(name) {
			t.Fatalf("%q leads out of the sandbox", name)
		}
	})
}

// What the master says may be anything.
func FuzzMasterFrames(f *testing.F) {
	f.Add("run", []byte{}, []byte{1})
	f.Add("registered", []byte(`{"agent_id":"a","unknown":[{"framework":"f","task":"t"}]}`), []byte{})
	f.Fuzz(func(_ *testing.T, kind string, data, body []byte) {
		c := testCore()
		c.frame(frameOf(kind, data, body))
		c.tick(time.Unix(2e9, 0))
		c.state()
	})
}

func frameOf(kind string, data, body []byte) wire.Frame {
	return wire.Frame{Kind: wire.Kind(kind), Framework: "f", Executor: "e", Task: string(body), Data: data, Bodies: [][]byte{body, data}, Launch: []bool{true}}
}
