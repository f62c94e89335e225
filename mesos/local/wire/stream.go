package wire

import (
	"net/http"
	"sync"

	"github.com/gogo/protobuf/proto"
	"github.com/mesos/mesos-go/api/v1/lib/recordio"
)

// maxQueued bounds what a stream holds for a client that does not read; beyond it the stream is cut, and the client
// has to subscribe again.
const maxQueued = 64 << 10

// Stream is one RecordIO event stream to a client. Send never blocks; Serve, in the goroutine of the request, writes.
type Stream struct {
	ID    string // Mesos-Stream-Id, empty on streams that have none
	media string

	mu     sync.Mutex
	queue  []proto.Message
	closed bool
	wake   chan struct{}
}

// NewStream makes a stream that writes messages in a media type.
func NewStream(id, media string) *Stream {
	return &Stream{ID: id, media: media, wake: make(chan struct{}, 1)}
}

// Send queues one event. The caller must not change it afterwards.
func (s *Stream) Send(event proto.Message) {
	s.mu.Lock()
	if !s.closed {
		s.queue = append(s.queue, event)
		s.closed = len(s.queue) > maxQueued
	}
	s.mu.Unlock()
	s.signal()
}

// Close ends the stream after what is queued.
func (s *Stream) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Serve writes the events until the stream is closed or the client has gone.
func (s *Stream) Serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", s.media)
	if s.ID != "" {
		w.Header().Set("Mesos-Stream-Id", s.ID)
	}
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.Flush()
	frames := recordio.NewWriter(w)
	for {
		s.mu.Lock()
		batch, closed := s.queue, s.closed
		s.queue = nil
		s.mu.Unlock()
		for _, event := range batch {
			b, err := Encode(s.media, event)
			if err != nil {
				continue // an event that cannot be encoded was built wrongly; the rest of the stream is still good
			}
			if frames.WriteFrame(b) != nil {
				return
			}
		}
		if len(batch) > 0 {
			if control.Flush() != nil {
				return
			}
			continue
		}
		if closed {
			return
		}
		select {
		case <-s.wake:
		case <-r.Context().Done():
			return
		}
	}
}
