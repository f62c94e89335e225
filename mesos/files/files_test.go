package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/agent"

	"padis.io/padis/mesos/wire/memnet"
)

const (
	host = "10.0.0.9:5051"
	base = "http://" + host
	path = "/frameworks/f/executors/e/runs/latest/tasks/t/stdout"
)

// double plays the agent's file calls.
type double struct {
	t *testing.T

	mu    sync.Mutex
	files map[string]string
	// fail answers instead, if set.
	fail  func(w http.ResponseWriter)
	calls int
}

func (d *double) set(path, content string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if content == "" {
		delete(d.files, path)
		return
	}
	d.files[path] = content
}

func (d *double) broken(fail func(w http.ResponseWriter)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	body, _ := io.ReadAll(r.Body)
	var call agent.Call
	if err := call.Unmarshal(body); err != nil || call.Type != agent.Call_READ_FILE || r.URL.Path != "/api/v1" || r.Method != http.MethodPost {
		d.t.Errorf("bad request %s %s: %v", r.Method, r.URL, err)
	}
	if d.fail != nil {
		d.fail(w)
		return
	}
	content, ok := d.files[call.ReadFile.Path]
	if !ok {
		http.Error(w, "Failed to read file: no such file", http.StatusNotFound)
		return
	}
	from := min(call.ReadFile.Offset, uint64(len(content)))
	to := min(from+min(*call.ReadFile.Length, chunk), uint64(len(content)))
	answer(d.t, w, &agent.Response{Type: agent.Response_READ_FILE,
		ReadFile: &agent.Response_ReadFile{Size_: uint64(len(content)), Data: []byte(content[from:to])}})
}

func answer(t *testing.T, w http.ResponseWriter, resp *agent.Response) {
	b, err := resp.Marshal()
	if err != nil {
		t.Error(err)
	}
	w.Header().Set("Content-Type", protobuf)
	w.Write(b)
}

func scene(t *testing.T, play func(t *testing.T, d *double, c *Client)) {
	synctest.Test(t, func(t *testing.T) {
		n := new(memnet.Network)
		d := &double{t: t, files: map[string]string{}}
		defer n.Serve(host, d)()
		c := New(Config{Dial: n.Dial})
		defer c.http.CloseIdleConnections()
		play(t, d, c)
	})
}

func TestTaskPath(t *testing.T) {
	if got := TaskPath("f", "e", "t", "stdout"); got != path {
		t.Fatal(got)
	}
}

func TestRead(t *testing.T) {
	scene(t, func(t *testing.T, d *double, c *Client) {
		big := strings.Repeat("0123456789abcdef", chunk/8)
		d.set(path, big)
		for _, r := range []struct {
			offset, length int64
			want           string
		}{
			{0, 10, big[:10]}, {5, 1, big[5:6]}, {0, 0, ""}, {int64(len(big)) - 3, 100, big[len(big)-3:]},
			{int64(len(big)), 5, ""}, {1 << 40, 5, ""}, {0, 1 << 40, big[:chunk]},
		} {
			data, size, err := c.Read(t.Context(), base, path, r.offset, r.length)
			if err != nil || string(data) != r.want || size != int64(len(big)) {
				t.Errorf("%d+%d: %d bytes, size %d, %v", r.offset, r.length, len(data), size, err)
			}
		}
	})
}

func TestReadErrors(t *testing.T) {
	ok := func(t *testing.T, r *agent.Response) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { answer(t, w, r) }
	}
	for _, c := range []struct {
		name string
		fail func(t *testing.T) func(http.ResponseWriter)
		is   error
		why  string
	}{
		{"not there", func(*testing.T) func(http.ResponseWriter) { return nil }, ErrNotFound, "no such file"},
		{"forbidden", func(*testing.T) func(http.ResponseWriter) { return func(w http.ResponseWriter) { w.WriteHeader(403) } }, ErrForbidden, ""},
		{"unauthorized", func(*testing.T) func(http.ResponseWriter) { return func(w http.ResponseWriter) { w.WriteHeader(401) } }, ErrForbidden, ""},
		{"recovering", func(*testing.T) func(http.ResponseWriter) {
			return func(w http.ResponseWriter) {
				http.Error(w, "Agent has not finished recovery", http.StatusServiceUnavailable)
			}
		}, nil, "HTTP 503: Agent has not finished recovery"},
		{"a page", func(*testing.T) func(http.ResponseWriter) {
			return func(w http.ResponseWriter) { w.Write([]byte("<html>")) }
		}, nil, "of type"},
		{"another answer", func(t *testing.T) func(http.ResponseWriter) {
			return ok(t, &agent.Response{Type: agent.Response_GET_HEALTH})
		}, nil, "not one to READ_FILE"},
		{"too much", func(t *testing.T) func(http.ResponseWriter) {
			return ok(t, &agent.Response{ReadFile: &agent.Response_ReadFile{Size_: 20, Data: make([]byte, 20)}})
		}, nil, "10 bytes were asked for, 20 came"},
		{"far too much", func(t *testing.T) func(http.ResponseWriter) {
			return ok(t, &agent.Response{ReadFile: &agent.Response_ReadFile{Data: make([]byte, 2*maxResponse)}})
		}, nil, "larger than"},
		{"impossible size", func(t *testing.T) func(http.ResponseWriter) {
			return ok(t, &agent.Response{ReadFile: &agent.Response_ReadFile{Size_: 1 << 63, Data: []byte{}}})
		}, nil, "announced"},
		{"garbage", func(*testing.T) func(http.ResponseWriter) {
			return func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", protobuf)
				w.Write([]byte{0xff})
			}
		}, nil, "does not decode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			scene(t, func(t *testing.T, d *double, client *Client) {
				d.broken(c.fail(t))
				_, _, err := client.Read(t.Context(), base, path, 0, 10)
				if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), path) {
					t.Fatal(err)
				}
				r := client.Open(t.Context(), base, path, Options{TailLines: 3, Follow: true})
				defer r.Close()
				if _, again := r.Read(make([]byte, 1)); c.is != nil && !errors.Is(again, c.is) || again == nil {
					t.Fatal(again)
				}
			})
		})
	}
	scene(t, func(t *testing.T, _ *double, c *Client) {
		for _, url := range []string{"", "10.0.0.9:5051", "ftp://h:1", "http://", "http://10.0.0.8:5051", "http://%zz"} {
			if _, _, err := c.Read(t.Context(), url, path, 0, 1); err == nil {
				t.Errorf("%q was read", url)
			}
		}
		if _, _, err := c.Read(t.Context(), base, path, -1, 1); err == nil {
			t.Error("a negative offset was taken")
		}
	})
}

func TestTail(t *testing.T) {
	var lines []string
	for i := range 20000 {
		lines = append(lines, fmt.Sprintf("line %d\n", i))
	}
	all := strings.Join(lines, "")
	last := func(n int) string { return strings.Join(lines[len(lines)-n:], "") }
	for _, c := range []struct {
		name, content string
		opts          Options
		want          string
	}{
		{"all", all, Options{}, all},
		{"no lines wanted", all, Options{TailLines: 0}, all},
		{"one line", all, Options{TailLines: 1}, last(1)},
		{"lines over several chunks", all, Options{TailLines: 15000}, last(15000)},
		{"more lines than there are", all, Options{TailLines: 30000}, all},
		{"an unfinished line", all + "unfinished", Options{TailLines: 2}, last(1) + "unfinished"},
		{"empty lines", "a\n\n\n", Options{TailLines: 2}, "\n\n"},
		{"one long line", strings.Repeat("x", 3*chunk), Options{TailLines: 1}, strings.Repeat("x", 3*chunk)},
		{"bytes", all, Options{TailBytes: 7}, all[len(all)-7:]},
		{"more bytes than there are", "abc", Options{TailBytes: 7}, "abc"},
		{"bytes before lines", all, Options{TailBytes: 7, TailLines: 100}, all[len(all)-7:]},
		{"lines before bytes", all, Options{TailBytes: 1000, TailLines: 1}, last(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			scene(t, func(t *testing.T, d *double, client *Client) {
				d.set(path, c.content)
				r := client.Open(t.Context(), base, path, c.opts)
				got, err := io.ReadAll(r)
				if err != nil || string(got) != c.want {
					t.Fatalf("%d bytes, %v; want %d", len(got), err, len(c.want))
				}
				r.Close()
				if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestFollow(t *testing.T) {
	scene(t, func(t *testing.T, d *double, c *Client) {
		d.set(path, "one\n")
		r := c.Open(t.Context(), base, path, Options{Follow: true, Poll: time.Second})
		got := make(chan string, 100)
		ended := make(chan error, 1)
		go func() {
			buf := make([]byte, 1000)
			for {
				n, err := r.Read(buf)
				if err != nil {
					ended <- err
					return
				}
				got <- string(buf[:n])
			}
		}()
		want := func(s string) {
			t.Helper()
			if g := <-got; g != s {
				t.Fatalf("got %q, want %q", g, s)
			}
		}
		want("one\n")
		d.set(path, "one\ntwo\n")
		want("two\n")

		// The agent restarts, and the file grows meanwhile.
		d.broken(func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) })
		<-time.After(time.Minute)
		d.set(path, "one\ntwo\nthree\n")
		d.broken(nil)
		want("three\n")

		// Rotated: first what came just before, then the new file.
		d.set(path+".1", "one\ntwo\nthree\nfour\n")
		d.set(path, "1\n")
		want("four\n")
		want("1\n")
		// Rotated twice within one interval, the old file gone: nothing but the new one can be read.
		d.set(path+".1", "")
		d.set(path, "x")
		want("x")

		// Waiting costs one call each interval. The count begins between two of them: at the very same moment, which of
		// the two clocks comes first is not said.
		<-time.After(time.Second / 2)
		d.mu.Lock()
		before := d.calls
		d.mu.Unlock()
		<-time.After(10 * time.Second)
		d.mu.Lock()
		asked := d.calls - before
		d.mu.Unlock()
		if asked != 10 {
			t.Fatalf("asked %d times in ten intervals", asked)
		}
		r.Close()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

// When the sandbox is gone, following ends with that.
func TestFollowEndsWithTheFile(t *testing.T) {
	scene(t, func(t *testing.T, d *double, c *Client) {
		d.set(path, "one\n")
		r := c.Open(t.Context(), base, path, Options{Follow: true})
		defer r.Close()
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		d.set(path, "")
		if _, err := r.Read(make([]byte, 10)); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, js := range []string{`{"type":"READ_FILE","read_file":{"size":4,"data":"dGVzdA=="}}`, `{"type":"GET_HEALTH","get_health":{"healthy":true}}`} {
		var r agent.Response
		if err := json.Unmarshal([]byte(js), &r); err != nil {
			f.Fatal(err)
		}
		b, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if data, size, err := decode(in, 10); err == nil && (len(data) > 10 || size < 0) {
			t.Fatalf("%d bytes, size %d", len(data), size)
		}
	})
}
