package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor"
	"padis.io/padis/executor/runtime/containerd"
	"padis.io/padis/executor/volume/hostfs"
)

// Environment variables that agents may give to all executors; flags come first.
const (
	stateVariable      = "PADIS_STATE_DIR"
	containerdVariable = "PADIS_CONTAINERD_ADDRESS"
	cgroupVariable     = "PADIS_CGROUP_PARENT"
	metricsVariable    = "PADIS_METRICS_LISTEN"
	hostPathsVariable  = "PADIS_HOST_PATHS"
	ociRuntimeVariable = "PADIS_OCI_RUNTIME"
	accessVariable     = "PADIS_ACCESS"
	cacheVariable      = "PADIS_CACHE"
	parallelVariable   = "PADIS_PARALLEL"
	logLevelVariable   = "PADIS_LOG_LEVEL"
	// noContainersVariable says why there are none, for people.
	noContainersVariable = "PADIS_NO_CONTAINERS"
)

// off is the value of an option for what shall not be.
const off = "off"

const (
	defaultState = "/var/lib/padis"
	// containerdWait is how long containerd may take to start, or to come back.
	containerdWait  = 30 * time.Second
	containerdPause = 100 * time.Millisecond
)

// wireContainers connects to containerd, if there is one or must be: because somebody said where, or because instances
// of an earlier executor may be its containers. Then it is waited for, and without it the executor ends, so that nothing
// is said of containers that may well run.
func wireContainers(ctx context.Context, o options, owner string, c *executor.Config, log *zap.Logger) (close func(), err error) {
	if why := os.Getenv(noContainersVariable); why != "" && o.containerd == "" {
		c.NoContainers = why
		return func() {}, nil
	}
	if o.containerd == off {
		c.NoContainers = "containers are switched off on this host; set --containerd or " + containerdVariable + " to the socket of a containerd"
		return func() {}, nil
	}
	address := o.containerd
	must := address != ""
	if !must {
		address = containerd.DefaultAddress
		if must, err = anyInstance(o.state); err != nil {
			return nil, err
		}
		if _, err := os.Stat(address); err != nil && !must {
			c.NoContainers = fmt.Sprintf("there is no containerd on this host (%v); install and start it, or set --containerd or %s to its socket", err, containerdVariable)
			return func() {}, nil
		}
	}
	if err := os.MkdirAll(filepath.Join(o.state, "instances"), 0o755); err != nil {
		if must {
			return nil, fmt.Errorf("make --state: %w", err)
		}
		c.NoContainers = fmt.Sprintf("the state directory cannot be made: %v; set --state or %s to one that can", err, stateVariable)
		return func() {}, nil
	}
	keeper, err := openContainerd(ctx, containerd.Config{
		Address: address, Owner: owner, CgroupParent: o.cgroup, RuntimeBinary: o.ociRuntime, Log: log.Named("containerd"),
	})
	if err != nil {
		if must {
			return nil, err
		}
		c.NoContainers = err.Error()
		return func() {}, nil
	}
	namespace := func() (string, error) { return hostfs.NamespaceOf(address) }
	if _, err := namespace(); err != nil {
		return nil, errors.Join(err, keeper.Close())
	}
	c.Containers = keeper
	c.Volumes = hostfs.New(hostfs.Config{State: o.state, HostPaths: o.hostPaths, Namespace: namespace, Log: log.Named("volume")})
	return func() { _ = keeper.Close() }, nil
}

// hostPaths are directories, separated by commas. None allow all of them.
func hostPaths(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	var all []string
	for _, p := range strings.Split(list, ",") {
		if p = strings.TrimSpace(p); !path.IsAbs(p) {
			return nil, fmt.Errorf("--host-paths, %s: %q is no absolute path; give directories, separated by commas", hostPathsVariable, p)
		}
		all = append(all, path.Clean(p))
	}
	return all, nil
}

func openContainerd(ctx context.Context, c containerd.Config) (*containerd.Runtime, error) {
	for deadline := time.Now().Add(containerdWait); ; {
		keeper, err := containerd.Open(ctx, c)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return keeper, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(containerdPause):
		}
	}
}

// anyInstance tells whether there are directories of containers, running or not.
func anyInstance(state string) (bool, error) {
	entries, err := os.ReadDir(filepath.Join(state, "instances"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for instances: %w", err)
	}
	return len(entries) > 0, nil
}
