package source

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// errOutside is said of a file that may be there and is not read.
var errOutside = fmt.Errorf("it is in none of the paths that the source gives: %w", fs.ErrNotExist)

// paths are the directories and files of a repository that are read; without any, all.
type paths []string

// cleaned makes one list of all that are written alike.
func cleaned(list []string) (paths, error) {
	var out paths
	for _, p := range list {
		c := path.Clean(p)
		switch {
		case !fs.ValidPath(c) || p == "":
			return nil, fmt.Errorf("paths: %q is not a path from the root of the repository without a slash before it", p)
		case c == ".":
			return nil, nil
		}
		out = append(out, c)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Inside tells whether all of a directory or file is in the paths of a source. Without any, everything is.
func Inside(list []string, name string) bool {
	p, err := cleaned(list)
	return err == nil && p.inside(path.Clean(name))
}

func (p paths) inside(name string) bool {
	return len(p) == 0 || slices.ContainsFunc(p, func(q string) bool { return name == q || strings.HasPrefix(name, q+"/") })
}

// sees tells whether something of a directory, or the file, is read.
func (p paths) sees(name string) bool {
	return name == "." || p.inside(name) || slices.ContainsFunc(p, func(q string) bool { return strings.HasPrefix(q, name+"/") })
}

// from are the paths as they are seen from a directory of which something is read, for the repository that hangs there.
func (p paths) from(dir string) paths {
	if p.inside(dir) {
		return nil
	}
	var out paths
	for _, q := range p {
		if rest, ok := strings.CutPrefix(q, dir+"/"); ok {
			out = append(out, rest)
		}
	}
	return out
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
