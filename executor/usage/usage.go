// Package usage tells what an instance uses of its host: processor, memory, block devices, network, connections.
// Edge: talks to /proc, /sys/fs/cgroup and sock_diag(7).
//
// What an instance has a cgroup of its own for (version 1 or 2), the cgroup tells; that of a plain process, which shares
// its executor's, is the sum over the process and its descendants. Of version 1 is known that it does not count what is
// written through the page cache, and of resident memory that a sum counts shared pages more than once.
package usage

import (
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/proto/padis/stream"
)

// Sample is what one instance uses. Counters are since its start. Network counters are those of its network namespace
// without the loopback interface; they and the numbers of sockets are 0 if it has that of the executor.
type Sample = stream.Usage

const (
	// rateInterval is the least time that a rate is made of: several readers may ask at nearly the same time.
	rateInterval = time.Second
	// forgetAfter is when the last reading of a process that nobody asks for is forgotten.
	forgetAfter = 10 * time.Minute
)

// Reader takes samples, and remembers the last of each instance to tell rates. Its methods may be called at the same time.
type Reader struct {
	mounts []mount
	// own are the cgroups of this process, net is its network namespace: instances that have the same have none of their own.
	own map[string]string
	net namespace
	now func() time.Time

	mu   sync.Mutex
	last map[int]reading
}

// reading is the one that rates are told from, and what was told last.
type reading struct {
	// started tells the process from a later one of the same PID.
	started  uint64
	nanos    uint64
	at, seen time.Time
	milli    int64
}

// NewReader finds out where the cgroups of this host are.
func NewReader() (*Reader, error) {
	var b buffer
	info, err := b.read("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the cgroups of this host: %w", err)
	}
	r := &Reader{mounts: parseMounts(info), now: time.Now, last: map[int]reading{}}
	own, err := b.read("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the cgroups of this process: %w", err)
	}
	r.own = parseCgroup(own)
	if r.net, err = netOf("thread-self"); err != nil {
		return nil, fmt.Errorf("find the network namespace of this process: %w", err)
	}
	return r, nil
}

// Read takes one sample of the instance whose first process on the host is pid; the rate of CPU use is 0. If there is no
// such process, or it has ended, the error is an fs.ErrNotExist.
func Read(pid int) (Sample, error) {
	r, err := NewReader()
	if err != nil {
		return Sample{}, err
	}
	return r.Read(pid)
}

// Read takes a sample as the function does. Its rate of CPU use is that since the last reading of the instance, or since
// an earlier one if that was less than a second ago; at first it is 0.
func (r *Reader) Read(pid int) (Sample, error) {
	s, started, err := r.sample(pid)
	if err != nil {
		return Sample{}, fmt.Errorf("usage of process %d: %w", pid, err)
	}
	s.CPUMilli = r.rate(pid, started, s.CPUNanos)
	return s, nil
}

func (r *Reader) sample(pid int) (s Sample, started uint64, err error) {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := b.read(dir + "/stat")
	if err != nil {
		return s, 0, gone(err)
	}
	first, ok := parseStat(text)
	if !ok {
		return s, 0, fmt.Errorf("%s/stat is not as proc(5) says: %q", dir, text)
	}
	if first.state == 'Z' || first.state == 'X' {
		return s, 0, fmt.Errorf("it has ended: %w", fs.ErrNotExist)
	}
	text, err = b.read(dir + "/cgroup")
	if err != nil {
		return s, 0, gone(err)
	}
	missing := cgroups(locate(r.mounts, r.own, parseCgroup(text)), b, &s)
	if missing.any() {
		tree(pid, b, &s, missing)
	}
	if err := r.network(pid, b, &s); err != nil {
		return s, 0, gone(err)
	}
	return s, first.started, nil
}

func (r *Reader) rate(pid int, started, nanos uint64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	l, known := r.last[pid]
	switch {
	case !known || l.started != started || nanos < l.nanos:
		l = reading{started: started, nanos: nanos, at: now}
		for p, old := range r.last {
			if now.Sub(old.seen) > forgetAfter {
				delete(r.last, p)
			}
		}
	case now.Sub(l.at) >= rateInterval:
		l.milli = int64(float64(nanos-l.nanos) * 1000 / float64(now.Sub(l.at)))
		l.nanos, l.at = nanos, now
	}
	l.seen = now
	r.last[pid] = l
	return l.milli
}

// gone makes one error of the two with which /proc says that a process is not there.
func gone(err error) error {
	if err == unix.ESRCH {
		return fs.ErrNotExist
	}
	return err
}

// buffer holds one small file at a time: os.ReadFile costs more than the kernel does.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 16<<10)} }}

// read returns what is in a file.
func (b *buffer) read(path string) (string, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	for n := 0; ; {
		if n == len(b.b) {
			b.b = append(b.b, make([]byte, len(b.b)+4096)...)
		}
		m, err := retry(func() (int, error) { return unix.Read(fd, b.b[n:]) })
		if err != nil {
			return "", err
		}
		if m == 0 {
			return string(b.b[:n]), nil
		}
		n += m
	}
}

func retry(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}
