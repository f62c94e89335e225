package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

const cpExample = `  # A file of instance web-0, into the working directory
  padis cp web-0:/etc/nginx/nginx.conf . -n shop

  # A directory to it: it becomes /tmp/site
  padis cp ./site web-0:/tmp/site -n shop`

func newCpCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:   "cp (NAME:PATH LOCAL | LOCAL NAME:PATH)",
		Short: "Copy files and directories to and from an instance",
		Long: "Copy a file or a directory to or from an instance, which needs the program tar. Symbolic links are left out, and so is " +
			"whatever would end up outside of the target.\n\n" + exitHelp,
		Example: cpExample,
		Args:    exactArguments(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to := parsePlace(args[0]), parsePlace(args[1])
			if (from.instance == "") == (to.instance == "") {
				return usagef("one of the two places must be in an instance, NAME:PATH")
			}
			if from.path == "" || to.path == "" {
				return usagef("%s %s: a path is missing", args[0], args[1])
			}
			c, err := connectSession(f)
			if err != nil {
				return err
			}
			if from.instance != "" {
				return copyFrom(cmd.Context(), c, streams, from, to.path)
			}
			return copyTo(cmd.Context(), c, streams, from.path, to)
		},
	}
}

// place is a path, in an instance if it has one.
type place struct{ instance, path string }

// parsePlace reads NAME:PATH or PATH. A path that has a colon can be written as ./a:b.
func parsePlace(text string) place {
	name, rest, found := strings.Cut(strings.TrimPrefix(text, "instance/"), ":")
	if !found || name == "" || strings.Contains(name, "/") || strings.HasPrefix(name, ".") {
		return place{path: text}
	}
	return place{name, rest}
}

// copyTo packs what is here and has it unpacked there.
func copyTo(ctx context.Context, c session, streams genericiooptions.IOStreams, local string, to place) error {
	if _, err := os.Stat(local); err != nil {
		return err
	}
	target := path.Clean(to.path)
	// Into a directory that is there it goes by its own name.
	err := c.exec(ctx, to.instance, []string{"test", "-d", target}, nil, io.Discard, io.Discard, false, nil)
	var no commandError
	switch {
	case err == nil:
		absolute, err := filepath.Abs(local)
		if err != nil {
			return err
		}
		target = path.Join(target, filepath.Base(absolute))
	case !errors.As(err, &no):
		return err
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(w, local, path.Base(target), streams.ErrOut)
		_ = w.CloseWithError(err)
		packed <- err
	}()
	err = c.exec(ctx, to.instance, []string{"tar", "-xmf", "-", "-C", path.Dir(target)}, r, streams.Out, streams.ErrOut, false, nil)
	_ = r.Close()
	if failed := <-packed; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return failed
	}
	return tarMissing(to.instance, err)
}

// tarMissing explains the exit status of what could not be run.
func tarMissing(instance string, err error) error {
	if err != nil && strings.Contains(err.Error(), "tar") {
		return fmt.Errorf("%w (instance %s needs the program tar)", err, instance)
	}
	return err
}

// pack writes a file or directory as a tar in which it is called name.
func pack(w io.Writer, local, name string, notes io.Writer) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(local, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(local, at)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if at == local && err == nil {
			info, err = os.Stat(local) // what is named may be a link
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() && !info.IsDir() {
			fmt.Fprintf(notes, "%s is neither a file nor a directory: left out\n", at)
			return nil
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name = path.Join(name, filepath.ToSlash(below))
		if err := out.WriteHeader(h); err != nil || info.IsDir() {
			return err
		}
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = io.Copy(out, f)
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// copyFrom has it packed there and unpacks it here.
func copyFrom(ctx context.Context, c session, streams genericiooptions.IOStreams, from place, local string) error {
	source := path.Clean(from.path)
	base := path.Base(source)
	if base == "/" || base == "." || base == ".." {
		base = "."
	}
	// Into a directory that is there it goes by its own name.
	if info, err := os.Stat(local); err == nil && info.IsDir() && base != "." {
		local = filepath.Join(local, base)
	}
	command := []string{"tar", "cf", "-", "-C", path.Dir(source), base}
	if base == "." {
		command = []string{"tar", "cf", "-", "-C", source, "."}
	}
	r, w := io.Pipe()
	ran := make(chan error, 1)
	go func() {
		err := c.exec(ctx, from.instance, command, nil, w, streams.ErrOut, false, nil)
		_ = w.CloseWithError(err)
		ran <- err
	}()
	err := unpack(r, base, local, streams.ErrOut)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what tar adds for its blocks
	}
	_ = r.CloseWithError(io.ErrClosedPipe)
	if failed := <-ran; failed != nil {
		return tarMissing(from.instance, failed)
	}
	return err
}

// unpack writes what a tar has below name to local. All of it stays there, whatever the tar says: links are not made, and
// none that are there are followed out of it.
func unpack(r io.Reader, name, local string, notes io.Writer) error {
	in := tar.NewReader(r)
	var root *os.Root
	defer func() {
		if root != nil {
			_ = root.Close()
		}
	}()
	for first := true; ; first = false {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			if first {
				return errors.New("there is nothing to copy")
			}
			return nil
		}
		if err != nil {
			return err
		}
		below, ok := strings.CutPrefix(path.Clean(h.Name), path.Clean(name))
		if name == "." {
			below, ok = path.Clean(h.Name), true
		}
		below = strings.TrimPrefix(below, "/")
		if below == "" {
			below = "."
		}
		if !ok || !filepath.IsLocal(below) {
			return fmt.Errorf("the instance sent %q, which was not asked for: nothing more is taken of it", h.Name)
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			fmt.Fprintf(notes, "%s is neither a file nor a directory: left out\n", h.Name)
			continue
		}
		if root == nil {
			if h.Typeflag == tar.TypeReg && below == "." {
				return writeFile(func(flags int, mode fs.FileMode) (*os.File, error) { return os.OpenFile(local, flags, mode) }, in, h)
			}
			if err := os.MkdirAll(local, 0o755); err != nil {
				return err
			}
			if root, err = os.OpenRoot(local); err != nil {
				return err
			}
		}
		if err := unpackOne(root, below, in, h); err != nil {
			return err
		}
	}
}

func unpackOne(root *os.Root, below string, in io.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeDir {
		return root.MkdirAll(below, 0o755)
	}
	if err := root.MkdirAll(path.Dir(below), 0o755); err != nil {
		return err
	}
	return writeFile(func(flags int, mode fs.FileMode) (*os.File, error) { return root.OpenFile(below, flags, mode) }, in, h)
}

func writeFile(open func(flags int, mode fs.FileMode) (*os.File, error), in io.Reader, h *tar.Header) error {
	f, err := open(os.O_CREATE|os.O_WRONLY|os.O_TRUNC, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}
