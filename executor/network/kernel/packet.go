package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// packets is a packet socket that sees ARP and neighbour discovery on one link and nothing else: the kernel drops the
// rest before it is copied.
type packets struct {
	file *os.File
	conn syscall.RawConn
	buf  [128]byte
	aux  [64]byte
}

const allProtocols = 0x0300 // ETH_P_ALL in network byte order: only these sockets see what a bridge takes from its ports

func filter() ([]bpf.RawInstruction, error) {
	const accept = 128
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeARP, SkipTrue: 6},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeIPv6, SkipFalse: 6},
		bpf.LoadAbsolute{Off: ethernetLength + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nextICMPv6, SkipFalse: 4},
		bpf.LoadAbsolute{Off: ethernetLength + ipv6Length, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: solicitation, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: advertisement, SkipFalse: 1},
		bpf.RetConstant{Val: accept},
		bpf.RetConstant{Val: 0},
	})
}

// listen opens a socket on the link, in the namespace of the thread.
func listen(link int) (*packets, error) {
	program, err := filter()
	if err != nil {
		return nil, fmt.Errorf("assemble the packet filter: %w", err)
	}
	code := make([]unix.SockFilter, len(program))
	for i, x := range program {
		code[i] = unix.SockFilter{Code: x.Op, Jt: x.Jt, Jf: x.Jf, K: x.K}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w; the executor needs CAP_NET_RAW on its host", err)
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err == nil {
		// Kernels before 4.20 do not know it; what goes out is left out by read then.
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: link})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to packets: %w", err)
	}
	p := &packets{file: os.NewFile(uintptr(fd), "packets")}
	if p.conn, err = p.file.SyscallConn(); err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// close does not make the caller wait for the kernel's grace period (about 10 ms).
func (p *packets) close() { go p.file.Close() }

func (p *packets) send(f []byte, link int) error {
	var failed error
	err := p.conn.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), f, 0, &unix.SockaddrLinklayer{Ifindex: link})
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	return errors.Join(err, failed)
}

// read waits for the next frame that came in, until the file's read deadline. vlan is the tag that it had on the wire. The
// frame is good until the next read.
func (p *packets) read() (frame []byte, vlan int, err error) {
	for {
		var got, aux int
		var from unix.Sockaddr
		var failed error
		err := p.conn.Read(func(fd uintptr) bool {
			got, aux, _, from, failed = unix.Recvmsg(int(fd), p.buf[:], p.aux[:], 0)
			return failed != unix.EAGAIN && failed != unix.EINTR
		})
		if err = errors.Join(err, failed); err != nil {
			return nil, 0, err
		}
		if a, ok := from.(*unix.SockaddrLinklayer); ok && a.Pkttype != unix.PACKET_OUTGOING {
			return p.buf[:got], tag(p.aux[:aux]), nil
		}
	}
}

// tag finds the VLAN tag among the control messages of a packet (packet(7), PACKET_AUXDATA).
func tag(b []byte) int {
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		// Offsets of tp_status and tp_vlan_tci in struct tpacket_auxdata.
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20 {
			if binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
				return int(binary.NativeEndian.Uint16(m.Data[16:])) & 0xfff
			}
		}
	}
	return 0
}
