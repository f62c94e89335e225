package executor

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	talk "padis.io/padis/executor/director/wire"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func directing(l *padisv1.Launch) { l.Template.Director, l.AppUid = true, "u" }

// dialDirector connects as a director does, from its work directory.
func dialDirector(t *testing.T, w *world, task string) net.Conn {
	t.Helper()
	work, err := os.Open(filepath.Join(w.instance(task).spec.Dir, "work"))
	if err != nil {
		t.Fatal(err)
	}
	defer work.Close()
	c, err := net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(work.Fd()))+"/"+talk.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func order(number int64, tasks ...string) *padisv1.ToExecutor {
	return &padisv1.ToExecutor{Balance: &padisv1.Balance{Uid: "u", Number: number, Director: &padisv1.DirectorOrder{Tasks: tasks}}}
}

func ordered(t *testing.T, c net.Conn, number int64) {
	t.Helper()
	var b padisv1.Balance
	if err := talk.Read(c, &b); err != nil || b.GetNumber() != number {
		t.Fatalf("order %v, %v; want %d", &b, err, number)
	}
}

func (w *world) directors(want string) {
	w.t.Helper()
	got := ""
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		var all []string
		for _, b := range w.message.GetBalances() {
			for _, d := range b.GetDirectors() {
				all = append(all, b.GetUid()+" "+d.GetTaskId()+"#"+strconv.Itoa(int(d.GetNumber()))+" "+d.GetDataplane())
			}
		}
		w.mu.Unlock()
		if got = strings.Join(all, ", "); got == want {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("told %q, want %q", got, want)
		}
	}
}

func TestDirectorsHearAndAreHeard(t *testing.T) {
	// Longer than the address of a socket can be.
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	w := newWorld(t, func(_ *world, c *Config) { c.Host.Sandbox = long })
	w.send(order(1, "web-1"))
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "polite", directing)})
	w.Handle(mesos.LaunchTask{Task: task(t, 2, "polite", directing)})
	w.until("web-1", "TASK_RUNNING Ready ready")
	w.until("web-2", "TASK_RUNNING Ready ready")
	c := dialDirector(t, w, "web-1")
	ordered(t, c, 1)
	if err := talk.Write(c, &padisv1.DirectorState{Number: 1, Dataplane: "tcx", TaskId: "a lie"}); err != nil {
		t.Fatal(err)
	}
	w.directors("u web-1#1 tcx")
	// The other one is told when the order names it; both are told what is new.
	other := dialDirector(t, w, "web-2")
	w.send(order(2, "web-1", "web-2"))
	ordered(t, c, 2)
	ordered(t, other, 2)
	for n, c := range []net.Conn{c, other} {
		if err := talk.Write(c, &padisv1.DirectorState{Number: 2, Dataplane: []string{"tcx", "nft"}[n]}); err != nil {
			t.Fatal(err)
		}
	}
	w.directors("u web-1#2 tcx, u web-2#2 nft")
	// One that connects again is told the newest; what it said counts until it says another thing.
	c.Close()
	w.send(&padisv1.ToExecutor{Generation: 1})
	again := dialDirector(t, w, "web-1")
	ordered(t, again, 2)
	w.directors("u web-1#2 tcx, u web-2#2 nft")
	// Nonsense ends the connection, and nothing else.
	if _, err := again.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if err := talk.Read(again, &padisv1.Balance{}); err == nil {
		t.Error("goes on after nonsense")
	}
	ordered(t, dialDirector(t, w, "web-1"), 2)

	w.Handle(mesos.KillTask{TaskID: "web-1"})
	w.until("web-1", "TASK_KILLED Killed")
	w.directors("u web-2#2 nft")
	socket := filepath.Join(w.instance("web-1").spec.Dir, "work", talk.Socket)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(socket); os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the socket is left")
		}
	}
	// Its end is no drain.
	if h := w.history("web-1"); strings.Contains(h, "Draining") {
		t.Error(h)
	}
	w.Handle(mesos.KillTask{TaskID: "web-2"})
	w.directors("")
}

func TestADirectorWithoutASocketDoesNotStart(t *testing.T) {
	w := newWorld(t)
	k := task(t, 1, "polite", directing)
	dir := filepath.Join(w.Host.Sandbox, "tasks", k.ID, "work", talk.Socket, "in the way")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.Handle(mesos.LaunchTask{Task: k})
	w.until("web-1", "TASK_FAILED SandboxFailed")
}
