package hostfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/volume"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// The files of a ConfigMap or Secret change all at once, as in Kubernetes: those that the program sees are links into
// ..data, which is a link to the directory of the present version, and is replaced by rename.
//
//	NAME/tls.crt -> ..data/tls.crt      NAME/..data -> ..version-123      NAME/..version-123/tls.crt
const (
	present = "..data"
	next    = "..data-next"
	version = "..version-"
)

// secretsMax bounds the memory of one volume of secrets: two versions of what an API object can be, and then some.
const secretsMax = "size=8m"

// files makes a volume of a ConfigMap or Secret.
func files(v volume.Volume, who volume.Owner) error {
	if err := os.Mkdir(v.Path, 0o755); err != nil {
		return failed("volume "+v.Name, err)
	}
	if v.Config.Secret {
		const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		err := unix.Mount("tmpfs", v.Path, "tmpfs", flags, secretsMax+",mode=0755,noswap")
		// Linux before 6.4 has no noswap.
		if errors.Is(err, unix.EINVAL) {
			err = unix.Mount("tmpfs", v.Path, "tmpfs", flags, secretsMax+",mode=0755")
		}
		if err != nil {
			return failed("volume "+v.Name+": mount a tmpfs for secrets", err)
		}
	}
	_, err := write(v, who)
	return err
}

// update writes what changed, and tells whether something did.
func update(v volume.Volume, who volume.Owner) (bool, error) {
	if v.Config.Secret {
		var s unix.Statfs_t
		if err := unix.Statfs(v.Path, &s); err != nil {
			return false, failed("volume "+v.Name, err)
		}
		if s.Type != unix.TMPFS_MAGIC {
			return false, &runtime.StartError{Reason: padisv1.ReasonVolumeFailed, Message: fmt.Sprintf("volume %s: %s is not in memory any more, and secrets are not written to disks; restart the instance", v.Name, v.Path)}
		}
	}
	return write(v, who)
}

func write(v volume.Volume, who volume.Owner) (changed bool, err error) {
	wrap := func(err error) error { return failed("write the files of volume "+v.Name, err) }
	old, err := os.Readlink(filepath.Join(v.Path, present))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, wrap(err)
	}
	if err == nil && same(filepath.Join(v.Path, old), v.Config.Files) {
		return false, tidy(v, old)
	}
	dir, err := os.MkdirTemp(v.Path, version)
	if err != nil {
		return false, wrap(err)
	}
	if err := writeVersion(dir, v.Config.Files, who); err != nil {
		return false, wrap(errors.Join(err, os.RemoveAll(dir)))
	}
	link := filepath.Join(v.Path, next)
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, wrap(err)
	}
	if err := os.Symlink(filepath.Base(dir), link); err != nil {
		return false, wrap(err)
	}
	if err := os.Rename(link, filepath.Join(v.Path, present)); err != nil {
		return false, wrap(err)
	}
	return true, tidy(v, filepath.Base(dir))
}

func writeVersion(dir string, all []volume.File, who volume.Owner) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, f := range all {
		p := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, f.Data, 0o600); err != nil {
			return err
		}
		if err := os.Chown(p, who.UID, who.GID); err != nil {
			return err
		}
		if err := os.Chmod(p, fs.FileMode(f.Mode)); err != nil {
			return err
		}
	}
	return nil
}

// same tells whether a version has just these files.
func same(dir string, all []volume.File) bool {
	wanted := map[string]volume.File{}
	for _, f := range all {
		wanted[f.Path] = f
	}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		f, ok := wanted[rel]
		if !ok {
			return errDiffers
		}
		delete(wanted, rel)
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if uint32(info.Mode().Perm()) != f.Mode || !bytes.Equal(b, f.Data) {
			return errDiffers
		}
		return nil
	})
	return err == nil && len(wanted) == 0
}

var errDiffers = errors.New("another version")

// tidy makes the links that the program sees those of the present version, and removes what else there is.
func tidy(v volume.Volume, version string) error {
	wanted := map[string]bool{present: true, version: true}
	for _, f := range v.Config.Files {
		top, _, _ := strings.Cut(f.Path, "/")
		if wanted[top] {
			continue
		}
		wanted[top] = true
		err := os.Symlink(filepath.Join(present, top), filepath.Join(v.Path, top))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return failed("write the files of volume "+v.Name, err)
		}
	}
	entries, err := os.ReadDir(v.Path)
	if err != nil {
		return failed("write the files of volume "+v.Name, err)
	}
	for _, e := range entries {
		if wanted[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(v.Path, e.Name())); err != nil {
			return failed("write the files of volume "+v.Name, err)
		}
	}
	return nil
}
