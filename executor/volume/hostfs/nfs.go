package hostfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/volume"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// nfs mounts a directory of a server. A program does, for a process that waits for a server can be left behind.
func (h *Host) nfs(ctx context.Context, v volume.Volume) error {
	fail := func(format string, args ...any) error {
		return &runtime.StartError{Reason: padisv1.ReasonVolumeFailed, Message: fmt.Sprintf("volume %s: mount %s: ", v.Name, v.Export) + fmt.Sprintf(format, args...)}
	}
	if err := os.Mkdir(v.Path, 0o755); err != nil {
		return failed("volume "+v.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.NFSTimeout)
	defer cancel()
	cmd, err := h.nfsCommand(ctx, v)
	if err != nil {
		return fail("%v", err)
	}
	out, err := bounded(ctx, cmd)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fail("no answer within %v; is the server up and reachable from this host?", h.NFSTimeout)
	case errors.Is(err, context.Canceled):
		return fail("given up, since the instance is no longer wanted")
	case noClient(out):
		return fail("this host's kernel has no NFS client (%s); install one there, or constrain the App to hosts that have it", out)
	}
	return fail("%v: %s", err, out)
}

// nfsCommand prefers mount.nfs, which finds out what the server speaks.
func (h *Host) nfsCommand(ctx context.Context, v volume.Volume) (*exec.Cmd, error) {
	helper := h.MountNFS
	if helper == "" {
		helper = program("mount.nfs")
	}
	if helper != "" {
		// retry=0: it tries for two minutes otherwise.
		options := append(v.MountOptions(), "retry=0")
		return exec.Command(helper, v.Export, v.Path, "-o", strings.Join(options, ",")), nil
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, v.Server)
	if err != nil {
		return nil, fmt.Errorf("find the server: %w", err)
	}
	// -i: without a helper.
	return exec.Command("mount", "-i", "-t", "nfs", "-o", strings.Join(v.KernelOptions(addresses[0]), ","), v.Export, v.Path), nil
}

// killPause is how long a killed program may take to end; one that the kernel holds is left to it.
const killPause = time.Second

// bounded runs a program and returns what it said, or ctx's error when its time is over, whatever becomes of it.
func bounded(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// Helpers of the helper shall not hold the pipe.
	cmd.WaitDelay = killPause
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return strings.TrimSpace(out.String()), err
	case <-ctx.Done():
	}
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	select {
	case <-done:
	case <-time.After(killPause):
	}
	return "", ctx.Err()
}

// noClient tells whether mounting failed because the kernel knows no NFS: what mount(8) and mount.nfs(8) make of ENODEV.
func noClient(said string) bool {
	return strings.Contains(said, "unknown filesystem type") || strings.Contains(said, "No such device")
}
