package helm

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// longest is how much of a message is told.
const longest = 600

// sources are what a message may quote: the texts of the chart, but no values.
type sources struct {
	texts  [][]byte
	leaves []string // values that are texts, the longest first
}

func (s *sources) said(text string) bool {
	return slices.ContainsFunc(s.texts, func(t []byte) bool { return bytes.Contains(t, []byte(text)) })
}

// packed adds the templates of subcharts, which are known only when they are unpacked.
func (s *sources) packed(c *chart.Chart) {
	for _, sub := range c.Dependencies() {
		for _, f := range sub.Templates {
			s.texts = append(s.texts, f.Data)
		}
		s.packed(sub)
	}
}

// values remembers what must not be told.
func (s *sources) values(v any) {
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			// Shorter ones would be found in any text.
			if len(v) >= 4 && !s.said(v) {
				s.leaves = append(s.leaves, v)
			}
		}
	}
	walk(v)
	slices.SortFunc(s.leaves, func(a, b string) int { return len(b) - len(a) })
}

var (
	quoted    = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|'[^']*'")
	misprint  = regexp.MustCompile(`(?s)%!.*`) // by a library that prints a value in a way that it has not
	printed   = regexp.MustCompile(`(?s)(range can't iterate over ).*`)
	location  = regexp.MustCompile(`^(\S[^\n]*?):(\d+)(?::\d+)?$`)
	authored  = regexp.MustCompile(`(?s)^execution error at \(([^\n]*?):(\d+)(?::\d+)?\): (.*)$`)
	unparsed  = regexp.MustCompile(`(?s)^parse error at \(([^\n]*?):(\d+)(?::\d+)?\): (.*)$`)
	unpacking = regexp.MustCompile(`^error unpacking subchart (.+?) in .*?: `)
	called    = regexp.MustCompile(`(?:template: |^)(\S+?):(\d+):`)
	executing = regexp.MustCompile(`^executing "(.*)" at <(.*)>:$`)
)

const hidden = "(not shown)"

// clean takes out of a library's message what may be a value: whatever it quotes that the chart does not say itself, and all
// values that are known.
func (s *sources) clean(msg string) string {
	msg = printed.ReplaceAllString(msg, "${1}"+hidden)
	msg = misprint.ReplaceAllString(msg, hidden)
	msg = quoted.ReplaceAllStringFunc(msg, func(q string) string {
		text := q[1 : len(q)-1]
		if q[0] == '"' {
			if u, err := strconv.Unquote(q); err == nil {
				text = u
			}
		}
		if s.said(text) {
			return q
		}
		return hidden
	})
	for _, v := range s.leaves {
		msg = strings.ReplaceAll(msg, v, hidden)
	}
	return short(msg)
}

func short(msg string) string {
	msg = strings.ToValidUTF8(strings.Join(strings.Fields(msg), " "), "")
	if len(msg) > longest {
		msg = strings.ToValidUTF8(msg[:longest], "") + " ..."
	}
	return msg
}

// unreadable is why the files of a chart, or of one in it, are none.
func unreadable(err error, src *sources) Problem {
	text := err.Error()
	var in []string
	for m := unpacking.FindStringSubmatch(text); m != nil; m = unpacking.FindStringSubmatch(text) {
		in, text = append(in, "charts/"+m[1]), text[len(m[0]):]
	}
	p, deeper := Problem{File: ChartFile}, ""
	if len(in) > 0 {
		p.File = in[0]
	}
	if len(in) > 1 {
		deeper = strings.Join(in[1:], "/") + " in it "
	}
	if strings.HasPrefix(text, "decompressed chart is larger than") {
		p.Message = fmt.Sprintf("%sunpacks to more than %d bytes: commit the chart without what it does not need", deeper, unpacked)
		return p
	}
	if deeper != "" {
		deeper += "is "
	}
	p.Message = deeper + "not a chart that helm can read: " + src.clean(text)
	return p
}

// failure is why templates could not be rendered.
func failure(c *chart.Chart, err error, src *sources) Problem {
	text := err.Error()
	if m := unparsed.FindStringSubmatch(text); m != nil {
		return Problem{File: inside(c, m[1]), Line: number(m[2]), Message: "not a template that helm can read: " + src.clean(m[3])}
	}
	if m := authored.FindStringSubmatch(text); m != nil {
		// What the chart says by fail or required is meant to be read.
		return Problem{File: inside(c, m[1]), Line: number(m[2]), Message: short(m[3])}
	}
	if strings.Contains(text, "nested reference name") || strings.Contains(text, "exceeded maximum template depth") {
		p := Problem{File: ChartFile, Message: "templates include each other without end"}
		if m := called.FindStringSubmatch(text); m != nil {
			p.File, p.Line = inside(c, m[1]), number(m[2])
		}
		return p
	}
	// helm prints where each call is, the outermost first, then what is wrong with the innermost.
	var (
		p      Problem
		at     string
		says   []string
		inmost string
	)
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		trimmed := strings.TrimSpace(l)
		if m := location.FindStringSubmatch(l); m != nil {
			if p.File == "" {
				p.File, p.Line = inside(c, m[1]), number(m[2])
			} else {
				inmost = fmt.Sprintf(" (in %s:%s)", inside(c, m[1]), m[2])
			}
			says = nil
		} else if m := executing.FindStringSubmatch(trimmed); m != nil {
			at = ""
			if said := strings.TrimSuffix(m[2], "..."); src.said(said) {
				at = "<" + m[2] + ">: "
			}
		} else {
			says = append(says, trimmed)
		}
	}
	if p.File == "" {
		return Problem{File: ChartFile, Message: "its templates cannot be rendered: " + src.clean(text)}
	}
	msg := src.clean(strings.Join(says, " "))
	p.Message = short(at + msg + inmost)
	return p
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// line is where a file of the chart has a field, or an item of it; 0 if that cannot be told.
func line(req Request, file, field string, item ...int) int {
	i := slices.IndexFunc(req.Files, func(f File) bool { return f.Name == file })
	var doc yaml.Node
	if i < 0 || yaml.Unmarshal(req.Files[i].Data, &doc) != nil || len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return 0
	}
	of := doc.Content[0].Content
	for k := 0; k+1 < len(of); k += 2 {
		if of[k].Value != field {
			continue
		}
		if v := of[k+1]; len(item) > 0 && v.Kind == yaml.SequenceNode && item[0] < len(v.Content) {
			return v.Content[item[0]].Line
		}
		return of[k].Line
	}
	return 0
}
