package live

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"padis.io/padis/api/runtime"
)

// LogOptions say which part of an instance's output is wanted.
type LogOptions struct {
	// Stream is stdout or stderr.
	Stream string
	// TailLines is the number of last lines; negative means all.
	TailLines int64
	// LimitBytes ends the output after that many bytes; negative means never.
	LimitBytes int64
	// Follow keeps the stream open for what is still to come.
	Follow bool
	// Previous asks for the output of the run before the present one.
	Previous bool
}

// LogReader gives the output of an instance. The reader ends at the end of the output or, when following, with ctx.
// Errors of the class APIStatus reach the client as they are.
type LogReader interface {
	Log(ctx context.Context, namespace, name string, o LogOptions) (io.ReadCloser, error)
}

// parseLogOptions reads a query. Unknown parameters and values are refused, since a client that asked for them would
// take the answer for something it is not.
func parseLogOptions(q url.Values) (LogOptions, error) {
	o := LogOptions{Stream: "stdout", TailLines: -1, LimitBytes: -1}
	for key, values := range q {
		value := values[len(values)-1]
		var err error
		switch key {
		case "stream":
			if value != "stdout" && value != "stderr" {
				err = fmt.Errorf("use stdout or stderr")
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
		case "timeout", "pretty":
		default:
			err = fmt.Errorf("unknown parameter: use stream, tailLines, limitBytes, follow and previous")
		}
		if err != nil {
			return o, apierrors.NewBadRequest(fmt.Sprintf("%s=%q: %v", key, value, err))
		}
	}
	return o, nil
}

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
type logStorage struct {
	instances *Store[*runtime.Instance]
	reader    LogReader
}

func (logStorage) New() kruntime.Object     { return &runtime.Instance{} }
func (logStorage) Destroy()                 {}
func (logStorage) ConnectMethods() []string { return []string{http.MethodGet} }
func (logStorage) NewConnectOptions() (kruntime.Object, bool, string) {
	return nil, false, ""
}

// ProducesMIMETypes and ProducesObject tell the description of the API that this is text.
func (logStorage) ProducesMIMETypes(string) []string { return []string{"text/plain"} }
func (logStorage) ProducesObject(string) any         { return "" }

// Connect streams the output of one instance.
func (s logStorage) Connect(ctx context.Context, name string, _ kruntime.Object, responder rest.Responder) (http.Handler, error) {
	namespace := request.NamespaceValue(ctx)
	if _, ok := s.instances.Get(namespace, name); !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: "instances"}, name)
	}
	if s.reader == nil {
		return nil, apierrors.NewServiceUnavailable("this server has no access to logs: ask the one that runs the scheduler")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		options, err := parseLogOptions(r.URL.Query())
		if err != nil {
			responder.Error(err)
			return
		}
		ctx, cancel := untilShutdown(r.Context())
		defer cancel()
		stream, err := s.reader.Log(ctx, namespace, name, options)
		if err != nil {
			responder.Error(err)
			return
		}
		defer func() { _ = stream.Close() }()
		var from io.Reader = stream
		if options.LimitBytes >= 0 {
			from = io.LimitReader(stream, options.LimitBytes)
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		copyFlushing(w, from)
	}), nil
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
func copyFlushing(w http.ResponseWriter, r io.Reader) {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32*1024)
	_ = control.Flush()
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if _, failed := w.Write(buffer[:n]); failed != nil {
				return
			}
			_ = control.Flush()
		}
		if err != nil {
			return
		}
	}
}
