package live

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	gwebsocket "github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	client "k8s.io/client-go/tools/portforward"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"padis.io/padis/api/server/audit"
)

// forwardStorage is the subresource instances/portforward.
type forwardStorage struct{ subresource }

// ConnectMethods are those of SPDY and of WebSocket.
func (forwardStorage) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// Connect lets a client open connections to ports of one instance.
func (s forwardStorage) Connect(ctx context.Context, name string, _ kruntime.Object, responder rest.Responder) (http.Handler, error) {
	namespace, err := s.check(ctx, name, s.Access != nil)
	if err != nil {
		return nil, err
	}
	if err := s.mayCreate(ctx, namespace, name, "portforward"); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !httpstream.IsUpgradeRequest(r) {
			responder.Error(apierrors.NewBadRequest("ports are forwarded over a connection of their own: ask for an upgrade to WebSocket or SPDY, as kubectl's library does"))
			return
		}
		ctx, cancel := untilShutdown(r.Context())
		defer cancel()
		f := &forwarder{s, r.WithContext(ctx), namespace, name}
		if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
			f.tunnel(w)
			return
		}
		options, err := portforward.NewV4Options(r)
		if err != nil {
			responder.Error(apierrors.NewBadRequest(err.Error()))
			return
		}
		f.serve(&watchedWriter{ResponseWriter: w, gone: cancel}, f.request, options)
	}), nil
}

// forwarder serves one client.
type forwarder struct {
	storage         forwardStorage
	request         *http.Request
	namespace, name string
}

func (f *forwarder) serve(w http.ResponseWriter, r *http.Request, options *portforward.V4Options) {
	portforward.ServePortForward(w, r, f, f.name, "", options, sessionIdle, streamTime, portforward.SupportedProtocols)
}

// tunnel speaks SPDY over a WebSocket, as today's clients do.
func (f *forwarder) tunnel(w http.ResponseWriter) {
	upgrader := gwebsocket.Upgrader{
		// Who comes by a browser has no certificate and no token there.
		CheckOrigin:  func(*http.Request) bool { return true },
		Subprotocols: []string{portforward.WebsocketsSPDYTunnelingPortForwardV1},
	}
	conn, err := upgrader.Upgrade(w, f.request, nil)
	if err != nil {
		return // the upgrader has said why
	}
	inner := f.request.Clone(f.request.Context())
	inner.Method = http.MethodPost
	inner.Header = http.Header{
		httpstream.HeaderConnection:      {httpstream.HeaderUpgrade},
		httpstream.HeaderUpgrade:         {spdy.HeaderSpdy31},
		httpstream.HeaderProtocolVersion: {portforward.ProtocolV1Name},
	}
	f.serve(&tunnelWriter{conn: client.NewTunnelingConnection("server", conn), header: http.Header{}}, inner, &portforward.V4Options{})
}

// tunnelWriter is the answer to a request for SPDY that was never on the wire: the WebSocket has been agreed on already.
type tunnelWriter struct {
	conn   net.Conn
	header http.Header
}

func (w *tunnelWriter) Header() http.Header         { return w.header }
func (w *tunnelWriter) WriteHeader(int)             {}
func (w *tunnelWriter) Write(p []byte) (int, error) { return len(p), nil }

// Hijack implements http.Hijacker.
func (w *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

// PortForward implements portforward.PortForwarder: one connection. Its context is not the request's.
func (f *forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	session, err := f.storage.begin(f.request, audit.Entry{Verb: "portforward", Namespace: f.namespace, Instance: f.name, Port: port})
	if err != nil {
		return err
	}
	var in, out atomic.Int64
	err = f.connect(uint16(port), stream, &in, &out)
	if session != nil {
		_ = session.End(nil, err, in.Load(), out.Load()) // its beginning is written
	}
	return err
}

func (f *forwarder) connect(port uint16, stream io.ReadWriteCloser, in, out *atomic.Int64) error {
	inside, err := f.storage.Access.Forward(f.request.Context(), f.namespace, f.name, port)
	if err != nil {
		return err
	}
	defer func() { _ = inside.Close() }()
	go func() {
		if _, err := io.Copy(&tapWriter{inside, in, ignore}, stream); err != nil {
			_ = inside.Close()
			return
		}
		_ = inside.CloseWrite() // if that fails, the other direction has ended, too
	}()
	_, err = io.Copy(&tapWriter{stream, out, ignore}, inside)
	return err
}

func ignore([]byte) error { return nil }
