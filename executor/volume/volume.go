// Package volume decides which directories and files of the host an instance sees, and what must be made for them
// before it starts: launch -> volumes. Package hostfs beside it makes them. Pure.
//
// What belongs to an instance is below its directory, in volumes/, and goes with it; logs of addresses are below the
// state directory and stay.
package volume

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Failure is why an instance cannot have its volumes: one of the Reason constants, and a sentence with its remedy.
type Failure struct{ Reason, Message string }

func (f *Failure) Error() string { return f.Reason + ": " + f.Message }

// Kind of a volume.
type Kind int

// The kinds, and what is at Volume.Path.
const (
	// Host is a path that exists on the host.
	Host Kind = iota
	// Disk is an empty directory; with a Size, a file system of that size on Volume.Image.
	Disk
	// Memory is an empty tmpfs of the container's own: nothing is on the host.
	Memory
	// NFS is a directory of a server, mounted.
	NFS
	// Files are the keys of a ConfigMap or Secret.
	Files
	// Logs is the directory of the instance's first address.
	Logs
)

// String is the word that errors use.
func (k Kind) String() string {
	if int(k) < len(kinds) && k >= 0 {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", int(k))
}

var kinds = [...]string{"hostPath", "emptyDir", "emptyDir in memory", "nfs", "config", "logs"}

// Volume is what an instance sees at Target.
type Volume struct {
	Kind         Kind
	Name, Target string
	ReadOnly     bool
	// Path on the host; empty for Memory.
	Path string
	// Size in bytes, 0 without a limit, and the file that holds a Disk of limited size.
	Size  int64
	Image string
	// Export is SERVER:PATH of an NFS, Server its host, Options those that were declared.
	Export, Server string
	Options        []string
	Config         Config
}

// Config is what is in a volume of files.
type Config struct {
	// Secret files are never written to a disk.
	Secret bool
	Files  []File
	// Signal that the program gets when the files have changed; empty: they do not change while it runs.
	Signal string
}

// File is one key; Path is relative to the volume.
type File struct {
	Path string
	Data []byte
	Mode uint32
}

// Owner is who the instance runs as. The zero value is root, or a user that only the image knows.
type Owner struct {
	UID, GID int
	// Known tells that the launch names the user by number.
	Known bool
}

// Plan is all volumes of an instance, in the order in which they are mounted: outer targets before inner ones.
type Plan struct {
	Volumes []Volume
	Owner   Owner
}

// Limits of what a launch may ask for.
const (
	maxVolumes = 256
	maxMiB     = 1 << 32
	nameMax    = 255
)

// Dir is where the volumes of the instance with that directory are.
func Dir(dir string) string { return path.Join(dir, "volumes") }

// Make reads the volumes of a launch. The directory is the instance's own, state that of all instances of the host;
// both are absolute. Whatever the launch is made of, each Path but that of a Host is below one of them.
func Make(dir, state string, l *padisv1.Launch) (Plan, *Failure) {
	all := l.GetTemplate().GetVolumes()
	if len(all) > maxVolumes {
		return Plan{}, invalid("%d volumes, more than %d", len(all), maxVolumes)
	}
	p := Plan{Owner: owner(l.GetTemplate().GetUser())}
	for _, d := range all {
		v, err := one(dir, state, l, d)
		if err != nil {
			return Plan{}, err
		}
		for _, other := range p.Volumes {
			if other.Name == v.Name {
				return Plan{}, invalid("two volumes are called %s; give each a name of its own", v.Name)
			}
			if other.Target == v.Target {
				return Plan{}, invalid("volumes %s and %s are both at %s; give each a mountPath of its own", other.Name, v.Name, v.Target)
			}
		}
		p.Volumes = append(p.Volumes, v)
	}
	slices.SortStableFunc(p.Volumes, func(a, b Volume) int { return strings.Compare(a.Target, b.Target) })
	return p, nil
}

// Changed are the volumes of a running instance whose files follow their ConfigMap or Secret, with what those contain
// now. Volumes whose content is not given, or that change only with the instance, are left out; one that cannot follow
// is a failure and keeps the others from nothing.
func Changed(dir string, l *padisv1.Launch, configs []*padisv1.ConfigData) (p Plan, failures []*Failure) {
	p.Owner = owner(l.GetTemplate().GetUser())
	for _, d := range l.GetTemplate().GetVolumes() {
		c := d.GetConfig()
		if c.GetOnChange() != padisv1.ConfigFiles_ON_CHANGE_SIGNAL || data(configs, c.GetConfig()) == nil {
			continue
		}
		v, err := named(d)
		if err == nil {
			err = files(dir, configs, d, &v)
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		p.Volumes = append(p.Volumes, v)
	}
	return p, failures
}

func one(dir, state string, l *padisv1.Launch, d *padisv1.Volume) (Volume, *Failure) {
	v, err := named(d)
	if err != nil {
		return v, err
	}
	switch d.GetSource().(type) {
	case *padisv1.Volume_HostPath:
		err = hostPath(state, d, &v)
	case *padisv1.Volume_EmptyDir:
		err = emptyDir(dir, d, &v)
	case *padisv1.Volume_Nfs:
		err = nfs(dir, d, &v)
	case *padisv1.Volume_Config:
		err = files(dir, l.GetConfigs(), d, &v)
	case *padisv1.Volume_Logs:
		err = addressLogs(state, l, &v)
	default:
		err = invalid("volume %s has no source that this executor knows; upgrade the executor, or correct the volume", v.Name)
	}
	return v, err
}

// named checks what all volumes have.
func named(d *padisv1.Volume) (Volume, *Failure) {
	v := Volume{Name: d.GetName(), Target: d.GetMountPath(), ReadOnly: d.GetReadOnly()}
	if !label(v.Name) {
		return v, invalid("volume name %q is not made of lower-case letters, digits and inner dashes, at most 63", v.Name)
	}
	clean := path.Clean(v.Target)
	if !strings.HasPrefix(v.Target, "/") || clean != v.Target && clean+"/" != v.Target || !printable(v.Target) {
		return v, invalid("mountPath %q of volume %s is not an absolute path without dots", v.Target, v.Name)
	}
	v.Target = clean
	if owned(clean) {
		return v, &Failure{padisv1.ReasonVolumeForbidden, fmt.Sprintf("mountPath %s of volume %s is the container's own; choose another", clean, v.Name)}
	}
	return v, nil
}

// owned are the places of a container that its runtime fills.
func owned(target string) bool {
	switch target {
	case "/", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf":
		return true
	}
	return Below(target, "/proc") || Below(target, "/sys")
}

func hostPath(state string, d *padisv1.Volume, v *Volume) *Failure {
	v.Kind = Host
	p := d.GetHostPath().GetPath()
	if !strings.HasPrefix(p, "/") || !printable(p) {
		return invalid("hostPath %q of volume %s is not an absolute path", p, v.Name)
	}
	v.Path = path.Clean(p)
	return Allowed(v.Name, v.Path, state, nil)
}

// Allowed tells whether a volume may show a path of the host, which has no symbolic links: it is below one of the
// prefixes, if there are any, and neither the root directory nor anything that shows other instances' files.
func Allowed(name, p, state string, prefixes []string) *Failure {
	forbidden := func(why string) *Failure {
		return &Failure{padisv1.ReasonVolumeForbidden, fmt.Sprintf("hostPath %s of volume %s %s", p, name, why)}
	}
	switch {
	case p == "/":
		return forbidden("is the whole host; name the directory that is needed")
	case Below(p, state) || Below(state, p):
		return forbidden("shows the executor's own files in " + state + "; name another directory")
	case len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(prefix string) bool { return Below(p, prefix) }):
		return forbidden("is not below " + strings.Join(prefixes, " or ") + ", which are all that this host shows; name a directory there, or have it allowed")
	}
	return nil
}

func emptyDir(dir string, d *padisv1.Volume, v *Volume) *Failure {
	mib := d.GetEmptyDir().GetSizeMib()
	if mib < 0 || mib > maxMiB {
		return invalid("the size %d MiB of volume %s is not between 0 and %d", mib, v.Name, int64(maxMiB))
	}
	v.Size = mib << 20
	if d.GetEmptyDir().GetMemory() {
		v.Kind = Memory
		return nil
	}
	v.Kind, v.Path = Disk, inside(dir, v.Name)
	if v.Size > 0 {
		v.Image = path.Join(Dir(dir), "."+v.Name+".image")
	}
	return nil
}

func addressLogs(state string, l *padisv1.Launch, v *Volume) *Failure {
	v.Kind = Logs
	if len(l.GetAttachments()) == 0 {
		return &Failure{padisv1.ReasonVolumeFailed, fmt.Sprintf("volume %s keeps the logs of an address, and the instance has none; give the App a network, or use another volume", v.Name)}
	}
	address := l.GetAttachments()[0].GetAddress()
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return invalid("volume %s keeps the logs of an address, and %q is none", v.Name, address)
	}
	v.Path = path.Join(state, "logs", a.Unmap().String())
	return nil
}

func inside(dir, name string) string { return path.Join(Dir(dir), name) }

func invalid(format string, args ...any) *Failure {
	return &Failure{padisv1.ReasonInvalidLaunch, fmt.Sprintf(format, args...)}
}

// Below tells whether a clean path is the other one or below it.
func Below(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// label tells whether s is a name as Kubernetes demands of volumes (RFC 1123), and so a name of a file.
func label(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') })
}

// printable tells whether a path has no control characters, which would be half a path to some programs.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// owner reads "UID" or "UID:GID"; names are the image's affair.
func owner(user string) Owner {
	uid, gid, both := strings.Cut(user, ":")
	u, err := strconv.ParseUint(uid, 10, 31)
	if err != nil {
		return Owner{}
	}
	o := Owner{UID: int(u), Known: true}
	if g, err := strconv.ParseUint(gid, 10, 31); both && err == nil {
		o.GID = int(g)
	}
	return o
}
