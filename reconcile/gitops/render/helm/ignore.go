package helm

import (
	"bytes"
	"fmt"
	"io/fs"
	"time"

	"helm.sh/helm/v4/pkg/ignore"
)

// Ignore is a .helmignore.
type Ignore struct{ rules *ignore.Rules }

// ParseIgnore reads a .helmignore; none is as good as an empty one.
func ParseIgnore(text []byte) (Ignore, error) {
	rules, err := ignore.Parse(bytes.NewReader(text))
	if err != nil {
		return Ignore{}, fmt.Errorf("a line that helm does not understand: %w", err)
	}
	rules.AddDefaults()
	return Ignore{rules}, nil
}

// Match tells whether a file or directory, named from that of the chart on, is none of the chart's.
func (i Ignore) Match(name string, folder bool) bool { return i.rules.Ignore(name, entry(folder)) }

// entry is all that helm's rules ask of a file: whether it is a directory.
type entry bool

func (e entry) IsDir() bool { return bool(e) }
func (e entry) Mode() fs.FileMode {
	if e {
		return fs.ModeDir
	}
	return 0
}
func (entry) Name() string       { return "" }
func (entry) Size() int64        { return 0 }
func (entry) ModTime() time.Time { return time.Time{} }
func (entry) Sys() any           { return nil }
