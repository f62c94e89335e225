// Package relay has hosts of real servers send on what their instances do not have (docs/design/0010), in a process of its own: a
// child of the executor, which so stays small and needs no eBPF. Edge: talks to its child over pipes; the child to the kernel.
//
// The executor says the whole State again and again. What is in force is pinned in a BPF file system: it goes on, as it is, when
// the child ends, or the executor, and the next child takes it over in one step.
package relay

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// State is all that a host relays.
type State struct {
	Pins Pins `json:"pins"`
	// Partial: not all instances of the host are known yet. What relays already and is not named here goes on as it is.
	Partial  bool      `json:"partial,omitempty"`
	Balances []Balance `json:"balances,omitempty"`
	Ports    []Port    `json:"ports,omitempty"`
}

// Balance is a LoadBalancer whose real servers are on this host.
type Balance struct {
	UID    string `json:"uid"`
	Number int64  `json:"number"`
	// Body is the padisv1.Balance, encoded; empty if the child has that number already.
	Body []byte `json:"body,omitempty"`
}

// Port is the host end of a real server's interface; see tcx.Port.
type Port struct {
	Index int     `json:"index"`
	MAC   [6]byte `json:"mac"`
	Netns int     `json:"netns"`
	Out   int     `json:"out"`
}

// Done is what became of a Balance.
type Done struct {
	// Number of the newest that was read.
	Number int64
	// Why it is not in force; empty if it is.
	Error string
}

// Pins is where attachments are kept when the child ends.
type Pins struct {
	// Mount is where a BPF file system is mounted if there is none; empty if the host has one.
	Mount string `json:"mount,omitempty"`
	// Dir is the folder in it that is this framework's on this host.
	Dir string `json:"dir"`
}

const hostBPF = "/sys/fs/bpf"

// PinsOf are those of a framework on a host whose executors have this state directory. In the host's own BPF file system they
// outlive whatever namespace the executor is in; in one that the executor must mount, they do if it has the host's mounts.
func PinsOf(state, owner string) Pins {
	if state == "" {
		return Pins{} // nothing outlives the executor
	}
	if isBPF(hostBPF) {
		return Pins{Dir: filepath.Join(hostBPF, "padis-"+padisv1.Digest(owner+"\x00"+state, 12))}
	}
	mount := filepath.Join(state, "bpf")
	return Pins{Mount: mount, Dir: filepath.Join(mount, "padis-"+padisv1.Digest(owner, 12))}
}

func isBPF(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.BPF_FS_MAGIC
}

// empty tells whether nothing is kept.
func (p Pins) empty() bool {
	entries, err := os.ReadDir(p.Dir)
	return err != nil || len(entries) == 0
}

// idle says that there is nothing to do.
func (s State) idle() bool { return len(s.Ports) == 0 && (s.Partial || s.Pins.empty()) }

// trim leaves out the bodies that a child has that was told before.
func (s State) trim(before State) State {
	has := map[string]int64{}
	for _, b := range before.Balances {
		has[b.UID] = b.Number
	}
	all := s.Balances
	s.Balances = make([]Balance, len(all))
	for i, b := range all {
		if n, ok := has[b.UID]; ok && n == b.Number {
			b.Body = nil
		}
		s.Balances[i] = b
	}
	return s
}
