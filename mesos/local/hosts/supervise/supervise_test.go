package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// fakeChild ends when it is told to, or at once when it is killed.
type fakeChild struct {
	name   string
	pid    int
	log    func(format string, args ...any)
	polite bool
	once   sync.Once
	done   chan struct{}
	status syscall.WaitStatus
}

func (c *fakeChild) Pid() int                   { return c.pid }
func (c *fakeChild) Done() <-chan struct{}      { return c.done }
func (c *fakeChild) Status() syscall.WaitStatus { return c.status }
func (c *fakeChild) Signal(sig syscall.Signal) error {
	c.log("%s: signal %d", c.name, int(sig))
	if sig == syscall.SIGKILL || c.polite {
		c.end(syscall.WaitStatus(sig))
	}
	return nil
}

func (c *fakeChild) end(status syscall.WaitStatus) {
	c.once.Do(func() {
		c.status = status
		close(c.done)
	})
}

// machine starts fake children and writes down what happens, with the time since the beginning.
type machine struct {
	mu       sync.Mutex
	began    time.Time
	lines    []string
	children map[string]*fakeChild
	pids     int
	// fail makes the next starts of a service fail.
	fail   map[string]int
	polite bool
}

func newMachine() *machine {
	return &machine{began: time.Now(), children: map[string]*fakeChild{}, fail: map[string]int{}, polite: true}
}

func (m *machine) log(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, fmt.Sprintf("%v ", time.Since(m.began))+fmt.Sprintf(format, args...))
}

func (m *machine) supervisor() *Supervisor {
	return &Supervisor{
		notify: func(e Event) { m.log("%s %s pid=%d %q retry=%v", e.Service, e.Kind, e.Pid, e.Detail, e.RetryIn) },
		start: func(c Command) (child, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.fail[c.Path] > 0 {
				m.fail[c.Path]--
				return nil, errors.New("no such program")
			}
			m.pids++
			child := &fakeChild{name: c.Path, pid: m.pids, log: m.log, polite: m.polite, done: make(chan struct{})}
			m.children[c.Path] = child
			return child, nil
		},
	}
}

func (m *machine) end(name string, status syscall.WaitStatus) {
	m.mu.Lock()
	child := m.children[name]
	m.mu.Unlock()
	child.end(status)
}

func (m *machine) transcript() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.lines)
}

func service(name string, stage int) Service {
	return Service{
		Name: name, Stage: stage, Grace: 3 * time.Second,
		Command: func() (Command, error) { return Command{Path: name}, nil },
		Backoff: Backoff{First: time.Second, Max: 4 * time.Second, StableAfter: time.Minute},
	}
}

func expect(t *testing.T, m *machine, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := m.transcript(); !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestRestartsWithBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.fail["a"] = 2
		s := m.supervisor()
		s.Add(service("a", 0))
		// Three failures, a stable run, a failure.
		<-time.After(3 * time.Second)
		synctest.Wait()
		m.end("a", 1<<8)
		<-time.After(4 * time.Second)
		<-time.After(time.Minute)
		synctest.Wait()
		m.end("a", syscall.WaitStatus(syscall.SIGKILL))
		<-time.After(time.Second)
		synctest.Wait()
		s.Stop()
		expect(t, m,
			`0s a ended pid=0 "no such program" retry=1s`,
			`1s a ended pid=0 "no such program" retry=2s`,
			`3s a started pid=1 "" retry=0s`,
			`3s a ended pid=0 "exit status 1" retry=4s`,
			`7s a started pid=2 "" retry=0s`,
			`1m7s a ended pid=0 "killed by killed" retry=1s`,
			`1m8s a started pid=3 "" retry=0s`,
			`1m8s a: signal 15`,
			`1m8s a stopped pid=0 "killed by terminated" retry=0s`,
		)
	})
}

func TestStopsInStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.polite = false
		s := m.supervisor()
		s.Add(service("last", 2))
		synctest.Wait()
		s.Add(service("first", 1))
		synctest.Wait()
		s.Stop()
		s.Add(service("late", 1))
		expect(t, m,
			`0s last started pid=1 "" retry=0s`,
			`0s first started pid=2 "" retry=0s`,
			`0s first: signal 15`,
			`3s first: signal 9`,
			`3s first stopped pid=0 "killed by killed" retry=0s`,
			`3s last: signal 15`,
			`6s last: signal 9`,
			`6s last stopped pid=0 "killed by killed" retry=0s`,
		)
	})
}

func TestStopDuringBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.fail["a"] = 1
		s := m.supervisor()
		s.Add(service("a", 0))
		synctest.Wait()
		s.Stop()
		expect(t, m, `0s a ended pid=0 "no such program" retry=1s`)
	})
}

func TestFailedWiringKillsTheChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		s := m.supervisor()
		broken := service("a", 0)
		broken.Started = func(pid int, err error) error {
			if pid == 1 {
				return errors.New("no bridge")
			}
			return err
		}
		s.Add(broken)
		<-time.After(time.Second)
		synctest.Wait()
		s.Stop()
		expect(t, m,
			`0s a: signal 9`,
			`0s a ended pid=0 "no bridge" retry=1s`,
			`1s a started pid=2 "" retry=0s`,
			`1s a: signal 15`,
			`1s a stopped pid=0 "killed by terminated" retry=0s`,
		)
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{First: time.Duration(rapid.Int64Range(1, 1e9).Draw(t, "first")), StableAfter: time.Hour}
		b.Max = b.First * time.Duration(rapid.IntRange(1, 100).Draw(t, "factor"))
		failures, last := 0, time.Duration(0)
		for range rapid.IntRange(1, 100).Draw(t, "rounds") {
			var delay time.Duration
			failures, delay = b.Next(failures, 0)
			if delay < b.First || delay > b.Max || delay < last {
				t.Fatalf("delay %v after %v", delay, last)
			}
			last = delay
		}
		if failures, delay := b.Next(failures, time.Hour); delay != b.First || failures != 1 {
			t.Fatalf("after a stable run: %v, %d failures", delay, failures)
		}
	})
}

func TestTrimLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := TrimLog(dir, "a", 4); err != nil {
		t.Errorf("no log yet: %v", err)
	}
	f, err := OpenLog(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, text := range []string{"12345", "678"} {
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := TrimLog(dir, "a", 4); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"a.log": "678", "a.log.1": "12345"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}
