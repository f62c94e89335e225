package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// LinkPath is where an agent opens its link at the master, by an HTTP upgrade.
const LinkPath = "/padis/v1/agent"

// linkProtocol is the name in the Upgrade header.
const linkProtocol = "padis-agent-1"

// Kind tells what a Frame is about.
type Kind string

// What an agent tells the master.
const (
	Register       Kind = "register"        // Data: Registration
	Unregister     Kind = "unregister"      // the agent shuts down for good
	Update         Kind = "update"          // Bodies[0]: mesos.TaskStatus; State: latest state of the task
	FromExecutor   Kind = "from-executor"   // Bodies[0]: data
	ExecutorExited Kind = "executor-exited" // Status: wait status
	Pong           Kind = "pong"
)

// What the master tells an agent.
const (
	Registered        Kind = "registered" // Data: Welcome
	Refused           Kind = "refused"    // Text: why
	Run               Kind = "run"        // Bodies[0]: mesos.FrameworkInfo, the others mesos.TaskInfo; Launch: which start an executor
	Kill              Kind = "kill"       // Bodies: mesos.KillPolicy, if any
	ShutdownExecutor  Kind = "shutdown-executor"
	ShutdownFramework Kind = "shutdown-framework"
	ShutdownAgent     Kind = "shutdown-agent" // Text: why
	Acknowledge       Kind = "acknowledge"
	ToExecutor        Kind = "to-executor"      // Bodies[0]: data
	UpdateFramework   Kind = "update-framework" // Bodies[0]: mesos.FrameworkInfo
	Ping              Kind = "ping"
)

// Frame is one message on the link. Which fields are set depends on Kind.
type Frame struct {
	Kind      Kind            `json:"k"`
	Framework string          `json:"f,omitempty"`
	Executor  string          `json:"e,omitempty"`
	Task      string          `json:"t,omitempty"`
	UUID      []byte          `json:"u,omitempty"`
	Status    int32           `json:"s,omitempty"`
	State     int32           `json:"l,omitempty"`
	Text      string          `json:"x,omitempty"`
	Launch    []bool          `json:"n,omitempty"`
	Data      json.RawMessage `json:"d,omitempty"`
	Sizes     []int           `json:"z,omitempty"` // lengths of Bodies; set by the codec
	Bodies    [][]byte        `json:"-"`
}

// Registration is what an agent says of itself when it connects.
type Registration struct {
	AgentID    string               `json:"agent_id,omitempty"`
	Info       []byte               `json:"info"` // mesos.AgentInfo
	Version    string               `json:"version"`
	IP         string               `json:"ip"`
	Frameworks [][]byte             `json:"frameworks,omitempty"` // mesos.FrameworkInfo
	Executors  []RegisteredExecutor `json:"executors,omitempty"`
	Tasks      [][]byte             `json:"tasks,omitempty"` // mesos.Task, with the latest state
}

// RegisteredExecutor is an executor that lives on a registering agent.
type RegisteredExecutor struct {
	Framework string `json:"framework"`
	Info      []byte `json:"info"` // mesos.ExecutorInfo
}

// Welcome is the master's answer to a Registration.
type Welcome struct {
	AgentID string `json:"agent_id"`
	// Silence is how long the agent waits for a ping before it connects anew.
	Silence time.Duration `json:"silence"`
	// Unknown are tasks that the master has and the agent did not list: they never arrived.
	Unknown []UnknownTask `json:"unknown,omitempty"`
}

// UnknownTask is a task that got lost on the way to the agent.
type UnknownTask struct {
	Framework      string `json:"framework"`
	Task           string `json:"task"`
	PartitionAware bool   `json:"partition_aware"`
}

// maxHead and maxFrame bound what a peer can make us allocate.
const (
	maxHead  = 64 << 20
	maxFrame = 256 << 20
)

// WriteFrame writes the length of the head, the head as JSON, and the bodies.
func WriteFrame(w io.Writer, f Frame) error {
	f.Sizes = f.Sizes[:0]
	for _, b := range f.Bodies {
		f.Sizes = append(f.Sizes, len(b))
	}
	head, err := json.Marshal(f)
	if err != nil {
		return err
	}
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(head)))
	if _, err := w.Write(size[:]); err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, b := range f.Bodies {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// ReadFrame reads what WriteFrame wrote.
func ReadFrame(r io.Reader) (Frame, error) {
	var f Frame
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxHead {
		return f, fmt.Errorf("link frame: head of %d bytes is too long", n)
	}
	head, err := readN(r, int(n))
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(head, &f); err != nil {
		return f, fmt.Errorf("link frame: %w", err)
	}
	total := 0
	for _, size := range f.Sizes {
		if size < 0 || size > maxFrame || total+size > maxFrame {
			return f, fmt.Errorf("link frame: body of %d bytes is too long", size)
		}
		total += size
		b, err := readN(r, size)
		if err != nil {
			return f, err
		}
		f.Bodies = append(f.Bodies, b)
	}
	return f, nil
}

// readN reads n bytes and allocates as they come, so that a lying length costs nothing.
func readN(r io.Reader, n int) ([]byte, error) {
	if n <= 64<<10 {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	var out []byte
	for len(out) < n {
		part := make([]byte, min(n-len(out), 1<<20))
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

// Link is one connection between an agent and the master. Send never blocks.
type Link struct {
	conn   net.Conn
	reader *bufio.Reader

	mu     sync.Mutex
	queue  []Frame
	closed bool
	wake   chan struct{}
}

func newLink(conn net.Conn, reader *bufio.Reader) *Link {
	l := &Link{conn: conn, reader: reader, wake: make(chan struct{}, 1)}
	go l.write()
	return l
}

// Send queues a frame.
func (l *Link) Send(f Frame) {
	l.mu.Lock()
	if !l.closed {
		l.queue = append(l.queue, f)
	}
	l.mu.Unlock()
	l.signal()
}

// closeWithin is how long a closed link may take to send what is queued.
const closeWithin = time.Second

// Close ends the link after what is queued, or after a moment if the peer does not read.
func (l *Link) Close() {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if first {
		time.AfterFunc(closeWithin, func() { _ = l.conn.Close() })
	}
	l.signal()
}

// Receive waits for the next frame.
func (l *Link) Receive() (Frame, error) { return ReadFrame(l.reader) }

func (l *Link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Link) write() {
	defer l.conn.Close()
	w := bufio.NewWriterSize(l.conn, 16<<10)
	for {
		l.mu.Lock()
		batch, closed := l.queue, l.closed
		l.queue = nil
		l.mu.Unlock()
		for _, f := range batch {
			if WriteFrame(w, f) != nil {
				l.Close()
				return
			}
		}
		if len(batch) > 0 {
			if w.Flush() != nil {
				l.Close()
				return
			}
			continue
		}
		if closed {
			return
		}
		<-l.wake
	}
}

// Upgrade turns an agent's request into a Link.
func Upgrade(w http.ResponseWriter, r *http.Request) (*Link, error) {
	if r.Header.Get("Upgrade") != linkProtocol {
		refusal := Refuse(http.StatusUpgradeRequired, "Expecting 'Upgrade' to be %s", linkProtocol)
		refusal.Write(w)
		return nil, refusal
	}
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+linkProtocol+"\r\n\r\n")
	if err != nil {
		conn.Close()
		return nil, err
	}
	return newLink(conn, buffer.Reader), nil
}

// Open asks the master at the other end of conn for a link.
func Open(conn net.Conn, host string) (*Link, error) {
	_, err := io.WriteString(conn, "POST "+LinkPath+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: "+linkProtocol+"\r\nContent-Length: 0\r\n\r\n")
	if err != nil {
		conn.Close()
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, fmt.Errorf("master at %s answered %s to the agent", host, response.Status)
	}
	return newLink(conn, reader), nil
}
