package main

import (
	"io"
	"strings"
	"testing"
)

func TestMergedStreamsKeepTheirLines(t *testing.T) {
	out, err := io.ReadAll(merge([]io.ReadCloser{
		io.NopCloser(strings.NewReader(strings.Repeat("stdout\n", 1000))),
		io.NopCloser(strings.NewReader(strings.Repeat("stderr\n", 1000) + "no end")),
	}, -1))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for l := range strings.Lines(string(out)) {
		count[strings.TrimSuffix(l, "\n")]++
	}
	// The unfinished line may stand before one of the other stream.
	if n := count["stdout"] + count["no endstdout"]; n != 1000 || count["stderr"] != 1000 {
		t.Errorf("got %v", count)
	}
	m := merge([]io.ReadCloser{io.NopCloser(strings.NewReader("0123456789\n"))}, 4)
	if out, err := io.ReadAll(m); err != nil || string(out) != "0123" {
		t.Errorf("got %q, %v", out, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
