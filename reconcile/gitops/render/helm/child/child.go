// Package child renders a chart in a process of its own: templates are programs without bounds, and cannot be stopped otherwise.
// The process is one of the same binary; it gets one Request and gives one Response. Edge: talks to processes.
//
// The process has bounds for the time of a processor, memory and open files, can write none, knows no environment, has (if the
// parent may give it one) a network namespace with nothing in it, and ends with its parent.
package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"padis.io/padis/reconcile/gitops/render/helm"
)

// Verb is the command of the binary that is the child: what it gives to Main follows.
const Verb = "render-chart"

// Bounds of one rendering. What is zero is as in Defaults.
type Bounds struct {
	CPU      time.Duration // time of processors, in whole seconds
	Wall     time.Duration // until the process is killed, however little it could run
	Memory   int64         // bytes, beside what the binary itself takes
	Request  int64         // bytes of the chart and its values, as JSON
	Response int64         // bytes of what is rendered, as JSON
	Parallel int           // processes at the same time
}

// Defaults of Bounds. Templates do not wait for anything: what bounds them is the processor's time, whatever else the machine
// does. A chart of a hundred templates takes 0.1 s and some ten MB.
var Defaults = Bounds{CPU: 10 * time.Second, Wall: time.Minute, Memory: 512 << 20, Request: 64 << 20, Response: 64 << 20, Parallel: 2}

func (b Bounds) or(d Bounds) Bounds {
	for _, f := range []struct{ v, d *int64 }{{(*int64)(&b.CPU), (*int64)(&d.CPU)}, {(*int64)(&b.Wall), (*int64)(&d.Wall)}, {&b.Memory, &d.Memory}, {&b.Request, &d.Request}, {&b.Response, &d.Response}} {
		if *f.v == 0 {
			*f.v = *f.d
		}
	}
	if b.Parallel == 0 {
		b.Parallel = d.Parallel
	}
	return b
}

// Runner starts children. Its methods may be called at the same time.
type Runner struct {
	exe    string
	bounds Bounds
	slots  chan struct{}
}

// self is the binary that runs, also after its file was replaced by a newer one.
const self = "/proc/self/exe"

// New gives a Runner whose children are processes of this binary, which calls Main for the Verb.
func New(b Bounds) *Runner {
	b = b.or(Defaults)
	return &Runner{exe: self, bounds: b, slots: make(chan struct{}, b.Parallel)}
}

// Render renders a chart. An error that is a *helm.Death says why the child could not.
func (r *Runner) Render(ctx context.Context, req helm.Request) (helm.Response, error) {
	doc, err := json.Marshal(req)
	if err != nil {
		return helm.Response{}, err
	}
	if int64(len(doc)) > r.bounds.Request {
		return helm.Response{}, &helm.Death{Message: fmt.Sprintf("the chart and its values are more than %d bytes: add what templates do not need to %s", r.bounds.Request, helm.IgnoreFile)}
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return helm.Response{}, ctx.Err()
	}
	// The child is killed when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	end, err := r.run(ctx, doc, os.Geteuid() == 0)
	if errors.Is(err, syscall.EPERM) {
		// Root of a container may not make namespaces.
		end, err = r.run(ctx, doc, false)
	}
	if ctx.Err() != nil {
		return helm.Response{}, ctx.Err()
	}
	if err != nil {
		return helm.Response{}, &helm.Death{Message: "the process that renders charts cannot be started: " + err.Error(), Passing: true}
	}
	if death := end.death(r.bounds); death != nil {
		return helm.Response{}, death
	}
	res, err := helm.Read[helm.Response](bytes.NewReader(end.out), r.bounds.Response)
	if err != nil {
		return res, &helm.Death{Message: "the process that renders charts gave no answer: " + err.Error(), Passing: true}
	}
	return res, nil
}

func (r *Runner) run(ctx context.Context, doc []byte, alone bool) (end ending, err error) {
	wall, cancel := context.WithTimeout(ctx, r.bounds.Wall)
	defer cancel()
	cmd := exec.CommandContext(wall, r.exe, arguments(r.bounds)...)
	cmd.Args[0] = "padis"
	cmd.Dir = "/"
	cmd.Env = []string{"GOMAXPROCS=2"} // without any, it would have ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if alone {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	cmd.Stdin = bytes.NewReader(doc)
	said := &head{most: 4096}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return end, err
	}
	if err := cmd.Start(); err != nil {
		return end, err
	}
	end.out, _ = io.ReadAll(io.LimitReader(out, r.bounds.Response+1)) // what is missing shows in how it ended
	if int64(len(end.out)) > r.bounds.Response {
		end.large = true
		cancel()
	}
	end.failed = cmd.Wait() != nil
	end.late = errors.Is(wall.Err(), context.DeadlineExceeded)
	end.said = said.String()
	end.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return end, nil
}

func arguments(b Bounds) []string {
	args := []string{Verb}
	for _, n := range []int64{int64((b.CPU + time.Second - 1) / time.Second), b.Memory, b.Request, b.Response} {
		args = append(args, strconv.FormatInt(n, 10))
	}
	return args
}

// head keeps the beginning of what is written.
type head struct {
	bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), h.most-h.Len())])
	return len(p), nil
}
