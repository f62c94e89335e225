package usage

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Clients are those whom an instance serves at some of its addresses.
type Clients struct {
	// Connections of TCP from elsewhere that are not at their end.
	Connections int
	// Datagrams: it receives datagrams from anybody. From whom, the kernel does not know.
	Datagrams bool
}

// States of sockets: net/tcp_states.h. A socket of UDP that is connected is established, any other closed.
const (
	stateEstablished = 1
	stateSynRecv     = 3
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateClose       = 7
	stateCloseWait   = 8
	stateLastAck     = 9
	stateClosing     = 11

	// In these there is something that a client may still want to hear or say.
	liveStates = 1<<stateEstablished | 1<<stateSynRecv | 1<<stateFinWait1 | 1<<stateFinWait2 | 1<<stateCloseWait | 1<<stateLastAck | 1<<stateClosing
)

// ClientsOf tells whom the instance serves at those addresses whose first process is pid. A host that cannot tell who
// receives datagrams says that the instance does.
func ClientsOf(pid int, addresses []netip.Addr) (Clients, error) {
	c, err := clients(strconv.Itoa(pid), addresses)
	if err != nil {
		return Clients{}, fmt.Errorf("connections of process %d: %w", pid, gone(err))
	}
	return c, nil
}

func clients(process string, addresses []netip.Addr) (Clients, error) {
	fd, err := diagSocket(process)
	if err != nil {
		return Clients{}, err
	}
	defer unix.Close(fd)
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	var c Clients
	for _, family := range [...]uint8{unix.AF_INET, unix.AF_INET6} {
		_, err := dump(fd, family, unix.IPPROTO_TCP, liveStates, b, func(m []byte) {
			if s, ok := parseSocket(m); ok && s.serves(addresses) {
				c.Connections++
			}
		})
		if err != nil && family == unix.AF_INET {
			return Clients{}, err
		}
		_, err = dump(fd, family, unix.IPPROTO_UDP, 1<<stateClose, b, func(m []byte) {
			s, ok := parseSocket(m)
			c.Datagrams = c.Datagrams || ok && (s.local.IsUnspecified() || slices.Contains(addresses, s.local))
		})
		if err != nil && family == unix.AF_INET {
			c.Datagrams = true
		}
	}
	return c, nil
}

// socket is one of TCP or UDP.
type socket struct {
	state         uint8
	local, remote netip.Addr
	// owned: a process has it. After the end of its process the kernel alone says what is left.
	owned bool
}

// serves tells whether somebody from elsewhere has a connection by it to one of the addresses.
func (s socket) serves(addresses []netip.Addr) bool {
	own := s.remote.IsLoopback() || slices.Contains(addresses, s.remote)
	// What waits for the end of a client that was told all is kept for a minute; nobody loses anything by its end.
	return slices.Contains(addresses, s.local) && !own && (s.state != stateFinWait2 || s.owned)
}

// parseSocket reads a struct inet_diag_msg (linux/inet_diag.h).
func parseSocket(m []byte) (socket, bool) {
	const length, sourceAt, destinationAt, inodeAt = 72, 8, 24, 68
	if len(m) < length {
		return socket{}, false
	}
	s := socket{state: m[1], owned: binary.NativeEndian.Uint32(m[inodeAt:]) != 0}
	switch m[0] {
	case unix.AF_INET:
		s.local, s.remote = netip.AddrFrom4([4]byte(m[sourceAt:])), netip.AddrFrom4([4]byte(m[destinationAt:]))
	case unix.AF_INET6:
		s.local, s.remote = netip.AddrFrom16([16]byte(m[sourceAt:])).Unmap(), netip.AddrFrom16([16]byte(m[destinationAt:])).Unmap()
	default:
		return socket{}, false
	}
	return s, true
}
