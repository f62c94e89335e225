package network

import (
	"testing"

	"pgregory.net/rapid"
)

func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner, task, n := rapid.String().Draw(t, "owner"), rapid.String().Draw(t, "task"), rapid.IntRange(0, 3).Draw(t, "n")
		name := HostEnd(owner, task, n)
		if !ValidName(name) {
			t.Fatalf("%q is not a name", name)
		}
		if tag, ok := ParseHostEnd(name); !ok || tag != OwnerTag(owner) {
			t.Fatalf("%q does not tell its owner", name)
		}
		if HostEnd(owner, task, n+1) == name || HostEnd(owner, task+"x", n) == name {
			t.Fatalf("%q twice", name)
		}
	})
}
