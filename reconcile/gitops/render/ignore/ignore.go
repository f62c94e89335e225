// Package ignore reads .padisignore files: which paths are no manifests. The patterns are those of gitignore(5). Pure.
package ignore

import (
	"fmt"
	"path"
	"strings"
)

// File is the name of the files with patterns. Each speaks of its own directory and what is below.
const File = ".padisignore"

// Rules are the patterns of one file.
type Rules []rule

type rule struct {
	segments []string // "**" is any number of them
	keep     bool     // the pattern began with "!"
	folder   bool     // only directories
}

// Parse reads patterns, one a line.
func Parse(text string) (Rules, error) {
	var rs Rules
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		var r rule
		if line, r.keep = strings.CutPrefix(line, "!"); r.keep && line == "" {
			return nil, fmt.Errorf("line %d: \"!\" without a pattern", i+1)
		}
		line, r.folder = strings.CutSuffix(line, "/")
		if !strings.Contains(line, "/") {
			line = "**/" + line
		}
		for _, seg := range strings.Split(strings.TrimPrefix(line, "/"), "/") {
			if seg == "**" && len(r.segments) > 0 && r.segments[len(r.segments)-1] == "**" {
				continue
			}
			if _, err := path.Match(seg, ""); err != nil || seg == "" {
				return nil, fmt.Errorf("line %d: %q is not a pattern: see gitignore(5)", i+1, line)
			}
			r.segments = append(r.segments, seg)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// Match tells whether a path below the file's directory is spoken of, and whether it is ignored. The last pattern that matches counts.
func (rs Rules) Match(p string, folder bool) (spoken, ignored bool) {
	segments := strings.Split(p, "/")
	for i := len(rs) - 1; i >= 0; i-- {
		if r := rs[i]; (folder || !r.folder) && match(r.segments, segments) {
			return true, !r.keep
		}
	}
	return false, false
}

// match steps through both as globs are matched everywhere: on a mismatch the last "**" takes one segment more, so that many of them
// cost a product, not a power.
func match(pattern, segments []string) bool {
	star, from, i, j := -1, 0, 0, 0
	for j < len(segments) {
		switch {
		case i < len(pattern) && pattern[i] == "**":
			if i == len(pattern)-1 {
				return true
			}
			star, from = i, j
			i++
		case i < len(pattern) && one(pattern[i], segments[j]):
			i, j = i+1, j+1
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	return i == len(pattern)
}

func one(pattern, segment string) bool {
	ok, err := path.Match(pattern, segment)
	return ok && err == nil
}
