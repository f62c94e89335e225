package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"

	"padis.io/padis/proto/padis/stream"
)

func TestOnlyTheSchedulerIsLetIn(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0)
	right := h.authority.client(t, stream.SchedulerName)
	if _, _, _, err := h.try(&right, http.MethodGet, stream.UsagePath, nil); err == nil {
		t.Error("a client was let in before there was an authority")
	}
	if err := h.SetClientCA([]byte("nothing")); err == nil {
		t.Error("an authority that is none was taken")
	}
	h.open()
	wrongName, wrongAuthority := h.authority.client(t, "padis-admin"), newAuthority(t).client(t, stream.SchedulerName)
	if _, _, _, err := h.try(nil, http.MethodGet, stream.UsagePath, nil); err == nil {
		t.Error("a client without a certificate was let in")
	}
	if _, _, _, err := h.try(&wrongName, http.MethodGet, stream.UsagePath, nil); err == nil {
		t.Error("a client of another name was let in")
	}
	if _, _, _, err := h.try(&wrongAuthority, http.MethodGet, stream.UsagePath, nil); err == nil {
		t.Error("a client of another authority was let in")
	}
	resp, _, _, err := h.try(&right, http.MethodGet, stream.UsagePath, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the scheduler was not let in: %v", err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	h.instances["a"] = Instance{}
	resp, _, _ := h.ask(http.MethodGet, stream.UsagePath+"?container=a&container=b", nil)
	var got map[string]stream.Usage
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got["a"].MemoryBytes != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	h.instances["ended"] = Instance{Logs: t.TempDir()}
	h.run("web", "sleep", "600")
	sh := stream.ExecRequest{Command: []string{"sh"}}
	for _, c := range []struct {
		status       int
		method, path string
		body         any
		want, reason string
	}{
		{404, http.MethodPost, "/v1/instances/nobody/exec", sh, "is not on this host", ""},
		{409, http.MethodPost, "/v1/instances/ended/exec", sh, "does not run", ""},
		{409, http.MethodPost, "/v1/instances/ended/forward?port=80", nil, "does not run", ""},
		{400, http.MethodPost, "/v1/instances/web/exec", stream.ExecRequest{}, "the command is missing", ""},
		{400, http.MethodPost, "/v1/instances/web/exec", "sh", "no JSON of a command", ""},
		{400, http.MethodPost, "/v1/instances/web/forward?port=0", nil, "from 1 to 65535", ""},
		{502, http.MethodPost, "/v1/instances/web/forward?port=1", nil, "does it listen", padisv1.ReasonNetworkFailed},
		{422, http.MethodPost, "/v1/instances/web/exec", stream.ExecRequest{Command: []string{"no-such-command"}}, "no-such-command", padisv1.ReasonCommandNotFound},
		{400, http.MethodGet, "/v1/instances/web/log?tailLines=x", nil, "tailLines", ""},
		{404, http.MethodGet, "/v1/instances/web/log?stream=stderr", nil, "is not kept", ""},
		{404, http.MethodGet, "/v1/instances/nobody/log", nil, "is not on this host", ""},
	} {
		if why := h.refused(c.status, c.method, c.path, c.body); !strings.Contains(why.Message, c.want) || why.Reason != c.reason {
			t.Errorf("%s %s: %+v", c.method, c.path, why)
		}
	}
}

func TestLogsAreFollowedToTheEnd(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	dir, ended := t.TempDir(), make(chan struct{})
	h.instances["web"] = Instance{Logs: dir, Ended: ended}
	file := filepath.Join(dir, "stdout")
	if err := os.WriteFile(file, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp, _, _ := h.ask(http.MethodGet, "/v1/instances/web/log?limitBytes=2", nil)
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "on" {
		t.Errorf("%q, %v", b, err)
	}
	resp, _, _ = h.ask(http.MethodGet, "/v1/instances/web/log?follow=true", nil)
	got := make([]byte, 4)
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "one\n" {
		t.Fatalf("%q, %v", got, err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("two\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "two\n" {
		t.Fatalf("%q, %v", got, err)
	}
	close(ended)
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	t.Parallel()
	h := newHost(t, 1).open()
	h.run("web", "sleep", "600")
	resp, first, _ := h.ask(http.MethodPost, "/v1/instances/web/exec", stream.ExecRequest{Command: []string{"cat"}, Stdin: true})
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", resp.StatusCode)
	}
	h.refused(http.StatusServiceUnavailable, http.MethodPost, "/v1/instances/web/exec", stream.ExecRequest{Command: []string{"true"}})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		resp, _, _ := h.ask(http.MethodPost, "/v1/instances/web/exec", stream.ExecRequest{Command: []string{"true"}})
		if resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a session that has ended stays taken")
		}
	}
}

func TestForwardReachesTheLoopbackAndTheOwnAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t, 0).open()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{"loopback": "127.0.0.1:80", "own": "127.0.0.2:80"} {
		h.run(name, "sh", "-c", "ip link set lo up && exec "+exe+" "+greetVerb+" "+address)
		var resp *http.Response
		var conn io.ReadWriteCloser
		var from io.Reader
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			r, c, f := h.ask(http.MethodPost, "/v1/instances/"+name+"/forward?port=80", nil)
			if resp, conn, from = r, c, f; resp.StatusCode == http.StatusSwitchingProtocols || time.Now().After(deadline) {
				break
			}
		}
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: status %d", name, resp.StatusCode)
		}
		said := bytes.Repeat([]byte("x"), 1<<20)
		if _, err := conn.Write(said); err != nil {
			t.Fatal(err)
		}
		if err := conn.(closeWriter).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(from)
		if err != nil && !errors.Is(err, io.EOF) || string(answer) != "hello "+string(said) {
			t.Errorf("%s: %d bytes, %v", name, len(answer), err)
		}
	}
}
