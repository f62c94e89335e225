// Package decode reads manifests: YAML and JSON, several documents to a file, with the lines that things are in. It bounds what a file
// may expand to, and judges no field. Pure.
//
// What a scalar means is what kubectl takes it for (sigs.k8s.io/yaml, which reads YAML 1.1): the same file gives the same object
// whether it is applied by hand or from git. Keys that are there twice, which kubectl lets pass, are problems.
package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits bound one file and what each of its documents expands to.
type Limits struct {
	FileBytes     int // of the file
	DocumentBytes int // all keys and scalars of a document, aliases expanded
	Nodes         int // mappings, sequences, keys and scalars of a document, aliases expanded
	Depth         int // of nesting
}

// Defaults are generous for what people write: the API server takes no request of more than 3 MiB.
var Defaults = Limits{FileBytes: 10 << 20, DocumentBytes: 3 << 20, Nodes: 200_000, Depth: 100}

// Or fills what is zero.
func (l Limits) Or(d Limits) Limits {
	or := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	or(&l.FileBytes, d.FileBytes)
	or(&l.DocumentBytes, d.DocumentBytes)
	or(&l.Nodes, d.Nodes)
	or(&l.Depth, d.Depth)
	return l
}

// Error says what is wrong and where. Its message never holds a value of the file, which may be a secret; keys it may.
type Error struct {
	Line    int
	Field   string
	Message string
}

func (e *Error) Error() string {
	s := e.Message
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Line > 0 {
		s = fmt.Sprintf("line %d: %s", e.Line, s)
	}
	return s
}

// Documents splits a file into its documents, without those that are empty. JSON is told from YAML by the file's name. A file that is
// broken gives the documents before the break, and the break.
func Documents(name string, data []byte, lim Limits) ([]*yaml.Node, *Error) {
	if len(data) > lim.FileBytes {
		return nil, &Error{Message: fmt.Sprintf("the file has %d bytes, more than %d: split it, or add it to .padisignore", len(data), lim.FileBytes)}
	}
	if path.Ext(name) == ".json" {
		return jsonDocuments(data, lim)
	}
	var docs []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return docs, syntax(err, data)
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) == 0 || null(n.Content[0]) {
			continue
		}
		docs = append(docs, n.Content[0])
	}
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

var lineOf = regexp.MustCompile(`line (\d+): `)

// unreadable is the line of the first character that YAML does not allow; 0 if there is none.
func unreadable(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 || r != '\t' && r != '\n' && r != '\r' && r != '\u0085' && unicode.IsControl(r) {
			return 1 + bytes.Count(data[:i], []byte{'\n'})
		}
		i += n
	}
	return 0
}

// syntax takes the line out of the library's message. It names no line where it cannot read the characters, and for the first.
func syntax(err error, data []byte) *Error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	e := &Error{}
	if m := lineOf.FindStringSubmatchIndex(msg); m != nil {
		e.Line, _ = strconv.Atoi(msg[m[2]:m[3]])
		msg = msg[:m[0]] + msg[m[1]:]
	}
	if e.Line == 0 {
		if e.Line = unreadable(data); e.Line > 0 {
			return &Error{Line: e.Line, Message: "not valid YAML: a character that is no text: save the file as UTF-8"}
		}
		// Where an anchor is missing, it does not say at all.
		if !strings.HasPrefix(msg, "unknown anchor") {
			e.Line = 1
		}
	}
	e.Message = "not valid YAML: " + msg
	return e
}
