// Package signals says what the kernel does with the signals of a process that is PID 1 of its namespace. Pure.
//
// A signal for which PID 1 has neither handler nor mask is dropped instead of taking its default action. Whoever wants the
// default action reads from /proc/PID/status what the program has said about the signal, and ends it by SIGKILL.
package signals

import (
	"strconv"
	"strings"
)

// Numbers of signal(7) that are the same on every architecture that Padis is built for.
const (
	sigill, sigtrap, sigbus, sigfpe, sigkill, sigsegv    = 4, 5, 7, 8, 9, 11
	sigchld, sigcont, sigstop, sigtstp, sigttin, sigttou = 17, 18, 19, 20, 21, 22
	sigurg, sigwinch, sigsys                             = 23, 28, 31
)

// EndsByDefault tells whether the default action of a signal is to end the process.
func EndsByDefault(n int) bool {
	switch n {
	case sigchld, sigcont, sigurg, sigwinch, sigstop, sigtstp, sigttin, sigttou:
		return false
	}
	return true
}

// EndsFirst tells whether a signal can be what ended a PID 1: the kernel forces faults, and SIGKILL comes from outside.
// An exit code of 128 and any other signal was the program's own choice, as shells and Java make it.
func EndsFirst(n int) bool {
	switch n {
	case sigill, sigtrap, sigbus, sigfpe, sigkill, sigsegv, sigsys:
		return true
	}
	return false
}

// Set is a set of signals in the form of /proc/PID/status: bit n-1 for signal n.
type Set uint64

// Has tells whether signal n is in the set.
func (s Set) Has(n int) bool { return n > 0 && s>>(uint(n)-1)&1 == 1 }

// Said reads from the text of /proc/PID/status the signals for which a process has said something: ignored, handled or
// blocked. Lines that cannot be read say nothing.
func Said(status string) Set {
	var all Set
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "SigBlk", "SigIgn", "SigCgt":
			if v, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil {
				all |= Set(v)
			}
		}
	}
	return all
}
