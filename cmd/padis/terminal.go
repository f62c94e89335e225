package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"padis.io/padis/api/why"
)

// colourful says whether w shows colours: a terminal, and the user has not said no (https://no-color.org).
func colourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// painter colours text for w, or leaves it alone.
func painter(w io.Writer) func(why.Tone, string) string {
	if !colourful(w) {
		return func(_ why.Tone, text string) string { return text }
	}
	return func(tone why.Tone, text string) string {
		code := ""
		switch tone {
		case why.Good:
			code = "32"
		case why.Waiting:
			code = "33"
		case why.Bad:
			code = "31"
		case why.Dim:
			code = "2"
		default:
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
}
