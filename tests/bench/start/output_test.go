package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Output that is kept in several files is found complete, wherever the files were cut, and a loss is found.
func TestVerify(t *testing.T) {
	t.Parallel()
	const lines = 50
	var all []byte
	for n := range int64(lines) {
		all = line(all, n)
	}
	keep := func(pieces ...[]byte) *machine {
		m := &machine{dir: t.TempDir()}
		dir := filepath.Join(m.state(), "instances", "w")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for i, piece := range pieces {
			name := "stdout"
			if older := len(pieces) - 1 - i; older > 0 {
				name = fmt.Sprintf("stdout.%d", older)
			}
			if err := os.WriteFile(filepath.Join(dir, name), piece, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	for _, m := range []*machine{keep(all), keep(all[:1000], all[1000:]), keep(all[:1], all[1:1050], all[1050:4999], all[4999:]), keep(all, nil)} {
		if err := m.verify("w", lines); err != nil {
			t.Error(err)
		}
		if kept := m.kept([]string{"w"}); kept != lines*lineBytes {
			t.Errorf("%d bytes are kept", kept)
		}
	}
	for name, m := range map[string]*machine{
		"a byte":      keep(all[:1000], all[1001:]),
		"a line":      keep(all[:1000], all[1100:]),
		"the end":     keep(all[:1000], all[1000:4900]),
		"a half line": keep(all[:4950]),
		"the order":   keep(all[2000:], all[:2000]),
	} {
		if err := m.verify("w", lines); err == nil {
			t.Errorf("%s is missing, and nobody saw it", name)
		}
	}
}
