package containerd

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/reaper"
	"padis.io/padis/executor/volume"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	initPath    = "/.padis-init"
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	cpuPeriod   = 100_000
	// minQuota is the smallest that the kernel takes, in microseconds.
	minQuota = 1000
	// statTime is how long a path of the host may take to be looked at.
	statTime = 5 * time.Second
	// ociVersion is the oldest that says all that is needed: OCI runtimes refuse what is newer than they are.
	ociVersion = "1.0.2"
)

// spec is what the OCI runtime is told.
func (r *Runtime) spec(ctx context.Context, s runtime.Spec, i *image, name string) (*oci.Spec, error) {
	c := s.Container
	command, err := commandOf(s, i)
	if err != nil {
		return nil, err
	}
	who, err := i.lookUp(either(s.User, i.config.User))
	if err != nil {
		return nil, err
	}
	mounts, err := mountsOf(ctx, s)
	if err != nil {
		return nil, err
	}
	if c.Init {
		command = append([]string{initPath, reaper.Verb, "--"}, command...)
		mounts = append(mounts, bind(r.config.InitBinary, initPath, "ro"))
	}
	security := c.Security
	if security == nil {
		security = &padisv1.Security{}
	}
	capabilities, err := capabilitiesOf(security)
	if err != nil {
		return nil, err
	}
	opts := []oci.SpecOpts{
		oci.WithDefaultUnixDevices,
		oci.WithoutRunMount, // images have files there
		oci.WithHostname(s.Hostname),
		oci.WithProcessArgs(command...),
		oci.WithProcessCwd(directory(s.WorkingDir, i.config.WorkingDir)),
		oci.WithCgroup(r.cgroup(name)),
		oci.WithCapabilities(capabilities),
		func(_ context.Context, _ oci.Client, _ *containers.Container, spec *oci.Spec) error {
			spec.Version = ociVersion
			spec.Process.Env = environment(environment([]string{defaultPath}, i.config.Env), s.Env)
			spec.Process.User = who
			spec.Process.NoNewPrivileges = !security.AllowPrivilegeEscalation
			spec.Process.Rlimits = nil // those of containerd, which may not be allowed to raise its own
			spec.Root.Readonly = security.ReadOnlyRoot
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}})
			spec.Mounts = append(spec.Mounts, mounts...)
			if unified() {
				spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
			}
			limit(spec.Linux.Resources, c.Limits, r.swapLimit)
			if !security.SeccompUnconfined {
				spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
				if c.Limits.DiskBytes > 0 {
					keepAttributes(spec.Linux.Seccomp, changesAttributes)
				}
			}
			return nil
		},
	}
	if s.HostNetwork {
		opts = append(opts, oci.WithHostNamespace(specs.NetworkNamespace))
	}
	return oci.GenerateSpec(namespaces.WithNamespace(ctx, r.config.Namespace), nil, &containers.Container{ID: name}, opts...)
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// commandOf puts the program and its arguments together as runtime.Container says.
func commandOf(s runtime.Spec, i *image) ([]string, error) {
	head, tail := s.Command, s.Container.Args
	if len(head) == 0 {
		head = i.config.Entrypoint
		if len(tail) == 0 {
			tail = i.config.Cmd
		}
	}
	command := slices.Concat(head, tail)
	if len(command) == 0 || command[0] == "" {
		return nil, refuse(padisv1.ReasonCommandNotFound, "image %s does not say what to run; give template.command", s.Container.Image.Ref)
	}
	return command, nil
}

// directory is where the program starts: asked for, absolute or below that of the image.
func directory(asked, image string) string {
	if path.IsAbs(asked) {
		return path.Clean(asked)
	}
	return path.Join("/", image, asked)
}

// environment puts one list of NAME=value over another.
func environment(under, over []string) []string {
	at := map[string]int{}
	var all []string
	for _, e := range slices.Concat(under, over) {
		name, _, _ := strings.Cut(e, "=")
		if n, ok := at[name]; ok {
			all[n] = e
			continue
		}
		at[name] = len(all)
		all = append(all, e)
	}
	return all
}

func bind(source, target string, options ...string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: target, Options: append([]string{"rbind", "rprivate"}, options...)}
}

// mountsOf are the instance's own files, and what was asked for.
func mountsOf(ctx context.Context, s runtime.Spec) ([]specs.Mount, error) {
	etc := filepath.Join(s.Dir, "etc")
	name := filepath.Join(etc, "hostname")
	if _, err := os.Stat(name); os.IsNotExist(err) {
		if err := os.WriteFile(name, []byte(s.Hostname+"\n"), 0o644); err != nil {
			return nil, failure("write the host name", err)
		}
	}
	var all []specs.Mount
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		if _, err := os.Stat(filepath.Join(etc, file)); err == nil {
			all = append(all, bind(filepath.Join(etc, file), "/etc/"+file))
		}
	}
	for _, m := range s.Container.Mounts {
		switch m.Type {
		case "tmpfs":
			all = append(all, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: append([]string{"nosuid", "nodev"}, m.Options...)})
		case "bind":
			if err := available(ctx, s.Dir, m.Source); err != nil {
				return nil, refuse(padisv1.ReasonVolumeFailed, "volume at %s: %v", m.Target, err)
			}
			all = append(all, bind(m.Source, m.Target, m.Options...))
		default:
			return nil, refuse(padisv1.ReasonVolumeFailed, "volume at %s: there is no mount of type %q, only bind and tmpfs", m.Target, m.Type)
		}
	}
	return all, nil
}

// available tells whether the source of a mount is there. What was made for the instance is, and is not looked at: a
// server that has gone silent meanwhile answers nobody. Other paths of the host may lie on such a server, too.
func available(ctx context.Context, dir, source string) error {
	if volume.Below(path.Clean(source), volume.Dir(dir)) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statTime)
	defer cancel()
	found := make(chan error, 1)
	go func() {
		_, err := os.Stat(source)
		found <- err
	}()
	select {
	case err := <-found:
		if err != nil {
			return fmt.Errorf("%w; create it on the host, or correct the volume's path", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not answer: it may lie on a server that is down; see to it, or correct the volume's path", source)
	}
}

// capabilitiesOf are the default ones without what is dropped, and with what is added.
func capabilitiesOf(s *padisv1.Security) ([]string, error) {
	known := cap.Known()
	full := func(names []string) ([]string, error) {
		var all []string
		for _, n := range names {
			n = strings.ToUpper(n)
			if n == "ALL" {
				all = append(all, known...)
				continue
			}
			if !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			if !slices.Contains(known, n) {
				return nil, refuse(padisv1.ReasonInvalidLaunch, "there is no capability %q; correct template.security (see capabilities(7))", n)
			}
			all = append(all, n)
		}
		return all, nil
	}
	add, err := full(s.AddCapabilities)
	if err != nil {
		return nil, err
	}
	drop, err := full(s.DropCapabilities)
	if err != nil {
		return nil, err
	}
	all := []string{}
	for _, n := range defaultCapabilities {
		if !slices.Contains(drop, n) {
			all = append(all, n)
		}
	}
	for _, n := range add {
		if !slices.Contains(all, n) && !(slices.Contains(drop, n) && !named(s.AddCapabilities, n)) {
			all = append(all, n)
		}
	}
	return all, nil
}

// named tells whether a list has the capability by its name, and not by ALL alone.
func named(list []string, capability string) bool {
	return slices.ContainsFunc(list, func(n string) bool {
		return strings.TrimPrefix(strings.ToUpper(n), "CAP_") == strings.TrimPrefix(capability, "CAP_")
	})
}

// defaultCapabilities are those that Docker gives, too.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
	"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

func limit(to *specs.LinuxResources, l runtime.Limits, swap bool) {
	if l.CPUMilli > 0 {
		period, quota := uint64(cpuPeriod), max(l.CPUMilli*cpuPeriod/1000, minQuota)
		to.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	if l.MemoryBytes > 0 {
		to.Memory = &specs.LinuxMemory{Limit: &l.MemoryBytes}
		if swap {
			// Of memory and swap together: the same means no swap.
			to.Memory.Swap = &l.MemoryBytes
		}
	}
	if l.Pids > 0 {
		to.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
}

// labelsOf are how people and the next executor find a container.
func (r *Runtime) labelsOf(s runtime.Spec) (map[string]string, error) {
	const most = 4096
	labels, size := map[string]string{}, 0
	for k, v := range s.Container.Labels {
		labels[k] = v
	}
	labels[ownerLabel], labels[idLabel], labels[dirLabel], labels[digestLabel] = r.config.Owner, s.ID, s.Dir, s.Container.Image.Digest
	for k, v := range labels {
		size += len(k) + len(v)
	}
	if size > most {
		return nil, refuse(padisv1.ReasonInvalidLaunch, "the container's labels have %d bytes, %d are allowed; shorten the labels of the App", size, most)
	}
	return labels, nil
}

func (r *Runtime) describe(s runtime.Spec) string {
	return fmt.Sprintf("instance %s of image %s", s.ID, s.Container.Image.Ref)
}
