package live

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"padis.io/padis/api/server/audit"
)

// LogOptions say which part of an instance's output is wanted.
type LogOptions struct {
	// Stream is stdout, stderr, or all for both.
	Stream string
	// TailLines is the number of last lines; negative means all.
	TailLines int64
	// LimitBytes ends the output after that many bytes; negative means never.
	LimitBytes int64
	// Follow keeps the stream open for what is still to come.
	Follow bool
	// Previous asks for the output of the run before the present one.
	Previous bool
	// Since leaves out what was written before; zero leaves out nothing.
	Since time.Time
}

// LogReader gives the output of an instance. The reader ends at the end of the output or, when following, with ctx.
// Errors of the class APIStatus reach the client as they are.
type LogReader interface {
	Log(ctx context.Context, namespace, name string, o LogOptions) (io.ReadCloser, error)
}

// parseLogOptions reads a query. Unknown parameters and values are refused, since a client that asked for them would
// take the answer for something it is not.
func parseLogOptions(q url.Values, now time.Time) (LogOptions, error) {
	o := LogOptions{Stream: "stdout", TailLines: -1, LimitBytes: -1}
	for key, values := range q {
		value := values[len(values)-1]
		var err error
		switch key {
		case "stream":
			if value != "stdout" && value != "stderr" && value != "all" {
				err = fmt.Errorf("use stdout, stderr or all")
			}
			o.Stream = value
		case "tailLines":
			o.TailLines, err = parseCount(value)
		case "limitBytes":
			o.LimitBytes, err = parseCount(value)
		case "follow":
			o.Follow, err = parseBool(value)
		case "previous":
			o.Previous, err = parseBool(value)
		case "sinceSeconds":
			var n int64
			if n, err = parseCount(value); err == nil {
				o.Since = now.Add(-time.Duration(min(n, maxSince)) * time.Second)
			}
		case "sinceTime":
			if o.Since, err = time.Parse(time.RFC3339Nano, value); err != nil {
				err = fmt.Errorf("use a time such as 2006-01-02T15:04:05Z")
			}
		case "timeout", "pretty":
		default:
			err = fmt.Errorf("unknown parameter: use stream, tailLines, limitBytes, follow, previous, sinceSeconds and sinceTime")
		}
		if err != nil {
			return o, apierrors.NewBadRequest(fmt.Sprintf("%s=%q: %v", key, value, err))
		}
	}
	if q.Has("sinceSeconds") && q.Has("sinceTime") {
		return o, apierrors.NewBadRequest("give one of sinceSeconds and sinceTime")
	}
	return o, nil
}

// maxSince is longer, in seconds, than anything is kept.
const maxSince = 100 * 365 * 24 * 3600

func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("use a whole number, 0 or more")
	}
	return n, nil
}

func parseBool(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("use true or false")
	}
	return b, nil
}

// logStorage is the subresource instances/log.
type logStorage struct{ subresource }

// ConnectMethods is what reads.
func (logStorage) ConnectMethods() []string { return []string{http.MethodGet} }

// Connect streams the output of one instance.
func (s logStorage) Connect(ctx context.Context, name string, _ kruntime.Object, responder rest.Responder) (http.Handler, error) {
	namespace, err := s.check(ctx, name, s.Logs != nil)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		options, err := parseLogOptions(r.URL.Query(), time.Now())
		if err != nil {
			responder.Error(err)
			return
		}
		session, err := s.begin(r, audit.Entry{Verb: "log", Namespace: namespace, Instance: name})
		if err != nil {
			responder.Error(err)
			return
		}
		n, err := s.stream(w, r, namespace, name, options)
		if session != nil {
			_ = session.End(nil, err, 0, n) // its beginning is written
		}
		if err != nil {
			responder.Error(err)
		}
	}), nil
}

// stream returns how much the client was given, and an error only if nothing was said to it yet.
func (s logStorage) stream(w http.ResponseWriter, r *http.Request, namespace, name string, o LogOptions) (int64, error) {
	ctx, cancel := untilShutdown(r.Context())
	defer cancel()
	output, err := s.Logs.Log(ctx, namespace, name, o)
	if err != nil {
		return 0, err
	}
	defer func() { _ = output.Close() }()
	var from io.Reader = output
	if o.LimitBytes >= 0 {
		from = io.LimitReader(output, o.LimitBytes)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	return copyFlushing(w, from), nil
}

// untilShutdown ends the context also when the server wants to stop: a follower would hold it up.
func untilShutdown(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signal := request.ServerShutdownSignalFrom(ctx)
	if signal == nil {
		return ctx, cancel
	}
	go func() {
		select {
		case <-signal.ShuttingDown():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// copyFlushing hands each piece on at once, for people who follow. Errors mean that the client went away or that the
// output broke off; the status is sent already, so that the stream just ends.
func copyFlushing(w http.ResponseWriter, r io.Reader) (copied int64) {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32*1024)
	_ = control.Flush()
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if _, failed := w.Write(buffer[:n]); failed != nil {
				return copied
			}
			copied += int64(n)
			_ = control.Flush()
		}
		if err != nil {
			return copied
		}
	}
}
