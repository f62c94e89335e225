package executor

import (
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Placed is an instance that is, or was, on this host.
type Placed struct {
	// TaskID is empty for a container without a task, and for what has ended.
	TaskID, Container string
	// Dir has its kept output: stdout, stderr and what was rotated.
	Dir string
	// Launch is nil if it is not known any more.
	Launch *padisv1.Launch
	// Instance is nil, and PID 0, unless it runs and is ours.
	Instance runtime.Instance
	PID      int
	// Ready is what was reported last.
	Ready     bool
	Addresses []netip.Addr
	// Ended is closed when it has ended and all its output is kept.
	Ended <-chan struct{}
}

// Lookup finds an instance by the id of its task or the name of its container. Of those that have ended there is what is
// kept on the host.
func (e *Executor) Lookup(id string) (Placed, bool) {
	var p Placed
	var found bool
	var host instance.Host
	if !instance.ValidName(id) || !e.ask(func(time.Time) {
		host = e.Host
		l := e.lives[id]
		if l == nil {
			l = e.holder(id)
		}
		if l != nil {
			p, found = l.placed(), true
		}
	}) {
		return Placed{}, false
	}
	if found {
		return p, true
	}
	p = Placed{Container: id, Ended: over, Dir: filepath.Join(host.Sandbox, "tasks", id)}
	if dir := instance.Directory(host.State, id); host.State != "" && isDir(dir) {
		p.Dir = dir
		p.Launch, _ = readLaunch(dir) // nil says that it is not known
	}
	return p, isDir(p.Dir)
}

// Instances lists those that run, in the order of their containers.
func (e *Executor) Instances() []Placed {
	var out []Placed
	e.ask(func(time.Time) {
		for _, l := range e.lives {
			if l.state.Runs() {
				out = append(out, l.placed())
			}
		}
	})
	slices.SortFunc(out, func(a, b Placed) int { return cmp.Compare(a.Container, b.Container) })
	return out
}

func (l *life) placed() Placed {
	p := Placed{
		TaskID: l.plan.TaskID, Container: l.plan.Container, Dir: l.plan.Files.Dir, Launch: l.plan.Launch,
		Ready: l.state.Reported().Report.GetReady(), Ended: l.ended,
	}
	p.Addresses = l.addresses()
	if l.state.Runs() {
		p.Instance, p.PID = l.instance, l.instance.PID()
	}
	return p
}

// addresses of an instance, or of its host if it has the host's network.
func (l *life) addresses() []netip.Addr {
	if l.plan.Wanted.Hosted {
		return l.executor.Host.Addresses
	}
	var out []netip.Addr
	for _, i := range l.plan.Wanted.Interfaces {
		for _, a := range i.Addresses {
			out = append(out, a.Addr())
		}
	}
	return out
}

// over is the end of what ended before anybody asked.
var over = closed()

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
