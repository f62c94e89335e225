package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"
)

// The outer and the inner process of `padis up` talk over a socket pair, one JSON object per line. Its end is the end
// of the other process.

// order is what the outer process tells the inner one.
type order struct {
	// Gateways, if not nil, are all the addresses that the virtual switch shall have.
	Gateways *[]netip.Prefix `json:"gateways,omitempty"`
	// Stop everything.
	Stop bool `json:"stop,omitempty"`
}

// news is what the inner process tells the outer one: what happened to a part.
type news struct {
	// Name of the part: a service, or "client", "switch", "gateways".
	Name string `json:"name"`
	// started, ended or stopped.
	Kind string `json:"kind"`
	// Process id in the inner PID namespace, of a started service.
	Pid int `json:"pid,omitempty"`
	// File descriptor of a network namespace in the inner process, of the client.
	Descriptor int `json:"descriptor,omitempty"`
	// What there is to say about it.
	Detail string `json:"detail,omitempty"`
	// Delay before the next start, of a service that ended.
	RetryIn time.Duration `json:"retryIn,omitempty"`
}

// maxControlLine bounds a line: all gateways of a large installation fit many times.
const maxControlLine = 4 << 20

// lines writes values, one per line, from any goroutine.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.w.Write(append(b, '\n'))
	return err
}

// receive calls handle for each value until the other side ends, which is no error.
func receive[T any](r io.Reader, handle func(T)) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxControlLine)
	for scanner.Scan() {
		var v T
		if err := json.Unmarshal(scanner.Bytes(), &v); err != nil {
			return fmt.Errorf("message of the other process: %w", err)
		}
		handle(v)
	}
	if err := scanner.Err(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("message of the other process: %w", err)
	}
	return nil
}
