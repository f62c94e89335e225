package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"padis.io/padis/executor"
	"padis.io/padis/executor/access"
	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/usage"
	"padis.io/padis/proto/padis/stream"
)

// openExecutor makes the executor and the endpoint by which people reach into its instances.
func openExecutor(c executor.Config, o options, network *kernel.Network) (e *executor.Executor, closeAccess func(), err error) {
	reader, err := usage.NewReader()
	if err != nil {
		return nil, nil, err
	}
	here := &instances{usage: reader}
	server, err := access.New(access.Config{
		Instances: here, Logs: output{}, Usage: here, Dial: probe.New(network.StreamSocket).Dial, Log: c.Log.Named("access"),
	})
	if err != nil {
		return nil, nil, err
	}
	address, err := server.Listen(o.access)
	if err != nil {
		return nil, nil, fmt.Errorf("--access: %w", err)
	}
	host, _, err := net.SplitHostPort(o.access)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("--access: %w", err), server.Close())
	}
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	c.Access = executor.Access{Endpoint: net.JoinHostPort(host, port), Certificate: server.Certificate(), Clients: server}
	if e, err = executor.New(c); err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	here.executor = e
	return e, func() { _ = server.Close() }, nil
}

// instances shows the endpoint what the executor runs. Nobody is let in before the executor runs.
type instances struct {
	executor *executor.Executor
	usage    *usage.Reader
}

// Find implements access.Instances.
func (i *instances) Find(container string) (access.Instance, bool) {
	p, ok := i.executor.Lookup(container)
	return access.Instance{Runtime: p.Instance, Logs: p.Dir, Ended: p.Ended, Addresses: p.Addresses}, ok
}

// Usage implements access.Usage.
func (i *instances) Usage(_ context.Context, containers []string) (map[string]stream.Usage, error) {
	wanted := map[string]bool{}
	for _, c := range containers {
		wanted[c] = true
	}
	out := map[string]stream.Usage{}
	for _, p := range i.executor.Instances() {
		if len(wanted) > 0 && !wanted[p.Container] {
			continue
		}
		sample, err := i.usage.Read(p.PID)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return nil, fmt.Errorf("usage of %s: %w", p.Container, err)
		}
		out[p.Container] = sample
	}
	return out, nil
}
