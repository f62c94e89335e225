package ipam

import (
	"flag"
	"os"
	"testing"
)

// TestMain asks for more and longer random histories than rapid's 100 of about 30 steps.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.checks": "500", "rapid.steps": "100"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
