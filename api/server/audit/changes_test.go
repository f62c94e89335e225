package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"padis.io/padis/api/server/audit/change"
)

func read(t *testing.T, l *Log, q change.Query) string {
	t.Helper()
	var out bytes.Buffer
	if err := l.Read(t.Context(), q, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestChangesAreReadBack(t *testing.T) {
	t.Parallel()
	l, err := Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if !l.Changed(change.Line{Time: now, Event: change.Changed, Name: fmt.Sprintf("web-%d", i), User: "alice"}) {
				t.Error("lost")
			}
		})
	}
	all.Wait()
	if _, err := l.Begin(Entry{User: "alice", Verb: "exec", Instance: "web-1"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(read(t, l, change.Query{}), "\n"); got != 50 {
		t.Errorf("%d lines, want 50", got)
	}
	if got := read(t, l, change.Query{Name: "web-1"}); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"name":"web-1"`) {
		t.Errorf("got %s", got)
	}
	if got := read(t, l, change.Query{Since: now.Add(time.Hour)}); got != "" {
		t.Errorf("of the future: %s", got)
	}
	if l.Changed(change.Line{Event: change.Changed}) {
		t.Error("a closed log took a line")
	}
}

func TestFilesPutAsideAreRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l.Changed(change.Line{Time: time.Now(), Event: change.Changed, Name: "old"})
	eventually(t, func() bool { return strings.Contains(read(t, l, change.Query{}), "old") })
	if err := l.file.Rotate(); err != nil {
		t.Fatal(err)
	}
	l.Changed(change.Line{Time: time.Now(), Event: change.Changed, Name: "new"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash cut off is no line.
	f, err := os.OpenFile(filepath.Join(dir, "audit.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"event":"change","na`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got := read(t, l, change.Query{})
	if first, second, ok := strings.Cut(got, "\n"); !ok || !strings.Contains(first, "old") || !strings.Contains(second, "new") || strings.Count(got, "\n") != 2 {
		t.Errorf("got %s", got)
	}
}

func TestWhatIsLostIsCounted(t *testing.T) {
	t.Parallel()
	l, err := Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock() // the disk hangs
	began, lost := time.Now(), 0
	for range queued + 10 {
		if !l.Changed(change.Line{Event: change.Changed, Name: strings.Repeat("x", 1000)}) {
			lost++
		}
		if lost == 2 {
			break
		}
	}
	for lost < 2 {
		if !l.Changed(change.Line{Event: change.Changed, Name: strings.Repeat("x", 1000)}) {
			lost++
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("requests were held up for %s", took)
	}
	l.mu.Unlock()
	if l.Missing() != 2 {
		t.Errorf("%d missing, want 2", l.Missing())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, l, change.Query{Name: "nobody"}); !strings.Contains(got, `"event":"lost","missing":2}`) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %.200s", got)
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatal("not within 10 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func BenchmarkChanged(b *testing.B) {
	l, err := Open(b.TempDir(), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	line := change.Line{Time: time.Now(), Event: change.Changed, User: "alice", Name: "web", Fields: []change.Field{{Path: "spec.replicas", Before: []byte("2"), After: []byte("5")}}}
	for b.Loop() {
		l.Changed(line)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(l.Missing()), "lost")
}
