package source

import "testing"

func TestAuthor(t *testing.T) {
	t.Parallel()
	for commit, want := range map[string]string{
		"tree 1\nparent 2\nauthor Zoë <z@example.com> 1700000000 +0100\ncommitter B <b@example.com> 1700000000 +0100\n\nchange\n": "Zoë <z@example.com>",
		"tree 1\n\nauthor Mallory <m@example.com> 1 +0000\n":                                                                      "",
		"author nobody\n":   "",
		"author \xff <x>\n": "? <x>",
		"":                  "",
	} {
		if got := Author([]byte(commit)); got != want {
			t.Errorf("author of %q is %q, want %q", commit, got, want)
		}
	}
}
