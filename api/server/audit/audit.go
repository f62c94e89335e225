// Package audit keeps who changed what is declared, a line for each object, and who reached into which instance: a line for
// the beginning and the end of each session, and recordings of the sessions themselves. Edge: talks to the file system.
package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	// fileMiB is the size at which the file is put aside, files how many of those are kept.
	fileMiB = 100
	files   = 10
)

// Entry is what a line says. Times are UTC.
type Entry struct {
	Time time.Time `json:"time"`
	// Session is the same in the line of the beginning and that of the end.
	Session string `json:"session"`
	// Event is begin or end.
	Event  string   `json:"event"`
	User   string   `json:"user"`
	Groups []string `json:"groups,omitempty"`
	// Verb is exec, cp (a tar that is run), portforward or log.
	Verb      string   `json:"verb"`
	Namespace string   `json:"namespace"`
	Instance  string   `json:"instance"`
	Container string   `json:"container,omitempty"`
	Command   []string `json:"command,omitempty"`
	TTY       bool     `json:"tty,omitempty"`
	Port      int32    `json:"port,omitempty"`
	// Recording is the file, below the data directory.
	Recording string `json:"recording,omitempty"`
	// Result is, at the end, "ok" or why not; ExitCode is that of the command, if it ran.
	Result     string `json:"result,omitempty"`
	ExitCode   *int   `json:"exitCode,omitempty"`
	DurationMS int64  `json:"durationMS,omitempty"`
	// BytesIn went to the instance, BytesOut came from it.
	BytesIn  int64 `json:"bytesIn,omitempty"`
	BytesOut int64 `json:"bytesOut,omitempty"`
}

// Log writes DATA/audit.log and DATA/recordings.
type Log struct {
	dir   string
	clock func() time.Time
	mu    sync.Mutex
	file  *lumberjack.Logger

	// Of changes: lines that wait, how many were lost, and when it is over.
	queue            chan []byte
	lost             atomic.Int64
	closing, written chan struct{}
	close            sync.Once
}

// Open begins to write in a data directory.
func Open(dir string, clock func() time.Time) (*Log, error) {
	path := filepath.Join(dir, "audit.log")
	// Made here, so that nobody else can read it whatever the umask.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &Log{
		dir: dir, clock: clock, file: &lumberjack.Logger{Filename: path, MaxSize: fileMiB, MaxBackups: files},
		queue: make(chan []byte, queued), closing: make(chan struct{}), written: make(chan struct{}),
	}
	go l.writeChanges()
	return l, nil
}

// Session is one that has begun.
type Session struct {
	log   *Log
	entry Entry
}

// Begin writes that a session begins. If that fails, it must not.
func (l *Log) Begin(e Entry) (*Session, error) {
	e.Time, e.Session, e.Event = l.clock().UTC(), uuid.NewString(), "begin"
	return &Session{l, e}, l.write(e)
}

// End writes how a session ended. An error of it is told to nobody but the caller: what was done is done.
func (s *Session) End(code *int, err error, in, out int64) error {
	e := s.entry
	e.Time, e.Event, e.ExitCode, e.BytesIn, e.BytesOut, e.Result = s.log.clock().UTC(), "end", code, in, out, "ok"
	e.DurationMS = e.Time.Sub(s.entry.Time).Milliseconds()
	if err != nil {
		e.Result = err.Error()
	}
	return s.log.write(e)
}

func (l *Log) write(e Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return l.append(append(b, '\n'))
}

// Close ends the writing, when what is queued is written.
func (l *Log) Close() error {
	l.close.Do(func() { close(l.closing) })
	<-l.written
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
