package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"

	"padis.io/padis/api/server/audit"
)

// recordedNotice is what people are told first when their session is recorded.
const recordedNotice = "This session is recorded."

// firstSize is how long the beginning of a command waits for the size of its terminal, which comes as the first word.
const firstSize = 300 * time.Millisecond

// execOptions are what a client asks for in the query.
type execOptions struct {
	command                    []string
	stdin, stdout, stderr, tty bool
}

func parseExecOptions(q url.Values) (execOptions, error) {
	var o execOptions
	for key, values := range q {
		value := values[len(values)-1]
		var err error
		switch key {
		case "command":
			o.command = values
		case "stdin":
			o.stdin, err = parseBool(value)
		case "stdout":
			o.stdout, err = parseBool(value)
		case "stderr":
			o.stderr, err = parseBool(value)
		case "tty":
			o.tty, err = parseBool(value)
		case "container", "timeout":
		default:
			err = fmt.Errorf("unknown parameter: use command, stdin, stdout, stderr and tty")
		}
		if err != nil {
			return o, apierrors.NewBadRequest(fmt.Sprintf("%s=%q: %v", key, value, err))
		}
	}
	if len(o.command) == 0 || o.command[0] == "" {
		return o, apierrors.NewBadRequest("the command is missing: give command=NAME&command=ARGUMENT")
	}
	if !o.stdin && !o.stdout && !o.stderr {
		return o, apierrors.NewBadRequest("ask for at least one of stdin, stdout and stderr")
	}
	// A terminal has one output.
	o.stderr = o.stderr && !o.tty
	return o, nil
}

// execStorage is the subresource instances/exec.
type execStorage struct{ subresource }

// ConnectMethods are those of SPDY and of WebSocket.
func (execStorage) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// Connect runs a command in one instance.
func (s execStorage) Connect(ctx context.Context, name string, _ kruntime.Object, responder rest.Responder) (http.Handler, error) {
	namespace, err := s.check(ctx, name, s.Access != nil)
	if err != nil {
		return nil, err
	}
	if err := s.mayCreate(ctx, namespace, name, "exec"); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.serve(w, r, namespace, name); err != nil {
			responder.Error(internal(err))
		}
	}), nil
}

// serve returns an error only when nothing was said to the client yet.
func (s execStorage) serve(w http.ResponseWriter, r *http.Request, namespace, name string) error {
	options, err := parseExecOptions(r.URL.Query())
	if err != nil {
		return err
	}
	if !httpstream.IsUpgradeRequest(r) {
		return apierrors.NewBadRequest("a command needs a connection of its own: ask for an upgrade to WebSocket or SPDY, as kubectl's library does")
	}
	entry := audit.Entry{Verb: "exec", Namespace: namespace, Instance: name, Command: options.command, TTY: options.tty}
	if options.command[0] == "tar" {
		entry.Verb = "cp"
	}
	session := &execSession{storage: s, namespace: namespace, name: name, options: options}
	if s.Access.Record(namespace) {
		if s.Audit == nil {
			return apierrors.NewInternalError(errors.New("refused, because sessions of this tenant are recorded and this server keeps no recordings"))
		}
		h := audit.Header{Namespace: namespace, Instance: name, User: userName(r.Context()), Command: options.command}
		if session.recording, entry.Recording, err = s.Audit.Record(h); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("refused, because sessions of this tenant are recorded and that is not possible: %w", err))
		}
		defer func() { _ = session.recording.Close() }() // its errors have ended the session
	}
	if session.audit, err = s.begin(r, entry); err != nil {
		return err
	}
	ctx, cancel := untilShutdown(r.Context())
	defer cancel()
	session.run(&watchedWriter{ResponseWriter: w, gone: cancel}, r.WithContext(ctx))
	return nil
}

// execSession is one command and its client.
type execSession struct {
	storage         execStorage
	namespace, name string
	options         execOptions
	recording       *audit.Recording
	audit           *audit.Session
	in, out         atomic.Int64
}

// run speaks the protocol that the client speaks until the command has ended.
func (x *execSession) run(w http.ResponseWriter, r *http.Request) {
	ran := false
	var code *int
	var failed error
	do := executorFunc(func(ctx context.Context, in io.Reader, out, errOut io.Writer, resize <-chan TerminalSize) error {
		ran = true
		status, err := x.exec(ctx, in, out, errOut, resize)
		if failed = err; err != nil {
			return err
		}
		if code = &status; status != 0 {
			return utilexec.CodeExitError{Err: fmt.Errorf("exit status %d", status), Code: status}
		}
		return nil
	})
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		serveWebSocket(w, r, do, x.options)
	} else {
		o := &remotecommand.Options{Stdin: x.options.stdin, Stdout: x.options.stdout, Stderr: x.options.stderr, TTY: x.options.tty}
		remotecommand.ServeExec(w, r, do, x.name, "", "", x.options.command, o, sessionIdle, streamTime, remotecommand.SupportedStreamingProtocols)
	}
	if !ran {
		failed = errors.New("the client did not open the streams that it asked for")
	}
	if x.audit != nil {
		_ = x.audit.End(code, failed, x.in.Load(), x.out.Load()) // its beginning is written
	}
}

// executorFunc runs the command between the streams of a client.
type executorFunc func(ctx context.Context, in io.Reader, out, errOut io.Writer, resize <-chan TerminalSize) error

// ExecInContainer implements remotecommand.Executor.
func (f executorFunc) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	var sizes chan TerminalSize
	if resize != nil {
		sizes = make(chan TerminalSize)
		go func() {
			defer close(sizes)
			for s := range resize {
				select {
				case sizes <- TerminalSize{s.Width, s.Height}:
				case <-ctx.Done():
				}
			}
		}()
	}
	// Writers that are nil must be so as interfaces, too.
	var o, e io.Writer
	if out != nil {
		o = out
	}
	if errOut != nil {
		e = errOut
	}
	return f(ctx, in, o, e, sizes)
}

func (x *execSession) exec(ctx context.Context, in io.Reader, out, errOut io.Writer, resize <-chan TerminalSize) (int, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	e := Exec{Command: x.options.command, TTY: x.options.tty}
	kept := func(f func([]byte) error) func([]byte) error {
		return func(p []byte) error {
			if x.recording == nil {
				return nil
			}
			err := f(p)
			if err != nil {
				fail(fmt.Errorf("the session was ended, because it could not be recorded any more: %w", err))
			}
			return err
		}
	}
	output, input := kept(x.recording.Output), kept(x.recording.Input)
	if x.options.stdin && in != nil {
		e.Stdin = &tapReader{in, &x.in, input}
	}
	if x.options.stdout && out != nil {
		e.Stdout = &tapWriter{out, &x.out, output}
	}
	if x.options.stderr && errOut != nil {
		e.Stderr = &tapWriter{errOut, &x.out, output}
	}
	if err := x.notice(out, errOut); err != nil {
		return 0, err
	}
	if x.options.tty && resize != nil {
		first := time.NewTimer(firstSize)
		select {
		case size := <-resize:
			e.Width, e.Height = size.Width, size.Height
			_ = x.resized(size) // the next word says it again
		case <-first.C:
		}
		first.Stop()
		e.Resize = x.resizes(ctx, resize)
	}
	status, err := x.storage.Access.Exec(ctx, x.namespace, x.name, e)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return status, err
}

// notice tells people that they are recorded, where it does not mix with data.
func (x *execSession) notice(out, errOut io.Writer) error {
	if x.recording == nil {
		return nil
	}
	var err error
	switch {
	case x.options.tty && out != nil:
		_, err = io.WriteString(out, recordedNotice+"\r\n")
	case !x.options.tty && x.options.stderr && errOut != nil:
		_, err = io.WriteString(errOut, recordedNotice+"\n")
	}
	return err
}

func (x *execSession) resized(size TerminalSize) error {
	if x.recording == nil {
		return nil
	}
	return x.recording.Resize(size.Width, size.Height)
}

// resizes passes sizes on, and keeps them.
func (x *execSession) resizes(ctx context.Context, from <-chan TerminalSize) <-chan TerminalSize {
	to := make(chan TerminalSize)
	go func() {
		for {
			select {
			case size, ok := <-from:
				if !ok || x.resized(size) != nil {
					return
				}
				select {
				case to <- size:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}

// tapReader counts and keeps what is read.
type tapReader struct {
	from io.Reader
	n    *atomic.Int64
	keep func([]byte) error
}

func (t *tapReader) Read(p []byte) (int, error) {
	n, err := t.from.Read(p)
	t.n.Add(int64(n))
	if n > 0 {
		if failed := t.keep(p[:n]); failed != nil {
			return 0, failed
		}
	}
	return n, err
}

// tapWriter counts and keeps what is written.
type tapWriter struct {
	to   io.Writer
	n    *atomic.Int64
	keep func([]byte) error
}

func (t *tapWriter) Write(p []byte) (int, error) {
	if err := t.keep(p); err != nil {
		return 0, err
	}
	n, err := t.to.Write(p)
	t.n.Add(int64(n))
	return n, err
}
