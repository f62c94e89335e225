package place

import (
	"flag"
	"os"
	"testing"
)

// TestMain asks for more random snapshots than rapid's 100: the rules meet each other in rare combinations only, and
// a thousand snapshots take a fifth of a second.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "4000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
