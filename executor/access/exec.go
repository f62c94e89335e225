package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/proto/padis/stream"
)

// hangUpTime is what a command has for its end when its client has gone, before it is killed.
const hangUpTime = 5 * time.Second

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	name, i, ok := s.findRunning(w, r)
	if !ok || !wantsUpgrade(w, r) {
		return
	}
	executor, ok := i.Runtime.(runtime.Executor)
	if !ok {
		fail(w, http.StatusConflict, "", fmt.Sprintf("commands cannot be run in instance %s", name))
		return
	}
	var request stream.ExecRequest
	// All of the body: its rest would be taken for the first frame.
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "", fmt.Sprintf("the request is no JSON of a command: %v", err))
		return
	}
	if len(request.Command) == 0 || request.Command[0] == "" {
		fail(w, http.StatusBadRequest, "", "the command is missing")
		return
	}
	session := newExecSession()
	process, err := executor.Exec(session.spec(request))
	if err != nil {
		var start *runtime.StartError
		reason := ""
		if errors.As(err, &start) {
			reason = start.Reason
		}
		fail(w, http.StatusUnprocessableEntity, reason, err.Error())
		return
	}
	conn, from, err := hijack(w)
	if err != nil {
		s.cfg.Log.Error("take a connection over", zap.Error(err))
		session.abandon(process)
		return
	}
	defer s.sessions.add(conn)()
	session.serve(conn, from, process)
}

func wantsUpgrade(w http.ResponseWriter, r *http.Request) bool {
	if !strings.EqualFold(r.Header.Get("Upgrade"), stream.Upgrade) {
		w.Header().Set("Upgrade", stream.Upgrade)
		fail(w, http.StatusUpgradeRequired, "", "ask for the upgrade to "+stream.Upgrade)
		return false
	}
	return true
}

// hijack takes the connection over and says so to the client.
func hijack(w http.ResponseWriter) (net.Conn, io.Reader, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err = conn.SetDeadline(time.Time{}); err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+stream.Upgrade+"\r\n\r\n")
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, buffered.Reader, nil
}

// execSession is a command and its client.
type execSession struct {
	stdin *inbox
	out   frameWriter
}

func newExecSession() *execSession {
	x := &execSession{out: frameWriter{ready: make(chan struct{})}}
	x.stdin = newInbox(func(n int) {
		// If the client has gone, the reading side says so.
		_ = x.out.write(stream.Credit, stream.CreditPayload(n))
	})
	return x
}

func (x *execSession) spec(r stream.ExecRequest) runtime.ExecSpec {
	s := runtime.ExecSpec{
		Command: r.Command, Env: r.Env, User: r.User, WorkingDir: r.Dir, TTY: r.TTY, Width: r.Width, Height: r.Height,
		Stdout: channelWriter{&x.out, stream.Stdout}, Stderr: channelWriter{&x.out, stream.Stderr},
	}
	if r.TTY {
		s.Env = append([]string{"TERM=xterm"}, r.Env...)
	}
	if r.Stdin {
		s.Stdin = x.stdin
	} else {
		x.stdin.end()
	}
	return s
}

// serve moves frames until the command has ended.
func (x *execSession) serve(conn net.Conn, from io.Reader, process runtime.Process) {
	defer func() { _ = conn.Close() }()
	x.out.open(conn)
	over := make(chan struct{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		err := x.listen(from, process)
		x.stdin.end()
		select {
		case <-over:
			return
		default:
		}
		if errors.Is(err, stream.ErrMalformed) {
			_ = x.out.writeJSON(stream.Failed, stream.Failure{Message: err.Error()})
		}
		// The command's output goes nowhere; that must not hold its end up.
		_ = conn.Close()
		hangUp(process, over)
	}()
	e := process.Wait()
	close(over)
	x.stdin.end()
	_ = x.out.writeJSON(stream.Exit, stream.Ended{Code: e.Code, Signal: e.Signal}) // the client may have gone
	_ = conn.Close()
	<-gone
}

// listen takes what the client says until that ends.
func (x *execSession) listen(from io.Reader, process runtime.Process) error {
	frames := stream.NewReader(from)
	for {
		f, err := frames.Next()
		if err != nil {
			return err
		}
		switch f.Channel {
		case stream.Stdin:
			if len(f.Payload) == 0 {
				x.stdin.end()
			} else if !x.stdin.put(f.Payload) {
				return fmt.Errorf("%w: more input than there was credit for", stream.ErrMalformed)
			}
		case stream.Resize:
			size, err := stream.ParseSize(f.Payload)
			if err != nil {
				return err
			}
			_ = process.Resize(size.Width, size.Height) // without a terminal there is nothing to resize
		default:
			return fmt.Errorf("%w: a client does not send %s", stream.ErrMalformed, f.Channel)
		}
	}
}

// abandon ends a command that nobody waits for.
func (x *execSession) abandon(process runtime.Process) {
	x.stdin.end()
	x.out.open(nil)
	over := make(chan struct{})
	go func() {
		process.Wait()
		close(over)
	}()
	hangUp(process, over)
}

// hangUp ends a command whose client has gone, as a terminal that is closed would, and then by force.
func hangUp(process runtime.Process, over <-chan struct{}) {
	_ = process.Signal("SIGHUP") // if that cannot be sent, SIGKILL follows
	late := time.NewTimer(hangUpTime)
	defer late.Stop()
	select {
	case <-over:
	case <-late.C:
		_ = process.Signal("SIGKILL") // it has ended, or the instance's end will end it
	}
}

// frameWriter writes the frames of a session. Until open is called, writers wait.
type frameWriter struct {
	ready chan struct{}
	mu    sync.Mutex
	to    io.Writer
	wire  []byte
}

// open lets writers write; to nobody, if it is nil.
func (w *frameWriter) open(to io.Writer) {
	w.to = to
	close(w.ready)
}

func (w *frameWriter) write(c stream.Channel, payload []byte) error {
	<-w.ready
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to == nil {
		return io.ErrClosedPipe
	}
	var err error
	if w.wire, err = stream.Append(w.wire[:0], stream.Frame{Channel: c, Payload: payload}); err != nil {
		return err
	}
	_, err = w.to.Write(w.wire)
	return err
}

func (w *frameWriter) writeJSON(c stream.Channel, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.write(c, b)
}

// channelWriter is one output of a command.
type channelWriter struct {
	to      *frameWriter
	channel stream.Channel
}

func (w channelWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := p[:min(len(p), stream.MaxPayload)]
		if err := w.to.write(w.channel, part); err != nil {
			return written, err
		}
		written += len(part)
		p = p[len(part):]
	}
	return written, nil
}
