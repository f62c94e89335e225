package artifact

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// unpack reads a tar, a gzipped tar or a zip, told apart by content, into root. Nothing is written outside of it: paths
// are local, no entry goes through a link that the archive made, links point inside, and there are no devices. What was
// unpacked before an error stays; its sandbox is not used.
func unpack(f *os.File, root *os.Root, l Limits) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	u := &unpacker{root: root, left: l.Unpacked, entries: l.Entries, limits: l}
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06")):
		err = u.zip(f)
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		var z *gzip.Reader
		if z, err = gzip.NewReader(bufio.NewReader(f)); err != nil {
			return err
		}
		err = u.tar(z)
		if err == nil {
			// The checksum is at the end; what follows the archive itself is bounded like the rest.
			err = u.drain(z)
		}
	default:
		err = u.tar(bufio.NewReader(f))
	}
	if err != nil {
		return err
	}
	return u.checkLinks()
}

type unpacker struct {
	root    *os.Root
	left    int64
	entries int
	limits  Limits
	links   []string
}

func (u *unpacker) tar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("not a whole tar, tar.gz or zip archive: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeDir:
			err = u.dir(h.Name)
		case tar.TypeReg:
			err = u.file(h.Name, h.FileInfo().Mode(), t)
		case tar.TypeSymlink:
			err = u.symlink(h.Name, h.Linkname)
		case tar.TypeLink:
			err = u.hardlink(h.Name, h.Linkname)
		default:
			err = fmt.Errorf("%q is a device or another kind of entry (%q) that is not unpacked", h.Name, h.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

func (u *unpacker) zip(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("not a whole zip archive: %w", err)
	}
	for _, e := range z.File {
		if err := u.zipEntry(e); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) zipEntry(e *zip.File) error {
	mode := e.Mode()
	if mode.IsDir() {
		return u.dir(e.Name)
	}
	if t := mode.Type(); t != 0 && t != fs.ModeSymlink {
		return fmt.Errorf("%q is a device or another kind of entry (%s) that is not unpacked", e.Name, mode)
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if mode.Type() == fs.ModeSymlink {
		target, err := io.ReadAll(io.LimitReader(r, 4096))
		if err != nil {
			return err
		}
		return u.symlink(e.Name, string(target))
	}
	return u.file(e.Name, mode, r)
}

// enter checks a name and makes the directories above it.
func (u *unpacker) enter(name string) (string, error) {
	if u.entries--; u.entries < 0 {
		return "", fmt.Errorf("more than %d entries", u.limits.Entries)
	}
	clean := path.Clean(strings.TrimPrefix(name, "./"))
	if !filepath.IsLocal(clean) || strings.ContainsAny(clean, "\x00\\") {
		return "", fmt.Errorf("%q is not a path inside the archive", name)
	}
	dir := path.Dir(clean)
	if dir == "." {
		return clean, nil
	}
	for i, c := range dir + "/" {
		if c != '/' {
			continue
		}
		info, err := u.root.Lstat(dir[:i])
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", fmt.Errorf("%q goes through %q, which is not a directory", name, dir[:i])
		}
	}
	return clean, u.root.MkdirAll(dir, 0o755)
}

func (u *unpacker) dir(name string) error {
	name, err := u.enter(name)
	if err != nil || name == "." {
		return err
	}
	if info, err := u.root.Lstat(name); err == nil && !info.IsDir() {
		return fmt.Errorf("%q is there twice", name)
	}
	return u.root.MkdirAll(name, 0o755)
}

func (u *unpacker) file(name string, mode fs.FileMode, r io.Reader) error {
	name, err := u.enter(name)
	if err != nil {
		return err
	}
	if err := u.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Readable for whoever the program runs as; executable as in the archive; never setuid.
	perm := fs.FileMode(0o644)
	if mode&0o100 != 0 {
		perm = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, u.left+1))
	u.left -= n
	if err = errors.Join(err, f.Chmod(perm), f.Close()); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return u.bounded()
}

func (u *unpacker) bounded() error {
	if u.left < 0 {
		return fmt.Errorf("more than %d bytes", u.limits.Unpacked)
	}
	return nil
}

func (u *unpacker) drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, u.left+1))
	u.left -= n
	if err != nil {
		return fmt.Errorf("not a whole gzip file: %w", err)
	}
	return u.bounded()
}

func (u *unpacker) symlink(name, target string) error {
	name, err := u.enter(name)
	if err != nil {
		return err
	}
	if path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return fmt.Errorf("link %q points outside, to %q", name, target)
	}
	if err := u.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	u.links = append(u.links, name)
	return u.root.Symlink(target, name)
}

func (u *unpacker) hardlink(name, target string) error {
	name, err := u.enter(name)
	if err != nil {
		return err
	}
	target = path.Clean(strings.TrimPrefix(target, "./"))
	info, err := u.root.Lstat(target)
	if err != nil {
		return fmt.Errorf("link %q: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("link %q points to %q, which is not a file", name, target)
	}
	if err := u.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return u.root.Link(target, name)
}

// checkLinks follows every link, now that all is there: several links together can lead where none does alone.
func (u *unpacker) checkLinks() error {
	for _, name := range u.links {
		if _, err := u.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("link %q: %w", name, err)
		}
	}
	return nil
}
