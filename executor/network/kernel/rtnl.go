package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// request is one rtnetlink message: its header, the fixed part of its kind, attributes (netlink(7), rtnetlink(7)).
type request struct {
	b []byte
	// what the request is for, in errors.
	what fmt.Stringer
	// ignore lists what is no failure: what shall go is not there, what shall come is.
	ignore []unix.Errno
	// reply gets the body of the answer to a question, which is one message and no acknowledgement.
	reply func([]byte)
}

func newRequest(kind uint16, flags int, fixed []byte) *request {
	b := make([]byte, unix.NLMSG_HDRLEN, 256)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|uint16(flags))
	return &request{b: append(b, fixed...)}
}

func (r *request) attr(kind int, value []byte) *request {
	r.b = binary.NativeEndian.AppendUint16(r.b, uint16(unix.SizeofNlAttr+len(value)))
	r.b = binary.NativeEndian.AppendUint16(r.b, uint16(kind))
	r.b = append(r.b, value...)
	for len(r.b)%unix.NLMSG_ALIGNTO != 0 {
		r.b = append(r.b, 0)
	}
	return r
}

func (r *request) u8(kind int, v uint8) *request { return r.attr(kind, []byte{v}) }
func (r *request) u16(kind int, v uint16) *request {
	return r.attr(kind, binary.NativeEndian.AppendUint16(nil, v))
}
func (r *request) u32(kind int, v uint32) *request {
	return r.attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}
func (r *request) u64(kind int, v uint64) *request {
	return r.attr(kind, binary.NativeEndian.AppendUint64(nil, v))
}
func (r *request) text(kind int, v string) *request { return r.attr(kind, append([]byte(v), 0)) }

// nest adds an attribute whose value is what f adds.
func (r *request) nest(kind int, f func()) *request {
	at := len(r.b)
	r.attr(kind, nil)
	f()
	binary.NativeEndian.PutUint16(r.b[at:], uint16(len(r.b)-at))
	return r
}

// attributes reads attributes up to the first that is cut off.
func attributes(b []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(b))
			kind := int(binary.NativeEndian.Uint16(b[2:])) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if length < unix.SizeofNlAttr || length > len(b) {
				return
			}
			if !yield(kind, b[unix.SizeofNlAttr:length]) {
				return
			}
			b = b[min(align(length), len(b)):]
		}
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// Numbers in attributes; what is too short is 0.
func number16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(b)
}

func number32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func number64(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b)
}

func text(b []byte) string {
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// conn is an rtnetlink socket. It stays in the namespace of the thread that opened it.
type conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
}

// atOnce is how many requests are sent in one system call: their acknowledgements must fit into the socket's buffer.
const atOnce = 64

// errInterrupted tells that what was listed changed while it was listed.
var errInterrupted = errors.New("it changed while it was read; try again")

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	// Each of these is a comfort that old kernels lack: short acknowledgements, errors in words, filters in the kernel.
	for _, option := range []int{unix.NETLINK_CAP_ACK, unix.NETLINK_EXT_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	return &conn{fd: fd}, nil
}

func (c *conn) close() {
	if c != nil {
		unix.Close(c.fd)
	}
}

var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// do carries requests out in their order, many in one system call. The kernel goes on after one that fails: the error
// is that of the first, and what was sent together with it may be done.
func (c *conn) do(requests ...*request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for part := range slices.Chunk(requests, atOnce) {
		if err := c.exchange(part); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) exchange(requests []*request) error {
	var out []byte
	first := c.seq + 1
	for _, r := range requests {
		c.seq++
		flags := unix.NLM_F_ACK
		if r.reply != nil {
			flags = 0
		}
		out = append(out, r.finish(flags, c.seq)...)
	}
	if err := c.send(out); err != nil {
		return err
	}
	var failed error
	for open := len(requests); open > 0; {
		err := c.receive(func(kind uint16, _ uint16, seq uint32, body []byte) {
			if seq-first >= uint32(len(requests)) {
				return // of a request that was given up
			}
			r := requests[seq-first]
			if kind != unix.NLMSG_ERROR {
				if r.reply != nil {
					r.reply(body)
					open--
				}
				return
			}
			open--
			if err := r.outcome(body); err != nil && failed == nil {
				failed = err
			}
		})
		if err != nil {
			return err
		}
	}
	return failed
}

// dump lists: each gets the body of one entry. If the error is errInterrupted, entries may be missing.
func (c *conn) dump(r *request, each func([]byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	if err := c.send(r.finish(unix.NLM_F_DUMP, c.seq)); err != nil {
		return err
	}
	var failed error
	for done := false; !done; {
		err := c.receive(func(kind, flags uint16, seq uint32, body []byte) {
			if seq != c.seq {
				return
			}
			if flags&unix.NLM_F_DUMP_INTR != 0 && failed == nil {
				failed = errInterrupted
			}
			switch kind {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				done = true
				if err := r.outcome(body); err != nil {
					failed = err
				}
			default:
				each(body)
			}
		})
		if err != nil {
			return err
		}
	}
	return failed
}

// list dumps until nothing changes meanwhile; if that does not come to an end, what changes is not ours.
func list[T any](c *conn, r *request, parse func([]byte) (T, bool)) ([]T, error) {
	const attempts = 5
	var out []T
	var err error
	for range attempts {
		out = out[:0]
		err = c.dump(r, func(body []byte) {
			if t, ok := parse(body); ok {
				out = append(out, t)
			}
		})
		if !errors.Is(err, errInterrupted) {
			return out, err
		}
	}
	return out, nil
}

func (r *request) finish(flags int, seq uint32) []byte {
	binary.NativeEndian.PutUint32(r.b, uint32(len(r.b)))
	binary.NativeEndian.PutUint16(r.b[6:], binary.NativeEndian.Uint16(r.b[6:])|uint16(flags))
	binary.NativeEndian.PutUint32(r.b[8:], seq)
	return r.b
}

// outcome reads the body of an acknowledgement: an errno, the header of the request, and perhaps the kernel's words.
func (r *request) outcome(body []byte) error {
	code := unix.Errno(-int32(number32(body)))
	if code == 0 || slices.Contains(r.ignore, code) {
		return nil
	}
	var err error = code
	if len(body) > 4+unix.NLMSG_HDRLEN {
		for kind, value := range attributes(body[4+unix.NLMSG_HDRLEN:]) {
			if kind == unix.NLMSGERR_ATTR_MSG {
				err = fmt.Errorf("%w (%s)", code, text(value))
			}
		}
	}
	if r.what != nil {
		err = fmt.Errorf("%s: %w", r.what, err)
	}
	return err
}

func (c *conn) send(b []byte) error {
	if err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to rtnetlink: %w", err)
	}
	return nil
}

// receive reads one datagram and hands its messages on.
func (c *conn) receive(each func(kind, flags uint16, seq uint32, body []byte)) error {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	var n int
	for {
		var err error
		n, _, err = unix.Recvfrom(c.fd, buf[:], 0)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return fmt.Errorf("receive from rtnetlink: %w", err)
		}
	}
	for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return fmt.Errorf("receive from rtnetlink: a message of %d bytes in %d", length, len(b))
		}
		each(number16(b[4:]), number16(b[6:]), number32(b[8:]), b[unix.NLMSG_HDRLEN:length])
		b = b[min(align(length), len(b)):]
	}
	return nil
}
