package access

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"padis.io/padis/proto/padis/stream"
)

// patience bounds how long a test waits for something that should happen at once.
const patience = 30 * time.Second

func newClient(t *testing.T) *Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: stream.SchedulerName}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// executor answers as the handler says.
func executor(t *testing.T, handler http.HandlerFunc) Endpoint {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	return Endpoint{Address: s.Listener.Addr().String(), Certificate: s.Certificate().Raw, Container: "web-0"}
}

// upgraded takes the connection over and gives it to serve.
func upgraded(serve func(conn net.Conn, from io.Reader)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: padis-stream\r\n\r\n")
		serve(conn, buffered.Reader)
	}
}

func say(t *testing.T, to io.Writer, channel stream.Channel, payload []byte) {
	b, err := stream.Append(nil, stream.Frame{Channel: channel, Payload: payload})
	if err == nil {
		_, err = to.Write(b)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestOnlyTheReportedCertificateIsTaken(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	asked := false
	e := executor(t, func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		_, _ = io.WriteString(w, "{}")
	})
	if _, err := c.Usage(t.Context(), e, nil); err != nil || !asked {
		t.Errorf("the right one: %v", err)
	}
	for _, wrong := range [][]byte{nil, []byte("x"), append([]byte{1}, e.Certificate...)} {
		e.Certificate, asked = wrong, false
		if _, err := c.Usage(t.Context(), e, nil); !errors.Is(err, ErrUnreachable) || asked {
			t.Errorf("another one was asked: %v", err)
		}
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	e := executor(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/log") {
			http.Error(w, "no JSON", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"reason":"Exited","message":"it does not run"}`)
	})
	var refused *Error
	if _, err := c.Exec(t.Context(), e, stream.ExecRequest{}, Streams{}); !errors.As(err, &refused) || refused.Status != http.StatusConflict || refused.Reason != "Exited" || refused.Error() != "it does not run" {
		t.Errorf("exec: %v", err)
	}
	if _, err := c.Forward(t.Context(), e, 80); !errors.As(err, &refused) {
		t.Errorf("forward: %v", err)
	}
	if _, err := c.Log(t.Context(), e, stream.LogRequest{}); !errors.As(err, &refused) || !strings.Contains(refused.Message, "502") {
		t.Errorf("log: %v", err)
	}
	e.Address = "127.0.0.1:1"
	if _, err := c.Log(t.Context(), e, stream.LogRequest{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestLogIsAskedForAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	want := stream.LogRequest{Stream: "all", Follow: true, TailLines: 3, LimitBytes: -1}
	e := executor(t, func(w http.ResponseWriter, r *http.Request) {
		if got, err := stream.ParseLogRequest(r.URL.Query()); err != nil || got != want || r.URL.Path != "/v1/instances/web-0/log" {
			t.Errorf("%s: %+v, %v", r.URL.Path, got, err)
		}
		_, _ = io.WriteString(w, "one\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, err := c.Log(ctx, e, want)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b := make([]byte, 4)
	if _, err := io.ReadFull(log, b); err != nil || string(b) != "one\n" {
		t.Errorf("%q, %v", b, err)
	}
	cancel()
	if n, err := log.Read(b); err == nil {
		t.Errorf("%d bytes after the end", n)
	}
}

func TestForwardEndsOneDirectionAtATime(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	e := executor(t, upgraded(func(conn net.Conn, from io.Reader) {
		b, _ := io.ReadAll(from)
		_, _ = conn.Write(bytes.ToUpper(b))
	}))
	conn, err := c.Forward(t.Context(), e, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); string(b) != "HELLO" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestExecSendsByCreditAndHearsAll(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	const size = 3 * stream.Window
	e := executor(t, upgraded(func(conn net.Conn, from io.Reader) {
		frames, waiting, total, sizes := stream.NewReader(from), 0, 0, 0
		for ended := false; !ended || sizes == 0; {
			f, err := frames.Next()
			if err != nil {
				t.Error(err)
				return
			}
			if f.Channel == stream.Resize {
				sizes++
				continue
			}
			ended = len(f.Payload) == 0
			waiting, total = waiting+len(f.Payload), total+len(f.Payload)
			if waiting > stream.Window {
				t.Errorf("%d bytes came without credit", waiting)
			}
			if waiting == stream.Window {
				say(t, conn, stream.Credit, stream.CreditPayload(waiting))
				waiting = 0
			}
		}
		say(t, conn, stream.Stdout, []byte("out"))
		say(t, conn, stream.Stderr, []byte("err"))
		say(t, conn, stream.Exit, []byte(`{"code":3}`))
	}))
	sizes := make(chan stream.Size, 1)
	var out, errOut bytes.Buffer
	sizes <- stream.Size{}
	ended, err := c.Exec(t.Context(), e, stream.ExecRequest{Command: []string{"wc"}, Stdin: true},
		Streams{Stdin: bytes.NewReader(make([]byte, size)), Stdout: &out, Stderr: &errOut, Resize: sizes})
	if err != nil || ended.Code != 3 || out.String() != "out" || errOut.String() != "err" {
		t.Errorf("%+v, %v, %q, %q", ended, err, out.String(), errOut.String())
	}
}

func TestExecThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	for name, serve := range map[string]func(net.Conn, io.Reader){
		"end":       func(net.Conn, io.Reader) {},
		"failed":    func(conn net.Conn, _ io.Reader) { say(t, conn, stream.Failed, []byte(`{"message":"why"}`)) },
		"malformed": func(conn net.Conn, _ io.Reader) { _, _ = conn.Write([]byte{99, 0, 0, 0, 0}) },
		"foreign":   func(conn net.Conn, _ io.Reader) { say(t, conn, stream.Resize, stream.Size{}.Payload()) },
	} {
		if _, err := c.Exec(t.Context(), executor(t, upgraded(serve)), stream.ExecRequest{}, Streams{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	e := executor(t, upgraded(func(_ net.Conn, from io.Reader) {
		cancel()
		_, _ = io.Copy(io.Discard, from)
	}))
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, e, stream.ExecRequest{}, Streams{})
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	case <-time.After(patience):
		t.Error("a session outlived its context")
	}
}

func TestUsageIsRead(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	e := executor(t, func(w http.ResponseWriter, r *http.Request) {
		out := map[string]stream.Usage{}
		for _, name := range r.URL.Query()["container"] {
			out[name] = stream.Usage{CPUMilli: 5}
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	if used, err := c.Usage(t.Context(), e, []string{"a", "b"}); err != nil || len(used) != 2 || used["b"].CPUMilli != 5 {
		t.Errorf("%v, %v", used, err)
	}
}
