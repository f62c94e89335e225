package ipam

import (
	"flag"
	"os"
	"testing"
)

// TestMain asks for more random histories than rapid's 100; a hundred take a tenth of a second.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "1000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
