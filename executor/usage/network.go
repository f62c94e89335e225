package usage

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// namespace tells one from another.
type namespace struct{ dev, ino uint64 }

func netOf(process string) (namespace, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+process+"/ns/net", &st); err != nil {
		return namespace{}, err
	}
	return namespace{uint64(st.Dev), st.Ino}, nil
}

// network fills in what the network namespace of a process tells, if it is not ours.
func (r *Reader) network(pid int, b *buffer, s *Sample) error {
	process := strconv.Itoa(pid)
	if ns, err := netOf(process); err != nil || ns == r.net {
		return err
	}
	dir := "/proc/" + process + "/net"
	text, err := b.read(dir + "/dev")
	if err != nil {
		return err
	}
	s.RxBytes, s.TxBytes = parseDev(text)
	if text, err = b.read(dir + "/snmp"); err != nil {
		return err
	}
	s.TCPEstablished = parseEstablished(text)
	if s.TCPListen, err = listening(process, b); err == nil {
		return nil
	}
	// A kernel without sock_diag. /proc/PID/net/tcp is slow - reading it walks the table of the connections of all
	// namespaces, several milliseconds on a host with much memory - but always there.
	for _, name := range [...]string{"/tcp", "/tcp6"} {
		if text, err := b.read(dir + name); err == nil {
			s.TCPListen += parseListening(text)
		}
	}
	return nil
}

// listening counts the listening TCP sockets in the network namespace of a process. Asked for these alone, the kernel
// looks only at the table of listeners.
func listening(process string, b *buffer) (uint64, error) {
	fd, err := diagSocket(process)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var total uint64
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		n, err := dump(fd, family, unix.IPPROTO_TCP, 1<<stateListen, b, nil)
		// A host without IPv6 has no answer for it.
		if err != nil && family == unix.AF_INET {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// answerTimeout bounds what can only be a bug of the kernel.
var answerTimeout = unix.NsecToTimeval(int64(time.Second))

// diagSocket opens a socket in the network namespace of a process; it stays there whichever thread uses it.
func diagSocket(process string) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var own, theirs int
		if own, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(own)
		if theirs, err = unix.Open("/proc/"+process+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(theirs)
		if err = unix.Setns(theirs, unix.CLONE_NEWNET); err != nil {
			return
		}
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
		// A thread that cannot return stays locked, and ends with the goroutine.
		if unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &answerTimeout); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

const (
	sockDiagByFamily = 20 // linux/sock_diag.h
	stateListen      = 10 // net/tcp_states.h
	headerLen        = unix.SizeofNlMsghdr
	requestLen       = headerLen + 56 // struct inet_diag_req_v2
)

// dump asks for the sockets of one family and protocol that are in one of the states (a bit each), and counts them; each, if
// there is one, is given the struct inet_diag_msg of each.
func dump(fd int, family, protocol uint8, states uint32, b *buffer, each func([]byte)) (total uint64, err error) {
	request := make([]byte, requestLen)
	binary.NativeEndian.PutUint32(request[0:], requestLen)
	binary.NativeEndian.PutUint16(request[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[headerLen], request[headerLen+1] = family, protocol
	binary.NativeEndian.PutUint32(request[headerLen+4:], states)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	for {
		n, err := retry(func() (int, error) { n, _, err := unix.Recvfrom(fd, b.b, 0); return n, err })
		if err != nil {
			return 0, err
		}
		found, done, err := parseDump(b.b[:n], each)
		total += found
		if done || err != nil {
			return total, err
		}
	}
}

// parseDump counts the sockets of one datagram of the answer, and tells whether it was the last.
func parseDump(b []byte, each func([]byte)) (sockets uint64, done bool, err error) {
	for len(b) >= headerLen {
		length := int(binary.NativeEndian.Uint32(b))
		if length < headerLen || length > len(b) {
			return sockets, true, fmt.Errorf("a netlink message of %d bytes in %d", length, len(b))
		}
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return sockets, true, nil
		case unix.NLMSG_ERROR:
			if length < headerLen+4 {
				return sockets, true, unix.EIO
			}
			return sockets, true, unix.Errno(-int32(binary.NativeEndian.Uint32(b[headerLen:])))
		case sockDiagByFamily:
			sockets++
			if each != nil {
				each(b[headerLen:length])
			}
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return sockets, false, nil
}
