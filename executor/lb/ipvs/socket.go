package ipvs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socket speaks generic netlink with IPVS, in the network namespace in which it was opened.
type socket struct {
	c      *netlink.Conn
	family netlink.HeaderType
}

const (
	// atOnce is how many messages are sent in one system call: their acknowledgements must fit into the socket's buffer.
	atOnce = 64
	// silence is after how long the kernel is given up, which answers before the call that asks returns.
	silence = 10 * time.Second
)

func openSocket() (*socket, error) {
	c, err := netlink.Dial(unix.NETLINK_GENERIC, nil)
	if err != nil {
		return nil, fmt.Errorf("open a socket of generic netlink: %w", err)
	}
	// Comforts that old kernels lack: short acknowledgements, errors in words.
	_ = c.SetOption(netlink.CapAcknowledge, true)
	_ = c.SetOption(netlink.ExtendedAcknowledge, true)
	s := &socket{c: c}
	if s.family, err = s.find("IPVS"); errors.Is(err, os.ErrNotExist) {
		loadModules()
		s.family, err = s.find("IPVS")
	}
	if err != nil {
		c.Close()
		if errors.Is(err, os.ErrNotExist) {
			err = errors.New("the kernel has no IPVS: run modprobe -a ip_vs ip_vs_mh on the host, or choose the dataplane tcx")
		}
		return nil, err
	}
	return s, nil
}

// loadModules asks for what the kernel does not load by itself. That it cannot is seen by what is missing then.
func loadModules() {
	for _, path := range []string{"modprobe", "/usr/sbin/modprobe", "/sbin/modprobe"} {
		if path, err := exec.LookPath(path); err == nil {
			_ = exec.Command(path, "-a", "-q", "ip_vs", "ip_vs_mh").Run()
			return
		}
	}
}

// find asks the controller of generic netlink for the number of a family (linux/genetlink.h).
func (s *socket) find(name string) (netlink.HeaderType, error) {
	const controller, getFamily, familyID, familyName = 16, 3, 1, 2
	data, err := payload(getFamily, func(ae *netlink.AttributeEncoder) { ae.String(familyName, name) })
	if err != nil {
		return 0, err
	}
	answers, err := s.ask(netlink.Message{Header: netlink.Header{Type: controller, Flags: netlink.Request}, Data: data})
	if err != nil {
		return 0, fmt.Errorf("find the family %s of generic netlink: %w", name, err)
	}
	for _, m := range answers {
		if len(m.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, err
		}
		for ad.Next() {
			if ad.Type() == familyID {
				return netlink.HeaderType(ad.Uint16()), nil
			}
		}
	}
	return 0, fmt.Errorf("find the family %s of generic netlink: no answer with its number", name)
}

func (s *socket) ask(m netlink.Message) ([]netlink.Message, error) {
	if err := s.c.SetDeadline(time.Now().Add(silence)); err != nil {
		return nil, err
	}
	return s.c.Execute(m)
}

// read lists all services with their real servers, sorted by key.
func (s *socket) read() ([]service, error) {
	list, err := s.dump(cmdGetService, nil)
	if err != nil {
		return nil, fmt.Errorf("list services of IPVS: %w", err)
	}
	var out []service
	for _, m := range list {
		one, err := decodeService(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list services of IPVS: %w", err)
		}
		dests, err := s.dump(cmdGetDest, func(ae *netlink.AttributeEncoder) {
			ae.Nested(attrService, func(n *netlink.AttributeEncoder) error {
				one.key.encode(n)
				return nil
			})
		})
		if err != nil {
			return nil, fmt.Errorf("list real servers of %s: %w", one.key, err)
		}
		for _, m := range dests {
			d, err := decodeDest(m.Data, one.family)
			if err != nil {
				return nil, fmt.Errorf("list real servers of %s: %w", one.key, err)
			}
			one.dests = append(one.dests, d)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b service) int { return a.key.compare(b.key) })
	return out, nil
}

func (s *socket) dump(command uint8, encode func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	data, err := payload(command, encode)
	if err != nil {
		return nil, err
	}
	return s.ask(netlink.Message{Header: netlink.Header{Type: s.family, Flags: netlink.Request | netlink.Dump}, Data: data})
}

// do carries ops out in their order, many in one system call. The kernel goes on after one that fails; all that failed are in
// the error.
func (s *socket) do(ops []op) error {
	var errs []error
	for part := range slices.Chunk(ops, atOnce) {
		var out []netlink.Message
		for _, o := range part {
			data, err := o.encode()
			if err != nil {
				return fmt.Errorf("%s: %w", o, err)
			}
			out = append(out, netlink.Message{Header: netlink.Header{Type: s.family, Flags: netlink.Request | netlink.Acknowledge}, Data: data})
		}
		if err := s.c.SetDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		if _, err := s.c.SendMessages(out); err != nil {
			return fmt.Errorf("send to IPVS: %w", err)
		}
		// Acknowledgements come in the order of what they are of.
		for _, o := range part {
			if _, err := s.c.Receive(); errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("%s: the kernel does not answer: %w", o, err)
			} else if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w%s", o, err, remedy(o, err)))
			}
		}
	}
	return errors.Join(errs...)
}

func remedy(o op, err error) string {
	if o.verb == addService && errors.Is(err, unix.ENOENT) {
		return "; run modprobe ip_vs_" + o.service.scheduler + " on the host"
	}
	return ""
}

// flush deletes all services.
func (s *socket) flush() error {
	data, err := payload(cmdFlush, nil)
	if err != nil {
		return err
	}
	if _, err = s.ask(netlink.Message{Header: netlink.Header{Type: s.family, Flags: netlink.Request | netlink.Acknowledge}, Data: data}); err != nil {
		return fmt.Errorf("delete all services of IPVS: %w", err)
	}
	return nil
}

func (s *socket) close() error { return s.c.Close() }
