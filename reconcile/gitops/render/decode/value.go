package decode

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Encrypted is how every value begins that sops encrypted.
const Encrypted = "ENC[AES256_GCM,"

// Value turns a document into what encoding/json would make of it, with int64 for whole numbers: the content of an Unstructured.
// substitute, unless nil, is given every key and scalar that holds "${". A plain scalar's type is found after substitution
// (`replicas: ${N}` is a number), a quoted one stays a string, and no value can add keys: substitution happens in the tree, not in the text.
func Value(n *yaml.Node, lim Limits, substitute func(string) (string, error)) (any, *Error) {
	c := converter{lim: lim, nodes: lim.Nodes, bytes: lim.DocumentBytes, substitute: substitute}
	return c.value(n, 0)
}

// Bounded tells whether a document that others will read stays within the limits: kustomize's own reader has none.
func Bounded(n *yaml.Node, lim Limits) *Error {
	c := converter{lim: lim, nodes: lim.Nodes, bytes: lim.DocumentBytes}
	return c.bounded(n, 0)
}

func (c *converter) bounded(n *yaml.Node, depth int) *Error {
	if err := c.spend(n, depth); err != nil {
		return err
	}
	if n.Kind == yaml.AliasNode {
		return c.bounded(n.Alias, depth+1)
	}
	for _, child := range n.Content {
		if err := c.bounded(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

type converter struct {
	lim          Limits
	nodes, bytes int // still allowed
	substitute   func(string) (string, error)
}

// spend is what makes alias bombs harmless: each expansion counts again.
func (c *converter) spend(n *yaml.Node, depth int) *Error {
	c.nodes--
	c.bytes -= len(n.Value)
	switch {
	case depth > c.lim.Depth:
		return &Error{Line: n.Line, Message: fmt.Sprintf("nested deeper than %d levels", c.lim.Depth)}
	case c.nodes < 0:
		return &Error{Line: n.Line, Message: fmt.Sprintf("the document has more than %d values with its aliases expanded: split it", c.lim.Nodes)}
	case c.bytes < 0:
		return c.tooLarge(n)
	}
	return nil
}

func (c *converter) tooLarge(n *yaml.Node) *Error {
	return &Error{Line: n.Line, Message: fmt.Sprintf("the document has more than %d bytes with its aliases and variables expanded: split it", c.lim.DocumentBytes)}
}

func (c *converter) value(n *yaml.Node, depth int) (any, *Error) {
	if err := c.spend(n, depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1)
	case yaml.MappingNode:
		if tag := n.ShortTag(); tag != "!!map" {
			return nil, unknownTag(n, tag)
		}
		m := make(map[string]any, len(n.Content)/2)
		if err := c.mapping(n, depth, m); err != nil {
			return nil, err
		}
		return m, nil
	case yaml.SequenceNode:
		if tag := n.ShortTag(); tag != "!!seq" {
			return nil, unknownTag(n, tag)
		}
		s := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			v, err := c.value(item, depth+1)
			if err != nil {
				return nil, err.in("[" + strconv.Itoa(i) + "]")
			}
			s = append(s, v)
		}
		return s, nil
	case yaml.ScalarNode:
		return c.scalar(n)
	}
	return nil, &Error{Line: n.Line, Message: "neither a mapping, a sequence nor a scalar"}
}

// mapping fills m. A merge ("<<") gives what the mapping itself does not say, the first of several merges wins.
func (c *converter) mapping(n *yaml.Node, depth int, m map[string]any) *Error {
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		kn, vn := n.Content[i], n.Content[i+1]
		if kn.Kind == yaml.ScalarNode && kn.ShortTag() == "!!merge" {
			merges = append(merges, vn)
			continue
		}
		key, err := c.key(kn, depth+1)
		if err != nil {
			return err
		}
		if _, twice := m[key]; twice {
			return &Error{Line: kn.Line, Field: key, Message: "the key is there twice: remove one"}
		}
		v, err := c.value(vn, depth+1)
		if err != nil {
			return err.in(key)
		}
		m[key] = v
	}
	for _, merge := range merges {
		if err := c.merge(merge, depth+1, m); err != nil {
			return err
		}
	}
	return nil
}

func (c *converter) merge(n *yaml.Node, depth int, into map[string]any) *Error {
	v, err := c.value(n, depth)
	if err != nil {
		return err.in("<<")
	}
	from, ok := v.([]any)
	if !ok {
		from = []any{v}
	}
	for _, f := range from {
		m, ok := f.(map[string]any)
		if !ok {
			return &Error{Line: n.Line, Field: "<<", Message: "only mappings can be merged"}
		}
		for k, v := range m {
			if _, said := into[k]; !said {
				into[k] = v
			}
		}
	}
	return nil
}

// key gives a mapping's key; numbers and booleans become strings, as kubectl has it.
func (c *converter) key(n *yaml.Node, depth int) (string, *Error) {
	v, err := c.value(n, depth)
	if err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", &Error{Line: n.Line, Message: "a key must be a string: quote it"}
}

func (c *converter) scalar(n *yaml.Node) (any, *Error) {
	if strings.HasPrefix(n.Value, Encrypted) {
		return nil, &Error{Line: n.Line, Message: "still encrypted by sops, and the document has no sops metadata that says how: encrypt the whole file with sops again"}
	}
	tag, value := n.ShortTag(), n.Value
	if c.substitute != nil && strings.Contains(value, "${") {
		v, err := c.substitute(value)
		if err != nil {
			return nil, &Error{Line: n.Line, Message: err.Error()}
		}
		if c.bytes -= len(v) - len(value); c.bytes < 0 {
			return nil, c.tooLarge(n)
		}
		value = v
		if plain(n) {
			tag = (&yaml.Node{Kind: yaml.ScalarNode, Value: v}).ShortTag()
		}
	}
	switch tag {
	case "!!str", "!!merge", "!!timestamp":
		if tag == "!!str" && plain(n) {
			if b, ok := oldBool[value]; ok {
				return b, nil
			}
		}
		return value, nil
	case "!!null":
		return nil, nil
	case "!!bool":
		switch strings.ToLower(value) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		if b, ok := oldBool[value]; ok {
			return b, nil
		}
		return nil, &Error{Line: n.Line, Message: "not a boolean: write true or false"}
	case "!!int", "!!float":
		return number(n, value)
	case "!!binary":
		b, err := base64.StdEncoding.DecodeString(strings.Map(unspace, value))
		if err != nil {
			return nil, &Error{Line: n.Line, Message: "not base64, which !!binary says"}
		}
		return string(b), nil
	}
	return nil, unknownTag(n, tag)
}

// oldBool is what YAML 1.1 and kubectl take for booleans, and YAML 1.2 for strings.
var oldBool = map[string]bool{
	"y": true, "Y": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
	"n": false, "N": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
}

// plain scalars were written without quotes in a file. What kustomize made is in no line, and is of the type that it says.
func plain(n *yaml.Node) bool {
	return n.Line > 0 && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
}

func number(n *yaml.Node, value string) (any, *Error) {
	digits := strings.ReplaceAll(value, "_", "")
	if i, err := strconv.ParseInt(digits, 0, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(strings.TrimPrefix(digits, "+"), 0, 64); err == nil {
		return float64(u), nil
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, &Error{Line: n.Line, Message: "a number that JSON cannot hold: quote it if it is meant as text"}
	}
	return f, nil
}

func unspace(r rune) rune {
	if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
		return -1
	}
	return r
}

func unknownTag(n *yaml.Node, tag string) *Error {
	return &Error{Line: n.Line, Message: fmt.Sprintf("the tag %.40q is not known here: remove it", tag)}
}

// in prefixes the field with the key that leads to it.
func (e *Error) in(key string) *Error {
	switch {
	case e.Field == "":
		e.Field = key
	case e.Field[0] == '[':
		e.Field = key + e.Field
	default:
		e.Field = key + "." + e.Field
	}
	return e
}
