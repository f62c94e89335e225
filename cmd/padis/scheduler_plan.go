package main

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/server"
	"padis.io/padis/scheduler"
	"padis.io/padis/scheduler/planner"
)

// planning tells what would happen.
type planning interface {
	Plan(ctx context.Context, changes []planner.Change) (*plan.Plan, error)
}

// Plan implements server.Planner.
func (d *door) Plan(ctx context.Context, changes []server.PlannedChange) (*plan.Plan, error) {
	f, err := d.finder()
	if err != nil {
		return nil, err
	}
	in := make([]planner.Change, len(changes))
	for i, c := range changes {
		in[i] = planner.Change(c)
	}
	out, err := f.planner.Plan(ctx, in)
	switch {
	case errors.Is(err, planner.ErrChanged):
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "plans"}, "", err)
	case errors.Is(err, scheduler.ErrStopped):
		return nil, apierrors.NewServiceUnavailable(err.Error())
	}
	return out, err
}
