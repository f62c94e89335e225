package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// jsonDocuments reads JSON into the same nodes as YAML. YAML's parser would not do: it refuses surrogate pairs.
func jsonDocuments(data []byte, lim Limits) ([]*yaml.Node, *Error) {
	r := jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1, lim: lim}
	r.dec.UseNumber()
	var docs []*yaml.Node
	for {
		tok, err := r.dec.Token()
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return docs, r.broken(err)
		}
		n, e := r.node(tok, 0)
		if e != nil {
			return docs, e
		}
		if !null(n) {
			docs = append(docs, n)
		}
	}
}

type jsonReader struct {
	data []byte
	dec  *json.Decoder
	seen int64 // bytes whose lines are counted
	line int
	lim  Limits
}

// at is the line that the last token ends in.
func (r *jsonReader) at() int {
	to := r.dec.InputOffset()
	r.line += bytes.Count(r.data[r.seen:to], []byte{'\n'})
	r.seen = to
	return r.line
}

// broken leaves out the library's text: it quotes the file.
func (r *jsonReader) broken(err error) *Error {
	what := "not valid JSON"
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		what = "not valid JSON: it ends too early"
	}
	return &Error{Line: r.at(), Message: what}
}

func (r *jsonReader) node(tok json.Token, depth int) (*yaml.Node, *Error) {
	if depth > r.lim.Depth {
		return nil, &Error{Line: r.at(), Message: fmt.Sprintf("nested deeper than %d levels", r.lim.Depth)}
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.at()}
	switch v := tok.(type) {
	case nil:
		n.Tag = "!!null"
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(v)
	case json.Number:
		n.Tag, n.Value = "!!float", v.String()
	case string:
		n.Tag, n.Value, n.Style = "!!str", v, yaml.DoubleQuotedStyle
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		return n, r.children(n, depth)
	}
	return n, nil
}

func (r *jsonReader) children(n *yaml.Node, depth int) *Error {
	for {
		tok, err := r.dec.Token()
		if err != nil {
			return r.broken(err)
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			return nil
		}
		child, e := r.node(tok, depth+1)
		if e != nil {
			return e
		}
		n.Content = append(n.Content, child)
	}
}
