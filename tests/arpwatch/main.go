// Command arpwatch asks, again and again, who has each address of a list, and reports any address that more than one
// station answers for. Edge: talks to a packet socket.
//
// usage: arpwatch [-round DURATION] INTERFACE FIRST-LAST [FIRST-LAST ...]
//
// It prints one line per duplicate and, when its standard input ends, one line `rounds N answers N duplicates N`.
// The stations of one address share a MAC, so replies are told apart by request, not by sender: each round asks from
// a hardware address of its own and counts the replies to it.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	round := flag.Duration("round", 250*time.Millisecond, "time between two questions for the same address")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: arpwatch [-round DURATION] INTERFACE FIRST-LAST [FIRST-LAST ...]")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Args()[1:], *round); err != nil {
		fmt.Fprintln(os.Stderr, "arpwatch:", err)
		os.Exit(1)
	}
}

func addresses(ranges []string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, r := range ranges {
		first, last, _ := strings.Cut(r, "-")
		a, err := netip.ParseAddr(first)
		if err != nil {
			return nil, err
		}
		b, err := netip.ParseAddr(last)
		if err != nil {
			return nil, err
		}
		for ; a.Compare(b) <= 0; a = a.Next() {
			all = append(all, a)
		}
	}
	return all, nil
}

func htons(v uint16) uint16 { return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)) }

func open(name string, roundTime time.Duration) (fd, index int, err error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return 0, 0, err
	}
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ARP)))
	if err != nil {
		return 0, 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: ifi.Index}); err != nil {
		return 0, 0, err
	}
	// Replies go to addresses that no interface has.
	mreq := unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
		return 0, 0, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20)
	tv := unix.NsecToTimeval(int64(min(50*time.Millisecond, roundTime)))
	return fd, ifi.Index, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
}

// source is the hardware address that round n asks from.
func source(n uint32) (mac [6]byte) {
	mac[0], mac[1] = 0x06, 0x57
	binary.BigEndian.PutUint32(mac[2:], n)
	return mac
}

// asker is the address that asks, of TEST-NET-1. It is not 0.0.0.0: that would be a probe, and whoever is about to take
// the address, and probes for it, would have to take us for a rival (RFC 5227, 2.1.1).
var asker = []byte{192, 0, 2, 1}

func request(round uint32, target netip.Addr) []byte {
	src, ip := source(round), target.As4()
	p := make([]byte, 42)
	copy(p[0:], []byte{255, 255, 255, 255, 255, 255})
	copy(p[6:], src[:])
	copy(p[12:], []byte{0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1})
	copy(p[22:], src[:])
	copy(p[28:], asker)
	copy(p[38:], ip[:])
	return p
}

func run(name string, ranges []string, roundTime time.Duration) error {
	targets, err := addresses(ranges)
	if err != nil {
		return err
	}
	fd, index, err := open(name, roundTime)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var done atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		done.Store(true)
	}()
	var round uint32
	answers, duplicates := 0, 0
	seen := map[netip.Addr]map[uint32]int{}
	buf := make([]byte, 256)
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: index, Halen: 6}
	for !done.Load() {
		round++
		for i, t := range targets {
			// A pause between bursts: an overrun receive buffer would hide answers.
			if i%256 == 255 {
				drain(fd, buf, seen, &answers, &duplicates, time.Millisecond)
			}
			if err := unix.Sendto(fd, request(round, t), 0, to); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		drain(fd, buf, seen, &answers, &duplicates, roundTime)
		for a := range seen {
			delete(seen[a], round-20)
		}
	}
	fmt.Printf("rounds %d answers %d duplicates %d\n", round, answers, duplicates)
	return nil
}

// drain counts replies for the time of d.
func drain(fd int, buf []byte, seen map[netip.Addr]map[uint32]int, answers, duplicates *int, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || n < 42 || buf[20] != 0 || buf[21] != 2 || buf[32] != 0x06 || buf[33] != 0x57 {
			continue
		}
		from := netip.AddrFrom4([4]byte(buf[28:32]))
		round := binary.BigEndian.Uint32(buf[34:38])
		if seen[from] == nil {
			seen[from] = map[uint32]int{}
		}
		seen[from][round]++
		*answers++
		if seen[from][round] == 2 {
			*duplicates++
			fmt.Printf("duplicate %s round %d at %s\n", from, round, time.Now().Format("15:04:05.000"))
		}
	}
}
