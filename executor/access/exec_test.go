package access

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padis.io/padis/proto/padis/stream"
)

// command is a session that a test drives frame by frame.
type command struct {
	t      *testing.T
	conn   *tls.Conn
	frames *stream.Reader
	credit int
	out    map[stream.Channel]*bytes.Buffer
}

func (h *host) start(name string, r stream.ExecRequest) *command {
	h.t.Helper()
	resp, conn, from := h.ask(http.MethodPost, stream.InstancesPath+name+stream.ExecVerb, r)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("status %d: %s", resp.StatusCode, b)
	}
	return &command{h.t, conn, stream.NewReader(from), stream.Window, map[stream.Channel]*bytes.Buffer{stream.Stdout: {}, stream.Stderr: {}}}
}

func (c *command) send(channel stream.Channel, payload []byte) {
	c.t.Helper()
	b, err := stream.Append(nil, stream.Frame{Channel: channel, Payload: payload})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// until reads frames until the condition holds or the command has ended, and returns how it ended.
func (c *command) until(condition func() bool) *stream.Ended {
	c.t.Helper()
	for !condition() {
		f, err := c.frames.Next()
		if err != nil {
			c.t.Fatalf("%v; stdout %q", err, c.out[stream.Stdout])
		}
		switch f.Channel {
		case stream.Stdout, stream.Stderr:
			c.out[f.Channel].Write(f.Payload)
		case stream.Credit:
			n, err := stream.ParseCredit(f.Payload)
			if err != nil {
				c.t.Fatal(err)
			}
			c.credit += n
		case stream.Exit:
			e := &stream.Ended{}
			if err := json.Unmarshal(f.Payload, e); err != nil {
				c.t.Fatal(err)
			}
			return e
		default:
			c.t.Fatalf("%s: %s", f.Channel, f.Payload)
		}
	}
	return nil
}

func (c *command) end() *stream.Ended { return c.until(func() bool { return false }) }

func TestExecOverTheWire(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	h.run("web", "sleep", "600")
	c := h.start("web", stream.ExecRequest{Command: []string{"sh", "-c", "cat; hostname; echo $COLOUR >&2; exit 7"}, Env: []string{"COLOUR=blue"}, Stdin: true})
	c.send(stream.Stdin, []byte("hello\n"))
	c.send(stream.Stdin, nil)
	if e := c.end(); e.Code != 7 || c.out[stream.Stdout].String() != "hello\nweb\n" || c.out[stream.Stderr].String() != "blue\n" {
		t.Errorf("%+v: %q, %q", e, c.out[stream.Stdout], c.out[stream.Stderr])
	}
}

func TestExecWithATerminalOverTheWire(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	h.run("web", "sleep", "600")
	c := h.start("web", stream.ExecRequest{Command: []string{"sh"}, Stdin: true, TTY: true, Width: 100, Height: 40})
	typed := func(line, answer string) {
		t.Helper()
		c.send(stream.Stdin, []byte(line+"\n"))
		c.until(func() bool { return strings.Contains(c.out[stream.Stdout].String(), answer) })
	}
	typed("stty size", "40 100")
	c.send(stream.Resize, stream.Size{Width: 120, Height: 50}.Payload())
	typed("stty size", "50 120")
	typed("echo $TERM", "xterm")
	c.send(stream.Stdin, []byte("kill -TERM $$; exit 5\n"))
	if e := c.end(); e.Code != 5 {
		t.Errorf("%+v: %s", e, c.out[stream.Stdout])
	}
}

func TestMuchInputGoesByCredit(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	h.run("web", "sleep", "600")
	c := h.start("web", stream.ExecRequest{Command: []string{"wc", "-c"}, Stdin: true})
	for range 4 << 20 / stream.MaxPayload {
		c.until(func() bool { return c.credit >= stream.MaxPayload })
		c.credit -= stream.MaxPayload
		c.send(stream.Stdin, make([]byte, stream.MaxPayload))
	}
	c.send(stream.Stdin, nil)
	if e := c.end(); e.Code != 0 || strings.TrimSpace(c.out[stream.Stdout].String()) != "4194304" {
		t.Errorf("%+v: %s", e, c.out[stream.Stdout])
	}
}

func TestMoreInputThanCreditEndsTheSession(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	h.run("web", "sleep", "600")
	c := h.start("web", stream.ExecRequest{Command: []string{"sleep", "600"}, Stdin: true})
	go func() {
		b, err := stream.Append(nil, stream.Frame{Channel: stream.Stdin, Payload: make([]byte, stream.MaxPayload)})
		for err == nil {
			_, err = c.conn.Write(b)
		}
	}()
	for {
		f, err := c.frames.Next()
		if err != nil {
			t.Fatalf("the session broke off without a word: %v", err)
		}
		if f.Channel == stream.Failed {
			break
		}
	}
}

// A command ends with its client, also when it does not read its input.
func TestACommandEndsWithItsClient(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	h.run("web", "sleep", "600")
	mark := filepath.Join(t.TempDir(), "ended")
	c := h.start("web", stream.ExecRequest{Command: []string{"sh", "-c", "trap 'echo ended >" + mark + "; exit' HUP; echo begun; while :; do sleep 0.05; done"}, Stdin: true})
	for range stream.Window / stream.MaxPayload {
		c.send(stream.Stdin, make([]byte, stream.MaxPayload))
	}
	c.until(func() bool { return c.out[stream.Stdout].Len() > 0 })
	if err := c.conn.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(mark); err == nil && string(b) == "ended\n" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the command runs on")
		}
	}
}
