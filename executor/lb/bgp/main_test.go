package bgp

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"padis.io/padis/executor/lb/bgp/routers"
)

// A speaker has to be in a host's namespace, and alone in its process: so the test binary is that process too.
const speakerArg = "-be-a-speaker"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == speakerArg {
		be()
		return
	}
	routers.Main(m)
}

type request struct {
	Config *Config
	State  *State
	Drain  *bool
	Withdraw,
	Close bool
}

type reply struct {
	Error    string
	Sessions []Session
}

// be obeys requests, one a line, until there are no more. An empty one asks for the sessions.
func be() {
	in := json.NewDecoder(os.Stdin)
	var s *Speaker
	for {
		var r request
		if err := in.Decode(&r); err != nil {
			return
		}
		var err error
		switch {
		case r.Config != nil:
			s, err = New(*r.Config, zap.NewNop())
		case r.State != nil:
			err = s.Set(*r.State)
		case r.Drain != nil:
			err = s.Drain(*r.Drain)
		case r.Withdraw:
			err = s.Withdraw()
		case r.Close:
			s.Close(true)
		}
		a := reply{}
		if err != nil {
			a.Error = err.Error()
		}
		if s != nil {
			a.Sessions = s.Sessions()
		}
		if json.NewEncoder(os.Stdout).Encode(a) != nil {
			return
		}
	}
}

// remote is a speaker in a host's namespace.
type remote struct {
	t   *testing.T
	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startSpeaker(t *testing.T, l *routers.Lab, ns string, c Config) *remote {
	t.Helper()
	r := &remote{t: t, cmd: exec.Command(l.Script(ns, speakerArg))}
	in, err := r.cmd.StdinPipe()
	must(t, err)
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	r.cmd.Stderr = os.Stderr
	r.in, r.out = in, bufio.NewScanner(out)
	must(t, r.cmd.Start())
	t.Cleanup(r.kill)
	r.ask(request{Config: &c})
	return r
}

func (r *remote) kill() { _ = r.cmd.Process.Kill(); _ = r.cmd.Wait() }

func (r *remote) ask(q request) reply {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	must(r.t, json.NewEncoder(r.in).Encode(q))
	if !r.out.Scan() {
		r.t.Fatalf("the speaker ended: %v", r.out.Err())
	}
	var a reply
	must(r.t, json.Unmarshal(r.out.Bytes(), &a))
	if a.Error != "" {
		r.t.Fatal(a.Error)
	}
	return a
}

func (r *remote) set(st State) { r.t.Helper(); r.ask(request{State: &st}) }

// established waits until all sessions are, or none.
func (r *remote) established(l *routers.Lab) {
	r.t.Helper()
	var last []Session
	l.Until("sessions are established", func() bool {
		last = r.ask(request{}).Sessions
		for _, s := range last {
			if !s.Established {
				return false
			}
		}
		return len(last) > 0
	}, func() string { return fmt.Sprint(last) })
	for _, s := range last {
		if s.Message != "" || s.Since.IsZero() {
			r.t.Errorf("established session %+v", s)
		}
	}
}

// says waits until the only session says why it is not established.
func (r *remote) says(l *routers.Lab, text string) {
	r.t.Helper()
	var last []Session
	l.Until("a session says "+text, func() bool {
		last = r.ask(request{}).Sessions
		return len(last) == 1 && !last[0].Established && strings.Contains(last[0].Message, text)
	}, func() string { return fmt.Sprint(last) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
