package stream

// Upgrade is the protocol that a client asks for in the header Upgrade.
const Upgrade = "padis-stream"

// SchedulerName is the common name with which the scheduler comes to executors.
const SchedulerName = "padis:scheduler"

// Paths of an executor's access endpoint. INSTANCE stands for the name of an instance on its host.
const (
	UsagePath     = "/v1/usage"
	InstancesPath = "/v1/instances/"
	LogVerb       = "/log"
	ExecVerb      = "/exec"
	ForwardVerb   = "/forward"
)

// ExecRequest asks for a command; it is the body of the request.
type ExecRequest struct {
	Command []string `json:"command"`
	// Env is a list of NAME=value, put over that of the instance.
	Env []string `json:"env,omitempty"`
	// User and Dir are the instance's if empty.
	User string `json:"user,omitempty"`
	Dir  string `json:"dir,omitempty"`
	// Stdin tells that frames of it follow; without, there is nothing to read.
	Stdin bool `json:"stdin,omitempty"`
	// TTY gives the command a terminal of that size.
	TTY    bool   `json:"tty,omitempty"`
	Width  uint16 `json:"width,omitempty"`
	Height uint16 `json:"height,omitempty"`
}

// Ended is the payload of Exit: how a command ended. Of one that a signal ended, Code is 128 and the signal's number, as
// a shell gives it.
type Ended struct {
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
}

// Failure says why something could not be done: one of the Reason constants, if one fits, and a sentence with the remedy.
// It is the body of an answer that is no success.
type Failure struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
}

// LogRequest asks for the output of an instance. It travels in the query.
type LogRequest struct {
	// Stream is stdout, stderr, or all for both in the order in which they were read.
	Stream string
	Follow bool
	// TailLines and LimitBytes are without a limit if negative.
	TailLines, LimitBytes int64
	// SinceMS skips what was written before that time, in Unix milliseconds; 0 skips nothing.
	SinceMS int64
}

// Usage is what an instance uses.
type Usage struct {
	// CPUNanos is the time on a CPU since its start.
	CPUNanos uint64 `json:"cpuNanos"`
	// CPUMilli is its use of CPU of late, in thousandths of a CPU.
	CPUMilli         int64  `json:"cpuMilli"`
	MemoryBytes      uint64 `json:"memoryBytes"`
	MemoryLimitBytes uint64 `json:"memoryLimitBytes,omitempty"`
	RxBytes          uint64 `json:"rxBytes"`
	TxBytes          uint64 `json:"txBytes"`
	ReadBytes        uint64 `json:"readBytes"`
	WriteBytes       uint64 `json:"writeBytes"`
	Processes        uint64 `json:"processes"`
	TCPEstablished   uint64 `json:"tcpEstablished"`
	TCPListen        uint64 `json:"tcpListen"`
	OOMKills         uint64 `json:"oomKills"`
}
