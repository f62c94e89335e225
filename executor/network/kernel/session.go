package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// session is one look at the host, and at one instance if ns is not -1, and what is done after it. It has a thread of its
// own, which changes sides, because sysctls are those of the thread's namespace. Links are known by number as long as it
// lasts.
type session struct {
	n *Network
	// ns is the instance's namespace, at the one that the thread is in.
	ns, at int
	in     *conn
	// host and inner are the numbers of links by name.
	host, inner map[string]int
	// names are the host's links by number.
	names map[int]string
	// pending is sent in one system call as soon as something else must be done.
	pending []*request
	inside  bool
	// switchPorts are links that are ports of Open vSwitches, which guard them.
	switchPorts map[string]bool
	// settings are the directories of sysctls by protocol, of the host and inside, once they were needed.
	settings [2]map[string]int
	// full: nothing is left unread because it seldom matters.
	full bool
}

// session runs f with a session. ns may be -1.
func (n *Network) session(ns int, f func(*session) error) error {
	return locked(func() error {
		s := &session{n: n, ns: ns, at: origin, host: map[string]int{}, inner: map[string]int{}, names: map[int]string{}, switchPorts: map[string]bool{}}
		defer func() {
			s.in.close()
			for _, dirs := range s.settings {
				for _, fd := range dirs {
					unix.Close(fd)
				}
			}
		}()
		return f(s)
	})
}

// ports notes which host ends are the switches' affair.
func (s *session) ports(w network.Wanted) {
	for _, i := range w.Interfaces {
		s.switchPorts[i.Host] = i.Driver == network.DriverOVS
	}
}

// enter brings the thread to the instance, or to the host.
func (s *session) enter(inside bool) error {
	to := s.n.home
	if inside {
		to = s.ns
	}
	if s.at == to {
		return nil
	}
	if err := enter(to); err != nil {
		return err
	}
	s.at = to
	return nil
}

// conn is the socket of a side.
func (s *session) conn(inside bool) (*conn, error) {
	if !inside {
		return s.n.host, nil
	}
	if s.in != nil {
		return s.in, nil
	}
	if s.ns < 0 {
		return nil, errors.New("the instance has no network namespace any more")
	}
	if err := s.enter(true); err != nil {
		return nil, err
	}
	var err error
	s.in, err = dial()
	return s.in, err
}

// queue has requests of one side wait for others of the same side.
func (s *session) queue(inside bool, requests ...*request) error {
	if s.inside != inside {
		if err := s.flush(); err != nil {
			return err
		}
		s.inside = inside
	}
	s.pending = append(s.pending, requests...)
	return nil
}

func (s *session) flush() error {
	if len(s.pending) == 0 {
		return nil
	}
	requests := s.pending
	s.pending = nil
	c, err := s.conn(s.inside)
	if err != nil {
		return err
	}
	return c.do(requests...)
}

// number is a link's, which may have been made by what is pending.
func (s *session) number(inside bool, name string) (int, error) {
	known := s.host
	if inside {
		known = s.inner
	}
	if i, ok := known[name]; ok {
		return i, nil
	}
	// Asked together with what is pending.
	index := 0
	r := getLink(name, 0, func(l link) { index = l.index })
	r.what = question(name)
	if err := s.queue(inside, r); err != nil {
		return 0, err
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	known[name] = index
	return index, nil
}

// question is for a link, in errors.
type question string

func (q question) String() string { return "interface " + string(q) }

// name is that of a link of the host.
func (s *session) name(index int) (string, error) {
	if name, ok := s.names[index]; ok || index == 0 {
		return name, nil
	}
	l, err := s.n.host.linkAt(index)
	if err != nil {
		return "", err
	}
	s.names[index], s.host[l.Name] = l.Name, l.index
	return l.Name, nil
}

// setting opens one of a side. The directory of its protocol stays open as long as the session: there is one of the same
// name for each namespace of the host, among which the kernel looks for the right one by one.
func (s *session) setting(inside bool, key string, flags int) (fd int, err error) {
	if err := s.enter(inside); err != nil {
		return -1, err
	}
	const root = "/proc/sys/net/"
	protocol, rest, _ := strings.Cut(key, "/")
	dirs := s.settings[flag(inside)]
	if dirs == nil {
		dirs = map[string]int{}
		s.settings[flag(inside)] = dirs
	}
	dir, ok := dirs[protocol]
	if !ok {
		if dir, err = unix.Open(root+protocol, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return -1, &os.PathError{Op: "open", Path: root + protocol, Err: err}
		}
		dirs[protocol] = dir
	}
	if fd, err = unix.Openat(dir, rest, flags|unix.O_CLOEXEC, 0); err != nil {
		return -1, &os.PathError{Op: "open", Path: root + key, Err: err}
	}
	return fd, nil
}

// readSettings reads those that are there, by key.
func (s *session) readSettings(inside bool, keys []string) (map[string]string, error) {
	out := map[string]string{}
	var buf [4096]byte // the kernel gives all in one piece
	for _, k := range keys {
		fd, err := s.setting(inside, k, unix.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read a setting: %w", err)
		}
		n, err := unix.Read(fd, buf[:])
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("read the setting %s: %w", k, err)
		}
		out[k] = strings.TrimSpace(string(buf[:n]))
	}
	return out, nil
}

func (s *session) writeSetting(inside bool, x network.Setting) error {
	fd, err := s.setting(inside, x.Key, unix.O_WRONLY)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(x.Key, "ipv6/") && strings.HasSuffix(x.Key, "/disable_ipv6") && x.Value == "1" {
		if _, err := os.Stat("/proc/sys/net/ipv6"); errors.Is(err, os.ErrNotExist) {
			return nil // a kernel without IPv6 has nothing to switch off
		}
	}
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(x.Value))
	return errors.Join(err, unix.Close(fd))
}

// gone tells whether an error says that a link is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}
