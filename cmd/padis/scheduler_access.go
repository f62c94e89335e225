package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
	"padis.io/padis/mesos/files"
	"padis.io/padis/proto/padis/stream"
	"padis.io/padis/scheduler"
	"padis.io/padis/scheduler/access"
	"padis.io/padis/scheduler/planner"
)

// parallelHosts is how many hosts are asked at the same time.
const parallelHosts = 32

// door reaches into instances where they are: through their executors, and for the output of instances of which there is
// no executor any more through the Mesos agents. It implements live.LogReader, live.Access and live.Balances, and
// server.Planner.
type door struct {
	files *files.Client
	// find is set when this process schedules; a stand-by knows nothing of hosts.
	find atomic.Pointer[finder]
}

// finder knows where instances are.
type finder struct {
	loop interface {
		Endpoint(namespace, name string, previous bool) (scheduler.Endpoint, bool)
		Sandbox(namespace, name string, previous bool) (scheduler.Sandbox, bool)
		RecordsExec(namespace string) bool
	}
	client   *access.Client
	balancer balancer
	planner  planning
}

// open lets people in.
func (d *door) open(loop *scheduler.Loop, api *rest.Config, certificate, key []byte) error {
	client, err := access.New(certificate, key)
	if err != nil {
		return err
	}
	planner, err := planner.New(api, loop)
	if err != nil {
		return err
	}
	d.find.Store(&finder{loop, client, loop, planner})
	return nil
}

func (d *door) finder() (*finder, error) {
	if f := d.find.Load(); f != nil {
		return f, nil
	}
	return nil, apierrors.NewServiceUnavailable("this server does not schedule at the moment: ask again in a few seconds")
}

// present finds the way to the present run of an instance.
func (d *door) present(namespace, name string) (*finder, access.Endpoint, error) {
	f, err := d.finder()
	if err != nil {
		return nil, access.Endpoint{}, err
	}
	at, ok := f.loop.Endpoint(namespace, name, false)
	if !ok {
		return nil, access.Endpoint{}, apierrors.NewServiceUnavailable(fmt.Sprintf("there is no way into %s: it runs nowhere, or its executor has not said yet where it listens; see `padis why instance/%s`", name, name))
	}
	return f, endpoint(at), nil
}

func endpoint(at scheduler.Endpoint) access.Endpoint {
	return access.Endpoint{Address: at.Address, Certificate: at.Certificate, Container: at.Container}
}

// Container implements live.Access.
func (d *door) Container(namespace, name string) string {
	f, err := d.finder()
	if err != nil {
		return ""
	}
	at, _ := f.loop.Endpoint(namespace, name, false)
	return at.Container
}

// Record implements live.Access. Nobody gets in where it is not known.
func (d *door) Record(namespace string) bool {
	f, err := d.finder()
	return err == nil && f.loop.RecordsExec(namespace)
}

// Exec implements live.Access.
func (d *door) Exec(ctx context.Context, namespace, name string, e live.Exec) (int, error) {
	f, at, err := d.present(namespace, name)
	if err != nil {
		return 0, err
	}
	s := access.Streams{Stdin: e.Stdin, Stdout: e.Stdout, Stderr: e.Stderr}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if e.Resize != nil {
		sizes := make(chan stream.Size)
		s.Resize = sizes
		go func() {
			for {
				select {
				case size, ok := <-e.Resize:
					if !ok {
						return
					}
					select {
					case sizes <- stream.Size{Width: size.Width, Height: size.Height}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	ended, err := f.client.Exec(ctx, at, stream.ExecRequest{
		Command: e.Command, Stdin: e.Stdin != nil, TTY: e.TTY, Width: e.Width, Height: e.Height,
	}, s)
	return ended.Code, refusedBy(name, err)
}

// Forward implements live.Access.
func (d *door) Forward(ctx context.Context, namespace, name string, port uint16) (live.Conn, error) {
	f, at, err := d.present(namespace, name)
	if err != nil {
		return nil, err
	}
	conn, err := f.client.Forward(ctx, at, port)
	if err != nil {
		return nil, refusedBy(name, err)
	}
	return conn.(live.Conn), nil
}

// refusedBy makes of an executor's refusal one of the API.
func refusedBy(name string, err error) error {
	var refused *access.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Status < http.StatusInternalServerError:
		return apierrors.NewBadRequest(fmt.Sprintf("%s: %s", name, refused.Message))
	case errors.As(err, &refused), errors.Is(err, access.ErrUnreachable):
		return apierrors.NewServiceUnavailable(fmt.Sprintf("%s: %v", name, err))
	}
	return err
}

// Usage implements live.Access. Each host is asked once.
func (d *door) Usage(ctx context.Context, instances []*runtime.Instance) (map[[2]string]runtime.UsageStatus, map[string]string, error) {
	f, err := d.finder()
	if err != nil {
		return nil, nil, err
	}
	type host struct {
		name  string
		at    access.Endpoint
		names map[string][2]string // by container
	}
	hosts := map[string]*host{}
	for _, i := range instances {
		at, ok := f.loop.Endpoint(i.Namespace, i.Name, false)
		if !ok {
			continue
		}
		h := hosts[at.Address]
		if h == nil {
			h = &host{at.Host, endpoint(at), map[string][2]string{}}
			hosts[at.Address] = h
		}
		h.names[at.Container] = [2]string{i.Namespace, i.Name}
	}
	var mu sync.Mutex
	out, unreachable := map[[2]string]runtime.UsageStatus{}, map[string]string{}
	var group errgroup.Group
	group.SetLimit(parallelHosts)
	for _, h := range hosts {
		group.Go(func() error {
			used, err := f.client.Usage(ctx, h.at, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				unreachable[h.name] = err.Error()
			}
			for container, u := range used {
				if name, ok := h.names[container]; ok {
					out[name] = usageOf(u)
				}
			}
			return nil
		})
	}
	return out, unreachable, group.Wait()
}

func usageOf(u stream.Usage) runtime.UsageStatus {
	return runtime.UsageStatus{
		CPUMilli: u.CPUMilli, MemoryBytes: int64(u.MemoryBytes), MemoryLimitBytes: int64(u.MemoryLimitBytes), RxBytes: int64(u.RxBytes), TxBytes: int64(u.TxBytes),
		ReadBytes: int64(u.ReadBytes), WriteBytes: int64(u.WriteBytes), Processes: int64(u.Processes), TCPEstablished: int64(u.TCPEstablished),
		TCPListen: int64(u.TCPListen), OOMKills: int64(u.OOMKills),
	}
}

// Log implements live.LogReader.
func (d *door) Log(ctx context.Context, namespace, name string, o live.LogOptions) (io.ReadCloser, error) {
	f, err := d.finder()
	if err != nil {
		return nil, err
	}
	if at, ok := f.loop.Endpoint(namespace, name, o.Previous); ok {
		log, err := f.client.Log(ctx, endpoint(at), logRequest(o))
		var refused *access.Error
		switch {
		case err == nil:
			return log, nil
		case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
			return nil, notThere(name, o, "its host does not keep it (any more)")
		case errors.As(err, &refused) || ctx.Err() != nil:
			return nil, refusedBy(name, err)
		}
		// The executor does not answer: the Mesos agent may.
	}
	return d.sandboxLog(ctx, f, namespace, name, o)
}

func logRequest(o live.LogOptions) stream.LogRequest {
	r := stream.LogRequest{Stream: o.Stream, Follow: o.Follow, TailLines: o.TailLines, LimitBytes: o.LimitBytes}
	if !o.Since.IsZero() {
		r.SinceMS = max(o.Since.UnixNano()/int64(time.Millisecond), 1)
	}
	return r
}

// sandboxLog reads the output of a plain process from its sandbox, which outlives its executor.
func (d *door) sandboxLog(ctx context.Context, f *finder, namespace, name string, o live.LogOptions) (io.ReadCloser, error) {
	box, ok := f.loop.Sandbox(namespace, name, o.Previous)
	if !ok {
		return nil, notThere(name, o, "it has not run yet; see `padis why instance/"+name+"`")
	}
	if o.Stream == "all" || !o.Since.IsZero() {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("the executor of %s does not answer, and without it output can be had only by stream=stdout or stderr, and not since a time", name))
	}
	path := files.TaskPath(box.FrameworkID, box.ExecutorID, box.TaskID, o.Stream)
	// Asked before the answer begins, so that a missing file is an error and not an empty log.
	if _, _, err := d.files.Read(ctx, box.AgentURL, path, 0, 1); err != nil {
		if errors.Is(err, files.ErrNotFound) {
			return nil, notThere(name, o, "its host does not keep it (any more)")
		}
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("the output of %s cannot be read from its host: %v", name, err))
	}
	opts := files.Options{Follow: o.Follow}
	switch {
	case o.TailLines == 0 && !o.Follow:
		return http.NoBody, nil
	case o.TailLines > 0:
		opts.TailLines = int(o.TailLines)
	}
	return d.files.Open(ctx, box.AgentURL, path, opts), nil
}

func notThere(name string, o live.LogOptions, why string) error {
	run, what := "the present run", o.Stream
	if o.Previous {
		run = "the run before the present one"
	}
	if what == "all" {
		what = "output"
	}
	err := apierrors.NewNotFound(schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: "instances/log"}, name)
	err.ErrStatus.Message = fmt.Sprintf("there is no %s of %s of %s: %s", what, run, name, why)
	return err
}
