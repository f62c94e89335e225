// Package kernel observes the host's network and carries out what package network plans, in-process over rtnetlink.
// Edge: talks to rtnetlink, sysctls and AF_PACKET.
//
// Measured choices: the veth pair is made by one request, its inner end in place in the instance's namespace; requests
// that follow each other are one system call; an address is announced by the kernel (arp_notify, ndisc_notify), because
// closing a packet socket costs 10 ms; an ended instance is silenced by taking its host end down, because deleting a link
// costs some 20 ms under the kernel's one lock - the pair goes away with the namespace, and its name is never used again.
//
// rtnetlink is spoken directly, since a library's requests are one system call and one lookup each. What instances may
// send and Open vSwitch are other edges, which are handed in as Parts.
package kernel

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// guard keeps instances to their addresses. Apply carries out Guard, Unguard and KeepApart, all or none; repeating it
// changes nothing. Observe looks at these links, at all if they are nil.
type guard interface {
	Observe(links []string) (map[string]network.GuardedPort, map[string][]string, error)
	Apply([]network.Op) error
}

// switches are Open vSwitches. Apply carries out AddSwitch, AddSwitchPort, DelSwitchPort, and Guard and Unguard of their
// ports. Observe looks at the switches of these names, Guarded at these ports; at all if they are nil.
type switches interface {
	Observe(names []string) ([]network.Switch, error)
	Guarded(links []string) (map[string]network.GuardedPort, error)
	Apply(network.Op) error
}

// Parts are other edges that operations go through. Without a Guard instances that shall be guarded are refused, without
// Switches those of Open vSwitch. They are called by threads in the host's namespace.
type Parts struct {
	Guard    guard
	Switches switches
	// State is a directory of the host for what must outlive a crash while the addresses of an interface move; empty is
	// none. Executors on one host should share it.
	State string
}

// Network is the network of the host that the process runs in. Its methods may be called at the same time.
type Network struct {
	owner string
	parts Parts
	// home is the host's network namespace.
	home int
	host *conn
	// claim is a bound abstract Unix socket. It exists as long as this process, within this network namespace, and
	// so tells the next executor that the host ends with our tag have somebody who looks after them.
	claim int
	// announcer sends announcements; it is bound to no protocol and never receives.
	announcer int
	// segments serialises the making of bridges and the like, which several instances may want at once.
	segments sync.Mutex
	watch    watch
}

// ErrOwned tells that another living executor has the same owner on this host.
var ErrOwned = errors.New("another executor of this framework is alive on this host; wait for its end, or end it")

// Open claims the owner name on this host, waiting up to wait for a dying executor of that name. What an executor that
// died in the middle of a MoveAddresses left is put back.
func Open(owner string, wait time.Duration, p Parts) (*Network, error) {
	n := &Network{owner: owner, parts: p, claim: -1, announcer: -1, home: -1}
	err := n.open(wait)
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Look opens the host's network without the claim, beside an executor of that name that may be alive: for operators. It
// puts nothing back.
func Look(owner string, p Parts) (*Network, error) {
	n := &Network{owner: owner, parts: p, claim: -1, announcer: -1, home: -1}
	if err := n.dial(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Network) open(wait time.Duration) (err error) {
	if n.claim, err = claim(n.owner, wait); err != nil {
		return err
	}
	if err := n.dial(); err != nil {
		return err
	}
	return n.recover()
}

func (n *Network) dial() (err error) {
	if n.home, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the host's network namespace: %w", err)
	}
	if same(n.home, origin) {
		unix.Close(n.home)
		n.home = origin
	}
	if n.announcer, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open a packet socket: %w; the executor needs CAP_NET_RAW on its host", err)
	}
	n.host, err = dial()
	return err
}

// Close gives the claim up.
func (n *Network) Close() {
	n.host.close()
	for _, fd := range []int{n.announcer, n.claim, n.home} {
		if fd >= 0 && fd != origin {
			unix.Close(fd)
		}
	}
}

func claimName(tag string) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: "@padis-executor/" + tag}
}

func claim(owner string, wait time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("claim %s: %w", owner, err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Bind(fd, claimName(network.OwnerTag(owner)))
		if err == nil {
			return fd, nil
		}
		if err != unix.EADDRINUSE || time.Now().After(deadline) {
			unix.Close(fd)
			if err == unix.EADDRINUSE {
				err = ErrOwned
			}
			return -1, fmt.Errorf("claim %s: %w", owner, err)
		}
	}
}
