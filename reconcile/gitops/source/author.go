package source

import "strings"

// Author is who wrote a commit, as NAME <MAIL>, by its content; empty if that does not say.
func Author(commit []byte) string {
	for line := range strings.Lines(string(commit)) {
		if line == "\n" {
			break
		}
		if who, ok := strings.CutPrefix(line, "author "); ok {
			return strings.ToValidUTF8(who[:strings.LastIndexByte(who, '>')+1], "?")
		}
	}
	return ""
}
