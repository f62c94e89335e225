package usage

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// The test binary is also what it measures: a program that does what the words after it say, in their order, and then
// waits until its input ends.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "program" {
		for _, word := range os.Args[2:] {
			if err := act(word); err != nil {
				fmt.Println(word+":", err)
				os.Exit(1)
			}
		}
		fmt.Println("ready")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var held []any

func act(word string) error {
	switch word {
	case "go": // wait for the word
		fmt.Println("ready")
		_, err := os.Stdin.Read(make([]byte, 1))
		return err
	case "cpu":
		for start := time.Now(); time.Since(start) < 200*time.Millisecond; {
		}
	case "memory":
		b := make([]byte, 64<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
	case "child": // has memory, too, and ends with us
		child := exec.Command("/proc/self/exe", "program", "cpu", "memory")
		in, err := child.StdinPipe()
		if err != nil {
			return err
		}
		held = append(held, in)
		out, err := child.StdoutPipe()
		if err != nil {
			return err
		}
		if err := child.Start(); err != nil {
			return err
		}
		_, err = bufio.NewReader(out).ReadString('\n')
		return err
	case "eat": // until the kernel kills it
		return ignoreExit(exec.Command("/proc/self/exe", "program", "memory", "memory", "memory").Run())
	case "network":
		return network()
	}
	return nil
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// network listens at three sockets, keeps one connection, which has two ends here, and sends a frame of 1000 bytes from
// one interface to the other.
func network() error {
	for _, c := range []string{"ip link set lo up", "ip link add a0 type veth peer name b0", "ip link set a0 up", "ip link set b0 up"} {
		if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c, err, out)
		}
	}
	for _, address := range []string{"127.0.0.1:0", "127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		held = append(held, l)
	}
	c, err := net.Dial("tcp", held[0].(net.Listener).Addr().String())
	if err != nil {
		return err
	}
	held = append(held, c)
	a0, err := net.InterfaceByName("a0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	frame := append(slices.Concat(make([]byte, 12), []byte{0x88, 0xb5}), make([]byte, 986)...)
	// The kernel drops what is sent before it has noticed that the link is up.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: a0.Index}); err != nil {
			return err
		}
		b := buffer{}
		text, err := b.read("/proc/self/net/dev")
		if err != nil {
			return err
		}
		if rx, _ := parseDev(text); rx >= 1000 {
			return nil
		}
	}
	return errors.New("no frame ever arrived")
}

// program is one that runs.
type program struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   interface{ Write([]byte) (int, error) }
	out  *bufio.Reader
	pipe *os.File
}

func start(t testing.TB, flags uintptr, words ...string) *program {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"program"}, words...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	p := &program{t: t, cmd: cmd, in: in, out: bufio.NewReader(out), pipe: out.(*os.File)}
	p.ready()
	return p
}

func (p *program) pid() int { return p.cmd.Process.Pid }

func (p *program) ready() {
	p.t.Helper()
	if err := p.pipe.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		p.t.Fatalf("the program said %q, %v", line, err)
	}
}

func (p *program) goOn() {
	p.t.Helper()
	if _, err := p.in.Write([]byte("x")); err != nil {
		p.t.Fatal(err)
	}
	p.ready()
}

func reader(t testing.TB) *Reader {
	t.Helper()
	r, err := NewReader()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A plain process has no cgroup of its own: it and its descendants are summed up.
func TestTree(t *testing.T) {
	p := start(t, 0, "memory", "child")
	s, err := Read(p.pid())
	if err != nil {
		t.Fatal(err)
	}
	if s.Processes != 2 || s.MemoryBytes < 128<<20 || s.MemoryBytes > 512<<20 || s.CPUNanos < 50e6 || s.CPUNanos > 60e9 || s.CPUMilli != 0 {
		t.Errorf("%+v", s)
	}
	// It has our network, which is not its own.
	if s.RxBytes != 0 || s.TxBytes != 0 || s.TCPListen != 0 || s.TCPEstablished != 0 {
		t.Errorf("%+v", s)
	}
}

func TestNetwork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	p := start(t, unix.CLONE_NEWNET, "network")
	s, err := Read(p.pid())
	if err != nil {
		t.Fatal(err)
	}
	if s.TCPListen != 3 || s.TCPEstablished != 2 || s.RxBytes < 1000 || s.TxBytes < 1000 {
		t.Errorf("%+v", s)
	}
	// The slow way says the same.
	b := buffer{}
	var n uint64
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := b.read(fmt.Sprintf("/proc/%d/net/%s", p.pid(), name))
		if err != nil {
			t.Fatal(err)
		}
		n += parseListening(text)
	}
	if n != s.TCPListen {
		t.Errorf("sock_diag counts %d, /proc %d", s.TCPListen, n)
	}
}

// cgroup makes a cgroup that is the test's, in all hierarchies that count something.
type cgroup struct {
	t    testing.TB
	dirs map[string]string // by controller; "" is version 2
}

func newCgroup(t testing.TB, r *Reader) *cgroup {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	name := fmt.Sprintf("padis-usage-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	c := &cgroup{t: t, dirs: map[string]string{}}
	for _, m := range r.mounts {
		dir := filepath.Join(m.point, name)
		switch {
		case len(m.controllers) == 0:
			c.dirs[unified] = dir
		case slices.ContainsFunc(m.controllers, func(s string) bool { return slices.Contains([]string{"memory", "cpuacct", "pids", "blkio"}, s) }):
			for _, controller := range m.controllers {
				c.dirs[controller] = dir
			}
		default:
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			c.until("the cgroup is removed", func() bool { return os.Remove(dir) == nil || errors.Is(os.Remove(dir), fs.ErrNotExist) })
		})
	}
	if len(c.dirs) == 0 {
		t.Skip("no cgroup hierarchy is mounted here")
	}
	return c
}

func (c *cgroup) until(what string, f func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("never: %s", what)
		}
	}
}

func (c *cgroup) add(pid int) {
	c.t.Helper()
	for _, dir := range c.dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
}

// limit bounds the memory; false if no hierarchy counts it.
func (c *cgroup) limit(bytes int) bool {
	c.t.Helper()
	file, more := filepath.Join(c.dirs["memory"], "memory.limit_in_bytes"), ""
	if c.dirs["memory"] == "" {
		file, more = filepath.Join(c.dirs[unified], "memory.max"), filepath.Join(c.dirs[unified], "memory.swap.max")
	}
	if _, err := os.Stat(file); err != nil {
		return false
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(bytes)), 0o644); err != nil {
		c.t.Fatal(err)
	}
	if _, err := os.Stat(more); err == nil {
		if err := os.WriteFile(more, []byte("0"), 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	return true
}

// A container has a cgroup of its own, of whichever version this host has.
func TestCgroup(t *testing.T) {
	r := reader(t)
	c := newCgroup(t, r)
	limited := c.limit(128 << 20)
	p := start(t, 0, "go", "cpu", "child", "go", "eat")
	c.add(p.pid())
	p.goOn()
	s, err := r.Read(p.pid())
	if err != nil {
		t.Fatal(err)
	}
	if s.Processes != 2 || s.CPUNanos < 50e6 || s.CPUNanos > 60e9 || s.MemoryBytes < 60<<20 {
		t.Errorf("%+v", s)
	}
	if !limited {
		t.Log("no hierarchy of this host counts memory; limits and kills are not tested")
		return
	}
	if s.MemoryLimitBytes != 128<<20 || s.MemoryBytes > 128<<20 || s.OOMKills != 0 {
		t.Errorf("%+v", s)
	}
	p.goOn()
	if s, err = r.Read(p.pid()); err != nil || s.OOMKills == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestGone(t *testing.T) {
	p := start(t, 0)
	if _, err := p.in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	c := &cgroup{t: t}
	r := reader(t)
	// A zombie first, as we have not waited for it.
	c.until("it has ended", func() bool { _, err := r.Read(p.pid()); return errors.Is(err, fs.ErrNotExist) })
	if _, err := r.Read(p.pid()); !strings.Contains(err.Error(), "it has ended") {
		t.Error(err)
	}
	_ = p.cmd.Wait()
	if _, err := r.Read(p.pid()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Read(-1); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestRate(t *testing.T) {
	now := time.Unix(1000, 0)
	r := &Reader{now: func() time.Time { return now }, last: map[int]reading{}}
	const half = 500e6
	for _, c := range []struct {
		after          time.Duration
		started, nanos uint64
		want           int64
		why            string
	}{
		{0, 1, 10e9, 0, "the first"},
		{10 * time.Second, 1, 15e9, 500, "half a CPU"},
		{100 * time.Millisecond, 1, 15e9 + half, 500, "too soon: the same as before"},
		{900 * time.Millisecond, 1, 16e9, 1000, "since the reading a second ago"},
		{10 * time.Second, 1, 5e9, 0, "counted backwards: from the beginning"},
		{10 * time.Second, 1, 6e9, 100, "and on"},
		{10 * time.Second, 2, 60e9, 0, "another process of that PID"},
	} {
		now = now.Add(c.after)
		if got := r.rate(7, c.started, c.nanos); got != c.want {
			t.Errorf("%s: %d, want %d", c.why, got, c.want)
		}
	}
	now = now.Add(forgetAfter + time.Second)
	r.rate(8, 1, 0)
	if len(r.last) != 1 {
		t.Errorf("remembers %v", r.last)
	}
}

// BenchmarkHundred samples a hundred instances, each with a cgroup and a network namespace of its own.
func BenchmarkHundred(b *testing.B) {
	r := reader(b)
	var pids []int
	for range 100 {
		c := newCgroup(b, r)
		p := start(b, unix.CLONE_NEWNET)
		c.add(p.pid())
		pids = append(pids, p.pid())
	}
	b.ReportAllocs()
	before := spent(b)
	for b.Loop() {
		for _, pid := range pids {
			if _, err := r.Read(pid); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(spent(b)-before)/1e6/float64(b.N), "cpu-ms/op")
}

// spent is the time that this process had a CPU: other programs of the machine do not count.
func spent(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
