package access

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// dialTime bounds a connection's beginning.
const dialTime = 10 * time.Second

func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	name, i, ok := s.findRunning(w, r)
	if !ok || !wantsUpgrade(w, r) {
		return
	}
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || port == 0 {
		fail(w, http.StatusBadRequest, "", fmt.Sprintf("port=%q: use a number from 1 to 65535", r.URL.Query().Get("port")))
		return
	}
	// A body would be taken for the first bytes of the connection.
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		fail(w, http.StatusBadRequest, "", fmt.Sprintf("read the request: %v", err))
		return
	}
	inside, err := s.dial(i, uint16(port))
	if err != nil {
		fail(w, http.StatusBadGateway, padisv1.ReasonNetworkFailed, fmt.Sprintf("connect to port %d of instance %s: %v; does it listen on 127.0.0.1 or on its own address?", port, name, err))
		return
	}
	conn, from, err := hijack(w)
	if err != nil {
		s.cfg.Log.Error("take a connection over", zap.Error(err))
		_ = inside.Close()
		return
	}
	defer s.sessions.add(conn)()
	join(conn, from, inside)
}

// dial connects to the loopback of the instance, and to its own address if nobody listens there.
func (s *Server) dial(i Instance, port uint16) (net.Conn, error) {
	namespace := i.Runtime.NetworkNamespace()
	conn, err := s.cfg.Dial(namespace, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), dialTime)
	if errors.Is(err, unix.ECONNREFUSED) && len(i.Addresses) > 0 {
		return s.cfg.Dial(namespace, netip.AddrPortFrom(i.Addresses[0], port), dialTime)
	}
	return conn, err
}

// closeWriter is a connection of which one direction can be ended.
type closeWriter interface{ CloseWrite() error }

// join moves bytes between two connections until both directions have ended, and closes them. From is what is read of
// outside.
func join(outside net.Conn, from io.Reader, inside net.Conn) {
	var both sync.WaitGroup
	move := func(to net.Conn, from io.Reader) {
		_, err := io.Copy(to, from)
		if half, ok := to.(closeWriter); ok && err == nil {
			err = half.CloseWrite()
		}
		if err != nil {
			_ = outside.Close()
			_ = inside.Close()
		}
	}
	both.Go(func() { move(inside, from) })
	both.Go(func() { move(outside, inside) })
	both.Wait()
	_ = outside.Close()
	_ = inside.Close()
}
