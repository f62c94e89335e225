package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	streamhttp "k8s.io/streaming/pkg/httpstream"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/audit"
	"padis.io/padis/api/server/live"
)

// fakeAccess has instances of which each command is a few words of its own.
type fakeAccess struct{}

func (*fakeAccess) Container(_, name string) string { return name + ".1" }
func (*fakeAccess) Record(namespace string) bool    { return strings.HasPrefix(namespace, "recorded") }

// Exec knows: cat; fail STATUS; much BYTES; size, which tells sizes until there are two; wait, which ends with the
// client; gone, which is refused.
func (*fakeAccess) Exec(ctx context.Context, namespace, name string, e live.Exec) (int, error) {
	switch e.Command[0] {
	case "cat", "tar":
		_, err := io.Copy(e.Stdout, e.Stdin)
		return 0, err
	case "fail":
		fmt.Fprintf(e.Stderr, "%s/%s fails\n", namespace, name)
		status := 0
		_, err := fmt.Sscan(e.Command[1], &status)
		return status, err
	case "much":
		var n int64
		if _, err := fmt.Sscan(e.Command[1], &n); err != nil {
			return 0, err
		}
		_, err := io.CopyN(e.Stdout, zeros{}, n)
		return 0, err
	case "size":
		fmt.Fprintf(e.Stdout, "%dx%d\r\n", e.Width, e.Height)
		size := <-e.Resize
		fmt.Fprintf(e.Stdout, "%dx%d\r\n", size.Width, size.Height)
		return 0, nil
	case "wait":
		fmt.Fprintln(e.Stdout, "waiting")
		<-ctx.Done()
		ended.Store(namespace, true)
		return 0, ctx.Err()
	}
	return 0, apierrors.NewServiceUnavailable("its host is gone")
}

// ended are the namespaces in which a command has ended with its client.
var ended sync.Map

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Forward answers what it hears, after its end, in upper case; nobody listens at port 1.
func (*fakeAccess) Forward(_ context.Context, _, _ string, port uint16) (live.Conn, error) {
	if port == 1 {
		return nil, errors.New("nobody listens at port 1")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(b))
		_ = c.Close()
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func (*fakeAccess) Usage(_ context.Context, instances []*runtime.Instance) (map[[2]string]runtime.UsageStatus, map[string]string, error) {
	out := map[[2]string]runtime.UsageStatus{}
	for _, i := range instances {
		if i.Status.Phase == "Running" {
			out[[2]string{i.Namespace, i.Name}] = runtime.UsageStatus{CPUMilli: 1500, MemoryBytes: 3 << 20, RxBytes: 1536, Processes: 7}
		}
	}
	return out, map[string]string{"host-9": "no answer"}, nil
}

func instanceIn(t *testing.T, namespace string) {
	t.Helper()
	for _, name := range []string{"web-0", "web-1"} {
		shared.live.Instances.Set(&runtime.Instance{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"slot": name}},
			Status:     runtime.InstanceStatus{App: "web", Phase: map[string]string{"web-0": "Running"}[name], Host: "host-1"},
		})
		t.Cleanup(func() { shared.live.Instances.Delete(namespace, name) })
	}
}

func administrator(t *testing.T) *rest.Config {
	t.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", shared.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sub(namespace, verb, query string) string {
	return shared.URL() + "/apis/runtime.padis.io/v1alpha1/namespaces/" + namespace + "/instances/web-0/" + verb + "?" + query
}

// executors are client-go's, by protocol.
func executors(t *testing.T, c *rest.Config, namespace, query string) map[string]remotecommand.Executor {
	t.Helper()
	target := sub(namespace, "exec", query)
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	old, err := remotecommand.NewSPDYExecutor(c, http.MethodPost, u)
	if err != nil {
		t.Fatal(err)
	}
	today, err := remotecommand.NewWebSocketExecutor(c, http.MethodGet, target)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": old, "WebSocket": today}
}

func patiently(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestExecIsSpokenByClients(t *testing.T) {
	t.Parallel()
	instanceIn(t, "exec")
	c := administrator(t)
	for protocol, e := range executors(t, c, "exec", "command=cat&stdin=true&stdout=true") {
		var out bytes.Buffer
		in := strings.Repeat("0123456789abcdef", 1<<17)
		if err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdin: strings.NewReader(in), Stdout: &out}); err != nil || out.String() != in {
			t.Errorf("%s: cat: %d of %d bytes, %v", protocol, out.Len(), len(in), err)
		}
	}
	for protocol, e := range executors(t, c, "exec", "command=fail&command=7&stdout=true&stderr=true") {
		var out, errOut bytes.Buffer
		err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
		var code exec.CodeExitError
		if !errors.As(err, &code) || code.Code != 7 || errOut.String() != "exec/web-0 fails\n" {
			t.Errorf("%s: fail: %v, %q", protocol, err, errOut.String())
		}
	}
	for protocol, e := range executors(t, c, "exec", "command=much&command=20000000&stdout=true") {
		var out bytes.Buffer
		if err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdout: &out}); err != nil || out.Len() != 20_000_000 {
			t.Errorf("%s: much: %d bytes, %v", protocol, out.Len(), err)
		}
	}
	for protocol, e := range executors(t, c, "exec", "command=gone&stdout=true") {
		if err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "its host is gone") {
			t.Errorf("%s: gone: %v", protocol, err)
		}
	}
}

// sizes gives some, one after the other.
type sizes struct {
	next chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s.next
	if !ok {
		return nil
	}
	return &size
}

func TestTerminalsAreResized(t *testing.T) {
	t.Parallel()
	instanceIn(t, "resize")
	for protocol, e := range executors(t, administrator(t), "resize", "command=size&stdin=true&stdout=true&tty=true") {
		var out bytes.Buffer
		s := sizes{make(chan remotecommand.TerminalSize, 2)}
		s.next <- remotecommand.TerminalSize{Width: 100, Height: 40}
		s.next <- remotecommand.TerminalSize{Width: 120, Height: 50}
		in, typing := io.Pipe()
		err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdin: in, Stdout: &out, Tty: true, TerminalSizeQueue: s})
		_ = typing.Close()
		close(s.next)
		if err != nil || out.String() != "100x40\r\n120x50\r\n" {
			t.Errorf("%s: %q, %v", protocol, out.String(), err)
		}
	}
}

// Over SPDY the server hears of it only when it writes: today's clients speak WebSocket.
func TestACommandEndsWithItsClient(t *testing.T) {
	t.Parallel()
	instanceIn(t, "leave")
	ctx, cancel := context.WithCancel(patiently(t))
	out, said := io.Pipe()
	done := make(chan error, 1)
	e := executors(t, administrator(t), "leave", "command=wait&stdout=true")["WebSocket"]
	go func() { done <- e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: said}) }()
	if _, err := io.ReadFull(out, make([]byte, len("waiting\n"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = out.Close()
	<-done
	eventually(t, "the command ends", func() (bool, error) {
		_, ok := ended.Load("leave")
		return ok, nil
	})
}

func TestExecIsForAdministrators(t *testing.T) {
	t.Parallel()
	instanceIn(t, "forbidden")
	bob := rest.AnonymousClientConfig(administrator(t))
	bob.BearerToken = "plain-token"
	for protocol, e := range executors(t, bob, "forbidden", "command=cat&stdout=true") {
		if err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "orbidden") {
			t.Errorf("%s: %v", protocol, err)
		}
	}
	for query, want := range map[string]string{"stdout=true": "the command is missing", "command=a": "at least one of", "command=a&stdout=maybe": "stdout=", "command=a&stdout=true": "upgrade", "command=a&x=y": "unknown parameter"} {
		if got := refused400(t, sub("forbidden", "exec", query)); !strings.Contains(got, want) {
			t.Errorf("%s: %s", query, got)
		}
	}
}

func refused400(t *testing.T, target string) string {
	t.Helper()
	client, err := rest.HTTPClientFor(administrator(t))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Post(target, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d, %v: %s", resp.StatusCode, err, b)
	}
	return string(b)
}

// audited waits for the end of a session and returns its lines.
func audited(t *testing.T, namespace, verb string) (begin, end audit.Entry) {
	t.Helper()
	eventually(t, "the audit log", func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(shared.cfg.DataDir, "audit.log"))
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(b)) {
			var e audit.Entry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return false, err
			}
			if e.Namespace != namespace || e.Verb != verb {
				continue
			}
			if e.Event == "begin" {
				begin = e
			} else if end = e; e.Session == begin.Session {
				return true, nil
			}
		}
		return false, nil
	})
	return begin, end
}

func TestSessionsAreAuditedAndRecorded(t *testing.T) {
	t.Parallel()
	for protocol := range executors(t, administrator(t), "x", "command=cat&stdout=true") {
		namespace := "recorded-" + strings.ToLower(protocol)
		instanceIn(t, namespace)
		e := executors(t, administrator(t), namespace, "command=cat&stdin=true&stdout=true&stderr=true")[protocol]
		var out, errOut bytes.Buffer
		if err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out, Stderr: &errOut}); err != nil {
			t.Fatal(err)
		}
		if out.String() != "hello" || errOut.String() != "This session is recorded.\n" {
			t.Errorf("%q, %q", out.String(), errOut.String())
		}
		begin, end := audited(t, namespace, "exec")
		if begin.User != "padis-admin" || begin.Instance != "web-0" || begin.Container != "web-0.1" || strings.Join(begin.Command, " ") != "cat" || begin.Recording == "" {
			t.Errorf("begin: %+v", begin)
		}
		if end.ExitCode == nil || *end.ExitCode != 0 || end.Result != "ok" || end.BytesIn != 5 || end.BytesOut != 5 {
			t.Errorf("end: %+v", end)
		}
		cast, err := os.ReadFile(filepath.Join(shared.cfg.DataDir, begin.Recording))
		if err != nil || !strings.Contains(string(cast), `"i","hello"]`) || !strings.Contains(string(cast), `"o","hello"]`) {
			t.Errorf("%v: %s", err, cast)
		}
	}
}

func TestARecordingThatCannotBeWrittenRefusesTheSession(t *testing.T) {
	t.Parallel()
	instanceIn(t, "recorded-nowhere")
	dir := filepath.Join(shared.cfg.DataDir, "recordings")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "recorded-nowhere"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for protocol, e := range executors(t, administrator(t), "recorded-nowhere", "command=cat&stdin=true&stdout=true") {
		if err := e.StreamWithContext(patiently(t), remotecommand.StreamOptions{Stdin: strings.NewReader("x"), Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "recorded") {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

func TestPortForwardIsSpokenByClients(t *testing.T) {
	t.Parallel()
	c := administrator(t)
	for _, protocol := range []string{"SPDY", "WebSocket"} {
		namespace := "forward-" + strings.ToLower(protocol)
		instanceIn(t, namespace)
		u, err := url.Parse(sub(namespace, "portforward", ""))
		if err != nil {
			t.Fatal(err)
		}
		var dialer streamhttp.Dialer
		if protocol == "WebSocket" {
			dialer, err = portforward.NewSPDYOverWebsocketDialerForStreaming(u, c)
		} else {
			transport, upgrader, failed := spdy.RoundTripperFor(c)
			err = failed
			dialer = spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u)
		}
		if err != nil {
			t.Fatal(err)
		}
		stop, ready := make(chan struct{}), make(chan struct{})
		f, err := portforward.NewOnAddressesForStreaming(dialer, []string{"127.0.0.1"}, []string{"0:80", "0:1"}, stop, ready, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- f.ForwardPorts() }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatalf("%s: %v", protocol, err)
		}
		ports, err := f.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		if got := converse(t, ports[0].Local); got != "HELLO" {
			t.Errorf("%s: %q", protocol, got)
		}
		if begin, end := audited(t, namespace, "portforward"); begin.Port != 80 || end.BytesIn != 5 || end.BytesOut != 5 {
			t.Errorf("%s: %+v", protocol, end)
		}
		close(stop)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

func converse(t *testing.T, port uint16) string {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestUsagesAreAskedFor(t *testing.T) {
	instanceIn(t, "usages")
	out := kc(t, "", "get", "usages", "-n", "usages")
	for _, want := range []string{"NAME", "CPU", "web-0", "1.5 ", "3Mi", "1.5Ki", "7"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	if strings.Contains(out, "web-1") {
		t.Errorf("what does not run uses something:\n%s", out)
	}
	if got := kc(t, "", "get", "usages", "-A", "-l", "slot=web-0", "-o", "jsonpath={.items[*].status.cpuMilli}"); !strings.Contains(got, "1500") {
		t.Error(got)
	}
	refused(t, "", []string{"no answer"}, "get", "usage", "web-1", "-n", "usages")
	refused(t, "", []string{"not found"}, "get", "usage", "nobody", "-n", "usages")
	refused(t, "", []string{"not a known field selector"}, "get", "usages", "--field-selector", "status.cpuMilli=1")
}
