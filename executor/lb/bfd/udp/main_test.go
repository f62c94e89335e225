package udp

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb/bfd"
	"padis.io/padis/executor/lb/bgp"
	"padis.io/padis/executor/lb/bgp/routers"
)

// What watches has to be in a host's namespace, and may have a speaker beside it: so the test binary is that process too.
const hostArg = "-be-a-host"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == hostArg {
		if err := be(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	routers.Main(m)
}

// demand is what the host shall do. An empty one asks how it is.
type demand struct {
	Watch    []bfd.Peer
	SetWatch bool
	Close    bool
	Speak    *bgp.State
	Forge    *forged
}

// forged is a packet in hexadecimal.
type forged struct {
	To    netip.Addr
	TTL   int
	Bytes string
}

type answer struct {
	Error  string
	Status []Status
	// All states of each peer, in order, as far as changes were not too quick to see.
	Seen map[netip.Addr]string
	BGP  []bgp.Session
}

// be obeys requests, one a line, until there are no more.
func be() error {
	s, err := New(zap.NewNop())
	if err != nil {
		return err
	}
	h := host{sessions: s, seen: map[netip.Addr]string{}}
	go func() {
		for range s.Changed() {
			h.look()
		}
	}()
	in := json.NewDecoder(os.Stdin)
	for {
		var r demand
		if err := in.Decode(&r); err != nil {
			return nil
		}
		var a answer
		if err := h.obey(r); err != nil {
			a.Error = err.Error()
		}
		h.look()
		h.Lock()
		for _, p := range h.peers {
			if st, ok := s.State(p.Address); ok {
				a.Status = append(a.Status, st)
			}
		}
		a.Seen = h.seen
		if h.speaker != nil {
			a.BGP = h.speaker.Sessions()
		}
		err := json.NewEncoder(os.Stdout).Encode(a)
		h.Unlock()
		if err != nil {
			return err
		}
	}
}

type host struct {
	sync.Mutex
	sessions *Sessions
	speaker  *bgp.Speaker
	peers    []bfd.Peer
	seen     map[netip.Addr]string
}

func (h *host) look() {
	h.Lock()
	defer h.Unlock()
	for _, p := range h.peers {
		if st, ok := h.sessions.State(p.Address); ok && !strings.HasSuffix(h.seen[p.Address], " "+st.State.String()) {
			h.seen[p.Address] += " " + st.State.String()
		}
	}
}

func (h *host) obey(r demand) (err error) {
	switch {
	case r.SetWatch:
		h.Lock()
		h.peers = r.Watch
		h.Unlock()
		return h.sessions.Set(r.Watch)
	case r.Close:
		h.sessions.Close()
	case r.Forge != nil:
		return r.Forge.send()
	case r.Speak != nil:
		if h.speaker == nil {
			if h.speaker, err = bgp.New(bgp.Config{ASN: hostASN, RouterID: addr("10.0.0.11")}, zap.NewNop()); err != nil {
				return err
			}
		}
		return h.speaker.Set(*r.Speak)
	}
	return nil
}

func (f *forged) send() error {
	b, err := hex.DecodeString(f.Bytes)
	if err != nil {
		return err
	}
	fd, err := socket(f.To.Is4())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if f.To.Is4() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, f.TTL)
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, f.TTL)
	}
	if err != nil {
		return err
	}
	return unix.Sendto(fd, b, 0, sockaddr(f.To, bfd.Port))
}

// remote is that process, in a host's namespace.
type remote struct {
	t   *testing.T
	l   *routers.Lab
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func start(t *testing.T, l *routers.Lab, ns string) *remote {
	t.Helper()
	r := &remote{t: t, l: l, cmd: exec.Command(l.Script(ns, hostArg))}
	in, err := r.cmd.StdinPipe()
	must(t, err)
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	r.cmd.Stderr = os.Stderr
	r.in, r.out = in, bufio.NewScanner(out)
	must(t, r.cmd.Start())
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); _ = r.cmd.Wait() })
	r.ask(demand{})
	return r
}

// signal stops the process as if its host stood still, or lets it go on.
func (r *remote) signal(s syscall.Signal) { r.t.Helper(); must(r.t, r.cmd.Process.Signal(s)) }

func (r *remote) ask(q demand) answer {
	r.t.Helper()
	a := r.try(q)
	if a.Error != "" {
		r.t.Fatal(a.Error)
	}
	return a
}

func (r *remote) try(q demand) answer {
	r.t.Helper()
	must(r.t, json.NewEncoder(r.in).Encode(q))
	if !r.out.Scan() {
		r.t.Fatalf("the host's process ended: %v", r.out.Err())
	}
	var a answer
	must(r.t, json.Unmarshal(r.out.Bytes(), &a))
	return a
}

func (r *remote) watch(peers ...bfd.Peer) {
	r.t.Helper()
	r.ask(demand{Watch: peers, SetWatch: true})
}

// until waits until all sessions are in a state, with what says in their messages.
func (r *remote) until(state bfd.State, says string) []Status {
	r.t.Helper()
	var last answer
	r.l.Until(fmt.Sprintf("all sessions are %v %q", state, says), func() bool {
		last = r.ask(demand{})
		for _, s := range last.Status {
			if s.State != state || !strings.Contains(s.Message, says) {
				return false
			}
		}
		return len(last.Status) > 0
	}, func() string { return fmt.Sprintf("%+v", last) })
	for _, s := range last.Status {
		if (s.State == bfd.Up) != (s.Message == "") || s.Since.IsZero() {
			r.t.Errorf("%+v", s)
		}
	}
	return last.Status
}

// soon waits for a condition with half of the BGP hold time: what it sees is not the hold time's doing.
func soon(t *testing.T, l *routers.Lab, what string, condition func() bool, says func() string) {
	t.Helper()
	end := time.Now().Add(hold / 2)
	l.Until(what, func() bool {
		if time.Now().After(end) {
			t.Fatalf("not within half of the hold time: %s\n%s", what, says())
		}
		return condition()
	}, says)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
