package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// ticking is a clock that goes on by a second at each look.
func ticking() func() time.Time {
	now := time.Unix(1_700_000_000, 0)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", path, info.Mode(), err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func TestASessionHasTwoLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(dir, ticking())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Begin(Entry{User: "alice", Groups: []string{"g"}, Verb: "exec", Namespace: "shop", Instance: "web-0", Command: []string{"sh"}})
	if err != nil {
		t.Fatal(err)
	}
	code := 3
	if err := s.End(&code, nil, 1, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.End(nil, errors.New("broke off"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := lines(t, filepath.Join(dir, "audit.log"))
	var begin, end, failed Entry
	for i, e := range []*Entry{&begin, &end, &failed} {
		if err := json.Unmarshal([]byte(got[i]), e); err != nil {
			t.Fatal(err)
		}
	}
	if begin.Event != "begin" || begin.User != "alice" || begin.Session == "" || begin.ExitCode != nil {
		t.Errorf("begin: %+v", begin)
	}
	if end.Event != "end" || end.Session != begin.Session || *end.ExitCode != 3 || end.DurationMS != 1000 || end.BytesIn != 1 || end.BytesOut != 2 || end.Result != "ok" {
		t.Errorf("end: %+v", end)
	}
	if failed.Result != "broke off" {
		t.Errorf("failed: %+v", failed)
	}
}

func TestWhereNothingCanBeWrittenNothingBegins(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, time.Now); err == nil {
		t.Error("an audit log below a file was opened")
	}
	if _, _, err := (&Log{dir: file, clock: time.Now}).Record(Header{}); err == nil {
		t.Error("a recording below a file was begun")
	}
}

func TestRecordingIsAnAsciicast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := Open(dir, ticking())
	if err != nil {
		t.Fatal(err)
	}
	r, path, err := l.Record(Header{Namespace: "shop", Instance: "web-0", User: "../al ice", Command: []string{"sh", "-l"}, Width: 100, Height: 40})
	if err != nil {
		t.Fatal(err)
	}
	if want := "recordings/shop/web-0-20231114T221321.000000000Z-.._al_ice.cast"; path != want {
		t.Errorf("path %s, want %s", path, want)
	}
	euro := []byte("€")
	for _, err := range []error{
		r.Input([]byte("ls\r")), r.Output(append([]byte("a"), euro[0])), r.Output(euro[1:]), r.Resize(120, 50), r.Output([]byte{0xff, 'b'}), r.Output(euro[:2]), r.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := lines(t, filepath.Join(dir, path))
	want := []string{
		`{"version":2,"width":100,"height":40,"timestamp":1700000001,"command":"sh -l","title":"../al ice in shop/web-0"}`,
		`[1,"i","ls\r"]`, `[2,"o","a"]`, `[3,"o","€"]`, `[4,"r","120x50"]`, `[5,"o","` + "\uFFFD" + `b"]`, `[6,"o","` + "\uFFFD" + `"]`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := r.Output([]byte("x")); err == nil {
		t.Error("nothing was written, and nobody was told")
	}
}

func FuzzComplete(f *testing.F) {
	f.Add([]byte("a€"))
	f.Add([]byte{0xe2, 0x82})
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, rest := complete(b)
		if !bytes.Equal(append(append([]byte{}, whole...), rest...), b) || len(rest) >= utf8.UTFMax {
			t.Errorf("%x: %x and %x", b, whole, rest)
		}
	})
}
