package guard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The library asks for an answer to each message of a batch and reads each with two system calls. What every attach and
// detach does, to add and to remove a few elements, goes by this socket: one call to send, and one for the only answer.

// errSilent tells that the kernel did not answer in time, which it does before it has taken a batch.
var errSilent = errors.New("nf_tables does not answer")

// direct is a socket of nf_tables for batches of elements.
type direct struct {
	fd  int
	seq uint32
}

// dialDirect opens it in the network namespace of the calling thread.
func dialDirect() (*direct, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	// Answers are there when the call that sends returns; the limit is against kernels that have none to give.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &direct{fd: fd}, nil
}

func (d *direct) close() {
	if d != nil {
		unix.Close(d.fd)
	}
}

// most is how many elements go in one batch: it must fit into the buffer of a socket.
const most = 400

func count(steps []step) (n int) {
	for _, s := range steps {
		n += len(s.del) + len(s.add)
	}
	return n
}

// send carries out the steps, all or none.
func (d *direct) send(layouts *[3]layout, steps []step) error {
	if count(steps) == 0 {
		return nil
	}
	first := d.seq + 1
	b := d.message(nil, unix.NFNL_MSG_BATCH_BEGIN, 0, unix.NFNL_SUBSYS_NFTABLES)
	last := 0
	put := func(kind uint16, flags uint16, all []element) {
		for len(all) > 0 {
			n := 1
			for n < len(all) && all[n].place == all[0].place && all[n].set == all[0].set {
				n++
			}
			last = len(b)
			table := layouts[all[0].place].table
			b = d.message(b, unix.NFNL_SUBSYS_NFTABLES<<8|kind, byte(table.Family), 0)
			setFlags(b[last:], flags)
			b = appendElements(b, table, all[0].set, all[:n])
			binary.NativeEndian.PutUint32(b[last:], uint32(len(b)-last))
			all = all[n:]
		}
	}
	for _, s := range steps {
		put(unix.NFT_MSG_DELSETELEM, 0, s.del)
		put(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, s.add)
	}
	// Errors are told of each message, success of the last one only.
	setFlags(b[last:], unix.NLM_F_ACK)
	awaited := d.seq
	b = d.message(b, unix.NFNL_MSG_BATCH_END, 0, unix.NFNL_SUBSYS_NFTABLES)
	if err := unix.Sendto(d.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to nf_tables: %w", err)
	}
	return d.await(first, awaited)
}

// message appends the header of a message, with struct nfgenmsg.
func (d *direct) message(b []byte, kind uint16, family byte, resource uint16) []byte {
	d.seq++
	b = binary.NativeEndian.AppendUint32(b, unix.SizeofNlMsghdr+4)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, d.seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return binary.BigEndian.AppendUint16(append(b, family, unix.NFNETLINK_V0), resource)
}

func setFlags(message []byte, flags uint16) {
	binary.NativeEndian.PutUint16(message[6:], binary.NativeEndian.Uint16(message[6:])|flags)
}

// appendElements appends the attributes of a message about elements of one set.
func appendElements(b []byte, table *nftables.Table, set string, all []element) []byte {
	b = attr(b, unix.NFTA_SET_ELEM_LIST_TABLE, append([]byte(table.Name), 0))
	b = attr(b, unix.NFTA_SET_ELEM_LIST_SET, append([]byte(set), 0))
	return nest(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(b []byte) []byte {
		for _, e := range all {
			b = nest(b, unix.NFTA_LIST_ELEM, func(b []byte) []byte {
				b = nest(b, unix.NFTA_SET_ELEM_KEY, func(b []byte) []byte { return attr(b, unix.NFTA_DATA_VALUE, []byte(e.key)) })
				if e.note != "" {
					b = attr(b, unix.NFTA_SET_ELEM_USERDATA, userdata.AppendString(nil, userdata.NFTNL_UDATA_SET_ELEM_COMMENT, e.note))
				}
				return b
			})
		}
		return b
	})
}

func attr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func nest(b []byte, kind uint16, f func([]byte) []byte) []byte {
	at := len(b)
	b = f(attr(b, kind|unix.NLA_F_NESTED, nil))
	binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
	return b
}

// await reads answers up to that to the last message, or to the batch as a whole, whose number is the first.
func (d *direct) await(first, last uint32) error {
	var failed []error
	var buf [8192]byte
	for {
		n, _, err := unix.Recvfrom(d.fd, buf[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return errSilent
		case err != nil:
			return fmt.Errorf("receive from nf_tables: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr+4; {
			length := int(binary.NativeEndian.Uint32(b))
			if length < unix.SizeofNlMsghdr+4 || length > len(b) {
				return errShort
			}
			seq := binary.NativeEndian.Uint32(b[8:])
			code := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])))
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && seq-first <= last-first { // not of a batch that was given up
				if code != 0 {
					failed = append(failed, code)
				}
				if seq == last || seq == first {
					return errors.Join(failed...)
				}
			}
			b = b[min((length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
		}
	}
}
