package signature

import (
	"fmt"
	"path"
	"strings"
)

// Policy says who may change what. Without rules, every signer that is believed may change everything.
type Policy []Rule

// Rule of paths. Of several that fit a path the last one counts, as in CODEOWNERS; a path that none fits may be changed by
// nobody.
type Rule struct {
	// Paths from the root of the repository. * and ? stay within a name, ** goes over any number of names, and what
	// ends in / means all below.
	Paths []string
	// Signers are identities, which may have * and ?, or keys, as Signer has them.
	Signers []string
}

// Check says what of a policy cannot be read.
func (p Policy) Check() error {
	for i, r := range p {
		if len(r.Paths) == 0 || len(r.Signers) == 0 {
			return fmt.Errorf("rule %d: it needs paths and signers", i)
		}
		for _, g := range r.Paths {
			if g == "" || strings.HasPrefix(g, "/") {
				return fmt.Errorf("rule %d: path %q is not a path from the root of the repository without a slash before it", i, g)
			}
			for _, part := range strings.Split(g, "/") {
				if _, err := path.Match(part, ""); err != nil {
					return fmt.Errorf("rule %d: path %q: %w", i, g, err)
				}
			}
		}
		for _, s := range r.Signers {
			if _, err := path.Match(s, ""); s == "" || err != nil {
				return fmt.Errorf("rule %d: signer %q is neither identity nor key", i, s)
			}
		}
	}
	return nil
}

// Allowed is nil where the signer may change all of the paths by that commit.
func Allowed(p Policy, commit string, changed []string, s Signer) error {
	if len(p) == 0 {
		return nil
	}
	for _, file := range changed {
		var rule *Rule
		for i := range p {
			for _, g := range p[i].Paths {
				if Glob(g, file) {
					rule = &p[i]
				}
			}
		}
		switch {
		case rule == nil:
			e := refuse(ReasonSignerNotAllowed, s.Key, "it changes %s, and no rule says who may: add one whose paths fit", file)
			e.Object, e.Path = "commit "+commit, file
			return e
		case !rule.has(s):
			e := refuse(ReasonSignerNotAllowed, s.Key, "it changes %s and is signed by %s, but %s may be changed by %s only", file, s, strings.Join(rule.Paths, ", "), strings.Join(rule.Signers, ", "))
			e.Object, e.Path = "commit "+commit, file
			return e
		}
	}
	return nil
}

func (r Rule) has(s Signer) bool {
	for _, want := range r.Signers {
		if want == s.Key {
			return true
		}
		for _, id := range s.Identities {
			if ok, _ := path.Match(want, id); ok || want == id {
				return true
			}
		}
	}
	return false
}

// Glob tells whether the pattern of a Rule fits the path.
func Glob(pattern, file string) bool {
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	return glob(strings.Split(pattern, "/"), strings.Split(file, "/"))
}

// glob remembers only the last ** it has met: what comes before needs no second try, so that no pattern costs more than
// its length times that of the path.
func glob(pattern, file []string) bool {
	p, f, star, from := 0, 0, -1, 0
	for f < len(file) {
		if p < len(pattern) && pattern[p] == "**" {
			star, from = p, f
			p++
			continue
		}
		if p < len(pattern) {
			if ok, _ := path.Match(pattern[p], file[f]); ok {
				p++
				f++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		p, f = star+1, from
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}
