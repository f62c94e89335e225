package volume

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// nfsOptions are those of nfs(5) and mount(8) that concern nobody but the instance. Not among them: what mounts in the
// background, reaches another server than the declared one, or brings devices and setuid programs.
var nfsOptions = []string{
	"ac", "acdirmax", "acdirmin", "acregmax", "acregmin", "actimeo", "async", "cto", "fg", "hard", "intr", "local_lock", "lock", "lookupcache", "minorversion", "mountport",
	"mountproto", "mountvers", "namlen", "nconnect", "nfsvers", "noac", "noatime", "nocto", "nodev", "nodiratime", "noexec", "nointr", "nolock", "nordirplus", "noresvport",
	"nosharecache", "nosuid", "port", "proto", "rdirplus", "relatime", "resvport", "retrans", "ro", "rsize", "rw", "sec", "sharecache", "soft", "softerr", "softreval", "sync", "tcp", "timeo",
	"udp", "v3", "v4", "v4.0", "v4.1", "v4.2", "vers", "wsize",
}

var (
	optionValue = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
	serverName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?$`)
)

func nfs(dir string, d *padisv1.Volume, v *Volume) *Failure {
	n := d.GetNfs()
	v.Kind, v.Path, v.Server = NFS, inside(dir, v.Name), strings.Trim(n.GetServer(), "[]")
	server := v.Server
	if a, err := netip.ParseAddr(v.Server); err == nil && a.Zone() == "" {
		if a.Is6() {
			server = "[" + v.Server + "]"
		}
	} else if !serverName.MatchString(v.Server) {
		return invalid("the server %q of volume %s is neither a host name nor an address", n.GetServer(), v.Name)
	}
	if !strings.HasPrefix(n.GetPath(), "/") || !printable(n.GetPath()) || len(n.GetPath()) > 1024 {
		return invalid("the path %q of volume %s is not an absolute path", n.GetPath(), v.Name)
	}
	v.Export = server + ":" + n.GetPath()
	for _, list := range n.GetOptions() {
		for o := range strings.SplitSeq(list, ",") {
			key, value, has := strings.Cut(o, "=")
			if !slices.Contains(nfsOptions, key) || has && !optionValue.MatchString(value) {
				return &Failure{padisv1.ReasonVolumeForbidden, fmt.Sprintf("volume %s must not be mounted with the option %q; allowed are %s", v.Name, o, strings.Join(nfsOptions, " "))}
			}
			v.Options = append(v.Options, o)
		}
	}
	return nil
}

// MountOptions of an NFS volume for a program that mounts it. A server that is gone gives errors to the instance after
// some fifteen seconds, instead of processes that nobody can end, unless the volume asks for "hard".
func (v Volume) MountOptions() []string {
	options := []string{"nosuid", "nodev"}
	if v.ReadOnly {
		options = append(options, "ro")
	}
	for _, d := range [...]struct {
		option string
		unless []string
	}{
		{"soft", []string{"soft", "softerr", "hard"}}, {"timeo=50", []string{"timeo"}}, {"retrans=2", []string{"retrans"}},
	} {
		if !slices.ContainsFunc(d.unless, v.has) {
			options = append(options, d.option)
		}
	}
	for _, o := range v.Options {
		if !slices.Contains(options, o) && !(v.ReadOnly && o == "rw") {
			options = append(options, o)
		}
	}
	return options
}

// KernelOptions of an NFS volume, where no mount.nfs speaks to the server first: the kernel wants its address, and knows
// without help only version 4.
func (v Volume) KernelOptions(address string) []string {
	options := v.MountOptions()
	if !slices.ContainsFunc([]string{"vers", "nfsvers", "v3", "v4", "v4.0", "v4.1", "v4.2"}, v.has) {
		options = append(options, "vers=4.2")
	}
	return append(options, "addr="+address)
}

func (v Volume) has(key string) bool {
	return slices.ContainsFunc(v.Options, func(o string) bool { k, _, _ := strings.Cut(o, "="); return k == key })
}
