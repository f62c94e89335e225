package lbchurn

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/director/wire"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Director is one, with its process or without.
type Director struct {
	f       *Farm
	Name    string // of its namespace, and of its port at the router's switch
	address netip.Addr
	six     netip.Addr
	dir     string
	ns      int

	mu      sync.Mutex
	said    *sync.Cond
	process *os.Process
	ended   chan struct{}
	conn    net.Conn
	state   *padisv1.DirectorState
	output  bytes.Buffer
	// Write orders one after the other.
	order sync.Mutex
}

// director makes the namespace of one, and listens as its executor would.
func (f *Farm) director(n int) (*Director, error) {
	four, six := own(n)
	d := &Director{f: f, Name: f.Lab.Host(n), address: four, six: six, dir: filepath.Join(f.dir, fmt.Sprint(n))}
	d.said = sync.NewCond(&d.mu)
	var err error
	if d.ns, err = namespace(d.Name); err != nil {
		return nil, err
	}
	f.t.Cleanup(func() { unix.Close(d.ns) })
	if err := sysctl(d.Name, "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0", "ipv4/conf/eth0/rp_filter=0"); err != nil {
		return nil, err
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", filepath.Join(d.dir, wire.Socket))
	if err != nil {
		return nil, err
	}
	f.t.Cleanup(func() { l.Close(); d.Kill() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go d.hear(c)
		}
	}()
	return d, nil
}

// hear gives the newest order to a director that connects, and takes what it says until it ends.
func (d *Director) hear(c net.Conn) {
	defer c.Close()
	d.f.tables.Lock()
	b := d.f.given
	d.order.Lock() // so that nothing newer is told before this
	d.mu.Lock()
	d.conn = c
	d.mu.Unlock()
	d.f.tables.Unlock()
	if b != nil {
		_ = wire.Write(c, b)
	}
	d.order.Unlock()
	for {
		var s padisv1.DirectorState
		err := wire.Read(c, &s)
		d.mu.Lock()
		if err != nil {
			if d.conn == c {
				d.conn = nil
			}
			d.said.Broadcast()
			d.mu.Unlock()
			return
		}
		if d.conn == c {
			d.state = &s
		}
		d.said.Broadcast()
		d.mu.Unlock()
	}
}

// tell gives it an order; false if it does not listen.
func (d *Director) tell(b *padisv1.Balance) bool {
	d.order.Lock()
	defer d.order.Unlock()
	d.mu.Lock()
	c := d.conn
	d.mu.Unlock()
	return c != nil && wire.Write(c, b) == nil
}

// await waits until a number is in force, the director ends, or nobody waits any more; false is the last.
func (d *Director) await(number int64) bool {
	late := false
	timer := time.AfterFunc(silence, func() {
		d.mu.Lock()
		late = true
		d.said.Broadcast()
		d.mu.Unlock()
	})
	defer timer.Stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.conn == nil, d.state.GetNumber() >= number:
			return true
		case late:
			return false
		}
		d.said.Wait()
	}
}

// Start starts its process; it must have none.
func (d *Director) Start() error {
	cmd := exec.Command(d.f.o.Executor, wire.Verb)
	cmd.Dir = d.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PADIS_INSTANCE=" + d.Name, "PADIS_ADDRESSES=" + d.address.String() + "," + d.six.String()}
	cmd.Stdout, cmd.Stderr = (*output)(d), (*output)(d)
	if err := in(d.ns, cmd.Start); err != nil {
		return fmt.Errorf("director %s: %w", d.address, err)
	}
	ended := make(chan struct{})
	d.mu.Lock()
	d.process, d.ended, d.state = cmd.Process, ended, nil
	d.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		d.mu.Lock()
		d.process = nil
		d.mu.Unlock()
		close(ended)
	}()
	return nil
}

// output keeps the last things that its processes said.
type output Director

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.output.Len() > 1<<20 {
		o.output.Reset()
	}
	return o.output.Write(p)
}

// Output is what its processes said last.
func (d *Director) Output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.String()
}

// State is what it said last of itself; nil if it said nothing yet.
func (d *Director) State() *padisv1.DirectorState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Runs tells whether it has a process.
func (d *Director) Runs() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.process != nil
}

// Announces tells whether it announces the VIPs.
func (d *Director) Announces() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.process != nil && d.conn != nil && len(d.state.GetAnnounced()) > 1
}

// Kill ends its process at once. It returns when that was said, not when it has ended.
func (d *Director) Kill() { d.signal(syscall.SIGKILL) }

// Drain tells it to end in order.
func (d *Director) Drain() { d.signal(syscall.SIGTERM) }

func (d *Director) signal(s syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process != nil {
		_ = d.process.Signal(s)
	}
}

// AwaitEnd waits until its process has ended.
func (d *Director) AwaitEnd() {
	d.mu.Lock()
	ended := d.ended
	d.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// Address of its interface.
func (d *Director) Address() string { return d.address.String() }
