// Package wire is how an executor and its directors talk: frames of protobuf on a unix socket in the director's work
// directory. The executor listens there and sends padisv1.Balance, the newest to whoever connects; the director answers with
// padisv1.DirectorState after each of them and whenever something of it changes. Either side keeps what it has while there is
// no connection. Pure.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

const (
	// Verb is how the executor's binary is told to be a director: `padis-executor director`, in the network namespace and the
	// work directory of its instance. Its addresses are in PADIS_ADDRESSES, separated by commas, all of them on eth0; its name is
	// that of PADIS_NAMESPACE and PADIS_INSTANCE. SIGTERM has it leave, which takes from 1 to 11 s; a second one ends it at once.
	// It needs CAP_NET_ADMIN and CAP_BPF for its dataplane, and CAP_SYS_NICE so that BFD is never late.
	Verb = "director"
	// Socket is the name of the unix socket in the director's work directory. Names relative to that are short enough for
	// sockaddr_un, absolute ones may not be.
	Socket = "director.sock"
	// Port is where a director serves GET /ready and GET /metrics.
	Port = 9466
	// MaxFrame bounds what one side makes the other remember: tables of 655373 slots, each slot's chain with three bytes.
	MaxFrame = 8 << 20
)

// Write sends one frame: its length in four bytes, big end first, and the message.
func Write(w io.Writer, m proto.Message) error {
	frame, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4, 4+proto.Size(m)), m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	size := len(frame) - 4
	if size > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is more than the %d that are allowed: give the load balancer a smaller tableSize", size, MaxFrame)
	}
	binary.BigEndian.PutUint32(frame, uint32(size))
	_, err = w.Write(frame)
	return err
}

// Read takes one frame into m, whatever m was. The error is io.EOF if the other side ended between two frames. After any
// other error the connection cannot be used any more.
func Read(r io.Reader, m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is more than the %d that are allowed", size, MaxFrame)
	}
	// It grows with what comes, not with what is promised.
	body, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err == nil && len(body) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(body, m); err != nil {
		return fmt.Errorf("a frame is no %s: %w: bring both sides to one version", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
