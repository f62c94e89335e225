package bed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Eye is a station on the wire that asks who has an address.
type Eye struct {
	fd, index int
	mac       net.HardwareAddr
}

func htons(v uint16) uint16 { return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)) }

// between is the time after which a question is asked again: a port may not have been forwarding yet.
const between = 200 * time.Microsecond

// NewEye asks by the hardware address of this interface of the calling thread's namespace.
func NewEye(name string) (*Eye, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	tv := unix.NsecToTimeval(between.Nanoseconds())
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: i.Index}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
	)
	return &Eye{fd, i.Index, i.HardwareAddr}, err
}

// Await asks for the address until somebody answers.
func (e *Eye) Await(a netip.Addr) error {
	var in [64]byte
	frame, target := e.question(a), a.As4()
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: e.index, Halen: 6}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if err := unix.Sendto(e.fd, frame, 0, to); err != nil {
			return fmt.Errorf("ask for %s: %w", a, err)
		}
		for {
			n, _, err := unix.Recvfrom(e.fd, in[:], 0)
			if err != nil {
				break // nothing came
			}
			if n >= 42 && in[21] == 2 && [4]byte(in[28:32]) == target {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: nobody answers on the wire", a)
}

// question is an ARP request from 192.0.2.1, which is of TEST-NET-1.
func (e *Eye) question(a netip.Addr) []byte {
	target := a.As4()
	f := []byte{255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1}
	copy(f[6:], e.mac)
	copy(f[22:], e.mac)
	return append(append(f, 0, 0, 0, 0, 0, 0), target[:]...)
}

// Close must not make a measurement wait for the kernel's grace period.
func (e *Eye) Close() { go unix.Close(e.fd) }
