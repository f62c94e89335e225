package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
	"padis.io/padis/mesos/files"
	"padis.io/padis/scheduler"
)

// logReader reads the output of instances where it is: in the sandboxes, through the Mesos agents.
type logReader struct {
	files *files.Client
	// find is set when this process schedules; a stand-by knows nothing of sandboxes.
	find atomic.Pointer[scheduler.Loop]
}

// Log implements live.LogReader.
func (r *logReader) Log(ctx context.Context, namespace, name string, o live.LogOptions) (io.ReadCloser, error) {
	loop := r.find.Load()
	if loop == nil {
		return nil, apierrors.NewServiceUnavailable("this server does not schedule at the moment: ask again in a few seconds")
	}
	box, ok := loop.Sandbox(namespace, name, o.Previous)
	if !ok {
		return nil, notThere(name, o, "it has not run yet; see `padis why instance/"+name+"`")
	}
	path := files.TaskPath(box.FrameworkID, box.ExecutorID, box.TaskID, o.Stream)
	// Asked before the answer begins, so that a missing file is an error and not an empty log.
	if _, _, err := r.files.Read(ctx, box.AgentURL, path, 0, 1); err != nil {
		if errors.Is(err, files.ErrNotFound) {
			return nil, notThere(name, o, "its host does not keep it (any more)")
		}
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("the output of %s cannot be read from its host: %v", name, err))
	}
	opts := files.Options{Follow: o.Follow}
	switch {
	case o.TailLines == 0 && !o.Follow:
		return io.NopCloser(noOutput{}), nil
	case o.TailLines > 0:
		opts.TailLines = int(o.TailLines)
	}
	return r.files.Open(ctx, box.AgentURL, path, opts), nil
}

// noOutput is an empty stream.
type noOutput struct{}

func (noOutput) Read([]byte) (int, error) { return 0, io.EOF }

func notThere(name string, o live.LogOptions, why string) error {
	run := "the present run"
	if o.Previous {
		run = "the run before the present one"
	}
	err := apierrors.NewNotFound(schema.GroupResource{Group: runtime.GroupVersion.Group, Resource: "instances/log"}, name)
	err.ErrStatus.Message = fmt.Sprintf("there is no %s of %s of %s: %s", o.Stream, run, name, why)
	return err
}
