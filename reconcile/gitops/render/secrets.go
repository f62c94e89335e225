package render

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"padis.io/padis/api/conceal"
	"padis.io/padis/reconcile/gitops/render/decode"
)

// Which fields hold secrets is found out by rendering a second time with other ones: what differs came from them, whatever way it
// took. That is done only where a secret is used.

// others are variables of which the secret ones have other values. Empty ones stay: they choose defaults, and tell nothing.
func others(variables map[string]string, secret map[string]bool) map[string]string {
	var out map[string]string
	for name, value := range variables {
		if !secret[name] || value == "" {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(variables))
			for n, v := range variables {
				out[n] = v
			}
		}
		out[name] = another(value)
	}
	return out
}

func another(value string) string { return "x" + value }

// noticing is replace, and says whether another text would ever have come of it with other secrets.
func noticing(replace, otherwise func(string) (string, error), used *bool) func(string) (string, error) {
	return func(s string) (string, error) {
		out, err := replace(s)
		if !*used {
			other, e := otherwise(s)
			*used = e != nil || other != out
		}
		return out, err
	}
}

// rendered is a document with other secrets; nil if it cannot be told.
func rendered(in Input, doc *yaml.Node, secret func(*yaml.Node) bool, replace func(string) (string, error)) any {
	if secret != nil {
		doc = copied(doc, secret, map[*yaml.Node]*yaml.Node{})
	}
	other, e := decode.Value(doc, in.Options.Limits, replace)
	if e != nil {
		return nil
	}
	return other
}

// copied is a document with other values in place of secret ones. Keys stay.
func copied(n *yaml.Node, secret func(*yaml.Node) bool, done map[*yaml.Node]*yaml.Node) *yaml.Node {
	if n == nil || done[n] != nil {
		return done[n]
	}
	out := *n
	done[n] = &out
	out.Alias = copied(n.Alias, secret, done)
	if n.Kind == yaml.ScalarNode && secret(n) {
		out.Value, out.Tag, out.Style = another(n.Value), "!!str", yaml.DoubleQuotedStyle
	}
	out.Content = slices.Clone(n.Content)
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode {
			continue
		}
		out.Content[i] = copied(child, secret, done)
	}
	return &out
}

// encrypted tells which scalars of documents sops has encrypted. They are looked at before that is undone.
func encrypted(docs []*yaml.Node) func(*yaml.Node) bool {
	found := map[*yaml.Node]bool{}
	var look func(*yaml.Node)
	look = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && strings.HasPrefix(n.Value, decode.Encrypted) {
			found[n] = true
		}
		for _, child := range n.Content {
			look(child)
		}
	}
	for _, doc := range docs {
		look(doc)
	}
	return func(n *yaml.Node) bool { return found[n] }
}

// holding tells which scalars have a secret in them, where it is not known how it came there; nil without secrets.
func holding(secrets []string) func(*yaml.Node) bool {
	secrets = slices.DeleteFunc(slices.Clone(secrets), func(s string) bool { return s == "" })
	if len(secrets) == 0 {
		return nil
	}
	return func(n *yaml.Node) bool { return conceal.Holds(n.Value, secrets) }
}

// secretFields are those that are otherwise with other secrets.
func secretFields(object map[string]any, other any) []string {
	o, _ := other.(map[string]any)
	if reflect.DeepEqual(object, o) {
		return nil
	}
	return conceal.Differing(object, o)
}

// itemOf is an item of a list as it would be with other secrets; nil if that cannot be told.
func itemOf(list any, i int) any {
	m, _ := list.(map[string]any)
	items, _ := m["items"].([]any)
	if i >= len(items) {
		return nil
	}
	return items[i]
}
