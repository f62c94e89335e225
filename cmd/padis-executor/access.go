package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"

	"padis.io/padis/executor"
	"padis.io/padis/executor/access"
	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/metrics"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/usage"
	"padis.io/padis/proto/padis/stream"
)

// openExecutor makes the executor and the endpoint by which people reach into its instances.
func openExecutor(ctx context.Context, c executor.Config, o options, agentEndpoint string, network *kernel.Network) (e *executor.Executor, closeAccess func(), err error) {
	reader, err := usage.NewReader()
	if err != nil {
		return nil, nil, err
	}
	here := &instances{usage: reader}
	server, err := access.New(access.Config{
		Instances: here, Logs: output{}, Usage: here, Dial: probe.New(network).Dial, Log: c.Log.Named("access"),
	})
	if err != nil {
		return nil, nil, err
	}
	address, err := server.Listen(o.access)
	if err != nil {
		return nil, nil, fmt.Errorf("--access: %w", err)
	}
	endpoint, err := reachable(address, agentEndpoint)
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	c.Access = executor.Access{Endpoint: endpoint, Certificate: server.Certificate(), Clients: server}
	if e, err = executor.New(c); err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	here.executor = e
	if o.metrics != off {
		handler := metrics.Handler(measured{e}, reader)
		go metrics.Serve(ctx, o.metrics, handler, c.Log.Named("metrics"))
	}
	return e, func() { _ = server.Close() }, nil
}

// reachable is the address of an endpoint for others: one that listens on all addresses is reached at the agent's, which
// the scheduler reaches, too.
func reachable(listens net.Addr, agentEndpoint string) (string, error) {
	at, err := netip.ParseAddrPort(listens.String())
	if err != nil {
		return "", fmt.Errorf("the address of the access endpoint: %w", err)
	}
	if !at.Addr().IsUnspecified() {
		return at.String(), nil
	}
	host, _, err := net.SplitHostPort(agentEndpoint)
	if err != nil {
		return "", fmt.Errorf("MESOS_AGENT_ENDPOINT: %w", err)
	}
	return net.JoinHostPort(host, strconv.Itoa(int(at.Port()))), nil
}

// measured shows metrics what the executor does.
type measured struct{ *executor.Executor }

func (m measured) Instances() []metrics.Instance { return m.Measured() }

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
