package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// setting is one of the kernel's in the network namespace in which it was opened.
type setting struct {
	f      *os.File
	before []byte
}

// Settings of IPVS and of the interface, each with its value while the dataplane is open.
//
//   - sloppy_tcp: a connection that another director began has an entry by any of its packets.
//   - schedule_icmp: an ICMP error about a flow that has no entry here goes by the table, too.
//   - expire_nodest_conn: the entry of a flow whose server has gone goes with the flow's next packet, which is placed anew.
//   - conn_reuse_mode: a client that opens a connection by a port that it had before is placed anew (1: closed, 2: half closed).
//   - arp_ignore: nobody is told that VIPs are here, but for those that the interface has.
//   - accept_local: answers to checks come from VIPs, which are local.
const (
	expireNodest = "ipv4/vs/expire_nodest_conn"
)

func settings(name string) map[string]string {
	return map[string]string{
		"ipv4/vs/sloppy_tcp":                  "1",
		"ipv4/vs/schedule_icmp":               "1",
		expireNodest:                          "1",
		"ipv4/vs/conn_reuse_mode":             "3",
		"ipv4/conf/" + name + "/arp_ignore":   "1",
		"ipv4/conf/" + name + "/accept_local": "1",
	}
}

// openSetting is for the network namespace of the calling thread; the file stays in it.
func openSetting(key string) (*setting, error) {
	f, err := os.OpenFile("/proc/sys/net/"+key, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open setting net/%s: %w; the director needs IPVS of Linux 4.18 or later, a /proc that can be written to, and root of the host (not of a user namespace)", key, err)
	}
	b := make([]byte, 64)
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		f.Close()
		return nil, fmt.Errorf("read setting net/%s: %w", key, err)
	}
	return &setting{f: f, before: bytes.TrimSpace(b[:n])}, nil
}

func (s *setting) set(value string) error {
	if _, err := s.f.WriteAt([]byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", s.f.Name(), value, err)
	}
	return nil
}

// restore writes what was before.
func (s *setting) restore() error { return errors.Join(s.set(string(s.before)), s.f.Close()) }
