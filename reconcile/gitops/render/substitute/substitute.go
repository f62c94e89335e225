// Package substitute puts values for variables into text. Pure.
//
//	${NAME}            the value; an unknown name is an error
//	${NAME:-default}   the default if NAME is unknown or empty; may hold variables itself
//	${NAME-default}    the default if NAME is unknown
//	$${NAME}           is left as ${NAME}
//
// A dollar sign without a brace is text.
package substitute

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// maxDepth bounds defaults in defaults.
const maxDepth = 10

// maxBytes bounds the result: defaults and values may be repeated.
const maxBytes = 3 << 20

// name has no digit first, as in a shell.
var name = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)

// Name tells whether a variable may be called that.
func Name(s string) bool { return s != "" && name.FindString(s) == s }

// Text replaces the variables of text. Errors name variables, never values.
func Text(text string, variables map[string]string) (string, error) {
	var out strings.Builder
	_, err := expand(&out, text, variables, 0)
	return out.String(), err
}

// expand writes text to out and gives what follows it: nothing, or, within a default (depth > 0), what begins with the brace that
// closes it. Without out the text is only read.
func expand(out *strings.Builder, text string, variables map[string]string, depth int) (string, error) {
	if depth > maxDepth {
		return "", fmt.Errorf("defaults of variables are nested deeper than %d levels", maxDepth)
	}
	for text != "" {
		switch {
		case depth > 0 && text[0] == '}':
			return text, nil
		case strings.HasPrefix(text, "$${"):
			// What is escaped goes through as it is, with the brace that closes it, so that it does not close a default.
			end := strings.IndexByte(text, '}')
			if end < 0 {
				return "", errors.New("\"$${\" without a closing brace")
			}
			if err := write(out, text[1:end+1]); err != nil {
				return "", err
			}
			text = text[end+1:]
		case strings.HasPrefix(text, "${"):
			rest, err := variable(out, text[2:], variables, depth)
			if err != nil {
				return "", err
			}
			text = rest
		default:
			n := next(text, depth)
			if err := write(out, text[:n]); err != nil {
				return "", err
			}
			text = text[n:]
		}
	}
	if depth > 0 {
		return "", errors.New("\"${\" without a closing brace")
	}
	return "", nil
}

func write(out *strings.Builder, s string) error {
	if out == nil {
		return nil
	}
	if out.Len()+len(s) > maxBytes {
		return fmt.Errorf("more than %d bytes after substitution of variables", maxBytes)
	}
	out.WriteString(s)
	return nil
}

// next is how much of text is plain: at least one byte.
func next(text string, depth int) int {
	stop := "$"
	if depth > 0 {
		stop = "$}"
	}
	if i := strings.IndexAny(text[1:], stop); i >= 0 {
		return i + 1
	}
	return len(text)
}

// variable is given what follows "${", and gives what follows the brace that closes it.
func variable(out *strings.Builder, text string, variables map[string]string, depth int) (string, error) {
	n := name.FindString(text)
	if n == "" {
		return "", errors.New("\"${\" is not followed by a variable's name: write $${ if it is meant as text, or annotate the object with padis.io/substitute: disabled")
	}
	text = text[len(n):]
	value, known := variables[n]
	fallback := out // where the default goes; nowhere if the value is used
	switch {
	case strings.HasPrefix(text, "}"):
		if !known && out != nil {
			return "", fmt.Errorf("the variable %s is not given: add it to the Sync's variables, write ${%s:-default}, or $${%s} if it is meant as text", n, n, n)
		}
		return text[1:], write(out, value)
	case strings.HasPrefix(text, ":-"):
		text, known = text[2:], value != ""
	case strings.HasPrefix(text, "-"):
		text = text[1:]
	case text == "":
		return "", fmt.Errorf("\"${%s\" without a closing brace", n)
	default:
		return "", fmt.Errorf("after ${%s only }, - or :- may follow: other operations are not supported; write $${ if it is meant as text", n)
	}
	if known {
		if err := write(out, value); err != nil {
			return "", err
		}
		fallback = nil
	}
	rest, err := expand(fallback, text, variables, depth+1)
	if err != nil {
		return "", err
	}
	return rest[1:], nil
}
