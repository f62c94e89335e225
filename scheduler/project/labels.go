package project

import "strings"

// Lengths of label keys and values that the API machinery accepts.
const (
	maxLabelName   = 63
	maxLabelPrefix = 253
)

// agentLabels are the attributes that can be labels. The others, for example with a space in the value, are in the
// status only.
func agentLabels(attributes map[string]string) map[string]string {
	out := make(map[string]string, len(attributes))
	for k, v := range attributes {
		if labelKey(k) && (v == "" || labelName(v)) {
			out[k] = v
		}
	}
	return out
}

// labelKey tells whether k is [PREFIX/]NAME.
func labelKey(k string) bool {
	prefix, name, ok := strings.Cut(k, "/")
	if !ok {
		return labelName(k)
	}
	if len(prefix) > maxLabelPrefix {
		return false
	}
	for part := range strings.SplitSeq(prefix, ".") {
		if !labelName(part) || strings.ContainsAny(part, "_.") || strings.ToLower(part) != part {
			return false
		}
	}
	return labelName(name)
}

// labelName tells whether s is of letters, digits, dashes, underscores and dots, begins and ends in a letter or digit,
// and is neither empty nor too long.
func labelName(s string) bool {
	if s == "" || len(s) > maxLabelName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if letterOrDigit(c) {
			continue
		}
		if i == 0 || i == len(s)-1 || c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func letterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
