package quota

import (
	"os"
	"strings"
	"testing"

	"padis.io/padis/tests/kernel"
)

const inLab = "PADIS_IN_LAB"

// TestInTheLab runs the other tests under a kernel that has quotas of projects, because the machine's own may lack them.
func TestInTheLab(t *testing.T) {
	if os.Getenv(inLab) != "" {
		t.Skip("this is the lab")
	}
	if os.Getuid() != 0 {
		t.Skip("to mount a file system needs root")
	}
	switch reason, impossible := kernel.Missing(); {
	case impossible:
		t.Skip(reason)
	case reason != "":
		t.Fatal(reason)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := kernel.Lab{Modules: []string{"loop", "ext4", "quota_v2", "xfs", "overlay"}, Memory: 768, Env: []string{inLab + "=1"}}
	r, err := l.Run(t.Context(), exe, "-test.v")
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 || strings.Contains(r.Output, "mounts no") {
		t.Errorf("exit code %d:\n%s", r.ExitCode, r.Output)
	}
}
