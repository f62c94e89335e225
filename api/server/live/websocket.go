package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// statusTime bounds the writing of how a command ended.
const statusTime = 10 * time.Second

// serveWebSocket speaks v5.channel.k8s.io, which can say that the input has ended. The older protocols, and SPDY, are
// those of k8s.io/cri-streaming, which does not know this one.
func serveWebSocket(w http.ResponseWriter, r *http.Request, run executorFunc, o execOptions) {
	channels := make([]wsstream.ChannelType, 5)
	for channel, c := range map[int]struct {
		wanted bool
		kind   wsstream.ChannelType
	}{
		remotecommand.StreamStdIn: {o.stdin, wsstream.ReadChannel}, remotecommand.StreamStdOut: {o.stdout, wsstream.WriteChannel},
		remotecommand.StreamStdErr: {o.stderr, wsstream.WriteChannel}, remotecommand.StreamErr: {true, wsstream.WriteChannel},
		remotecommand.StreamResize: {true, wsstream.ReadChannel},
	} {
		if c.wanted {
			channels[channel] = c.kind
		}
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels}})
	conn.SetIdleTimeout(sessionIdle)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		return // the handshake has said why
	}
	defer func() { _ = conn.Close() }()
	// An empty message tells the client that the connection is made.
	for _, c := range []int{remotecommand.StreamStdOut, remotecommand.StreamStdErr, remotecommand.StreamErr} {
		if channels[c] == wsstream.WriteChannel {
			if _, err := streams[c].Write(nil); err != nil {
				return
			}
			break
		}
	}
	sizes := make(chan TerminalSize)
	go func() {
		defer close(sizes)
		decoder := json.NewDecoder(streams[remotecommand.StreamResize])
		for {
			var size TerminalSize
			if decoder.Decode(&size) != nil {
				return
			}
			select {
			case sizes <- size:
			case <-r.Context().Done():
				return
			}
		}
	}()
	err = run(r.Context(), streams[remotecommand.StreamStdIn], streams[remotecommand.StreamStdOut], streams[remotecommand.StreamStdErr], sizes)
	conn.SetWriteDeadline(statusTime)
	if b, err := json.Marshal(statusOf(err)); err == nil {
		_, _ = streams[remotecommand.StreamErr].Write(b) // the client has gone
	}
}

// statusOf is how a command ended, as clients want to hear it.
func statusOf(err error) metav1.Status {
	var exit utilexec.CodeExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit):
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", err),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(exit.Code)}}},
		}
	}
	if s, ok := internal(err).(apierrors.APIStatus); ok {
		return s.Status()
	}
	return metav1.Status{Status: metav1.StatusFailure, Message: err.Error()}
}

// watchedWriter tells when the connection that is taken over breaks off: the request's context does not any more.
type watchedWriter struct {
	http.ResponseWriter
	gone func()
}

// Hijack implements http.Hijacker.
func (w *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	watched := &watchedConn{conn, w.gone}
	var from io.Reader = watched
	if n := buffered.Reader.Buffered(); n > 0 {
		early, err := buffered.Reader.Peek(n)
		if err != nil {
			return nil, nil, err
		}
		from = io.MultiReader(bytes.NewReader(early), watched)
	}
	return watched, bufio.NewReadWriter(bufio.NewReader(from), bufio.NewWriter(watched)), nil
}

type watchedConn struct {
	net.Conn
	gone func()
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.gone()
	}
	return n, err
}
