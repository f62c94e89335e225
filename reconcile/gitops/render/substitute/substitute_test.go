package substitute

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var variables = map[string]string{"A": "one", "EMPTY": "", "_b2": "two", "DOLLAR": "${A}"}

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"plain $A $ } {":           "plain $A $ } {",
		"${A}":                     "one",
		"x${A}y${_b2}z":            "xoneytwoz",
		"${EMPTY}":                 "",
		"${EMPTY:-d}":              "d",
		"${EMPTY-d}":               "",
		"${NONE:-d}":               "d",
		"${NONE-d}":                "d",
		"${NONE:-}":                "",
		"${A:-d}":                  "one",
		"${NONE:-x${A}y}":          "xoney",
		"${NONE:-${NONE:-${_b2}}}": "two",
		"${A:-${NONE}}":            "one", // what is not used need not be known
		"$${A}":                    "${A}",
		"$$${A}":                   "$${A}",
		"${NONE:-$${A}}":           "${A}",
		"$$":                       "$$",
		"${DOLLAR}":                "${A}", // values are not read again
		"${NONE:-a:-b}":            "a:-b",
	} {
		if got, err := Text(text, variables); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"${NONE}":         "the variable NONE is not given",
		"${NONE:-${B}}":   "the variable B is not given",
		"${A":             "without a closing brace",
		"${A:-x":          "without a closing brace",
		"${NONE:-${A}":    "without a closing brace",
		"$${A":            "without a closing brace",
		"${}":             "not followed by a variable's name",
		"${1}":            "not followed by a variable's name",
		"${secret word}":  "other operations",
		"${A//one/secret": "other operations",
		"${A^^}":          "other operations",
		"${A:=secret}":    "other operations",
		strings.Repeat("${NONE:-", 20) + strings.Repeat("}", 20): "nested deeper",
	} {
		_, err := Text(text, variables)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Text("${A//one/hidden}", variables); strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "one") {
		t.Errorf("tells the text: %v", err)
	}
	if _, err := Text(strings.Repeat("${A}", 100), map[string]string{"A": strings.Repeat("x", 1<<16)}); err == nil {
		t.Error("six MiB pass")
	}
}

func TestName(t *testing.T) {
	for s, want := range map[string]bool{"A": true, "_a1": true, "": false, "1a": false, "a-b": false, "a b": false} {
		if Name(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

// Escaping all that could be a variable gives the text back.
func TestEscaped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([a-z $]|\{[A-Z]\}){0,20}`).Draw(t, "text")
		for strings.Contains(text, "$$") {
			text = strings.ReplaceAll(text, "$$", "$")
		}
		if got, err := Text(strings.ReplaceAll(text, "${", "$${"), nil); err != nil || got != text {
			t.Fatalf("%q: %q, %v", text, got, err)
		}
	})
}

// Text without "${" is left alone, and a value never leaks into an error.
func FuzzText(f *testing.F) {
	for _, s := range []string{"${A}", "${A:-b}", "$${A}", "${A:-${B-c}}", "${", "}", "$", "${A//b/c}"} {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		got, err := Text(text, map[string]string{"A": value})
		if !strings.Contains(text, "${") && (err != nil || got != text) {
			t.Fatalf("%q became %q, %v", text, got, err)
		}
		if err != nil && len(value) > 20 && strings.Contains(err.Error(), value) {
			t.Fatalf("%v tells the value", err)
		}
	})
}
