package kernel

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// script is the first process: it prepares, runs the command and says how it ended, all by the serial line. Then it waits
// to be killed, since a kernel that halts forgets what it has not written yet.
func (l Lab) script(mark string, command []string) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("#!/bin/sh")
	line("export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run/tmp")
	line("mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t tmpfs tmp /run && mkdir -p /run/tmp /run/lib/modules /run/netns")
	line("stty -F /dev/ttyS0 -opost")
	line("exec </dev/null >/dev/ttyS0 2>&1")
	line(`ln -s "/usr/lib/uml/modules/$(uname -r)" "/run/lib/modules/$(uname -r)"`)
	line(`end() { sync; echo "%s $1"; exec sleep infinity; }`, mark)
	// The kernel loads by itself what it is asked for, too.
	line(`printf '#!/bin/sh\nexec modprobe -d /run "$@"\n' >/run/modprobe && chmod +x /run/modprobe && echo /run/modprobe >/proc/sys/kernel/modprobe`)
	for _, m := range l.Modules {
		line(`modprobe -d /run %s || { echo "lab: the kernel $(uname -r) has no module" %[1]s; end 125; }`, quote(m))
	}
	for _, e := range l.Env {
		line("export %s", quote(e))
	}
	var words []string
	for _, w := range command {
		words = append(words, quote(w))
	}
	line("cd /run")
	line("%s", strings.Join(words, " "))
	line("end $?")
	return []byte(b.String())
}

// quote makes one word of a shell of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

//go:embed xstate/xstate.c
var shimSource []byte

// buildShim compiles the preloaded ptrace into dir and returns its path.
func buildShim(ctx context.Context, dir string) (string, error) {
	source, lib := filepath.Join(dir, "xstate.c"), filepath.Join(dir, "xstate.so")
	if err := os.WriteFile(source, shimSource, 0o600); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", lib, source).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile what user-mode-linux needs on this processor: %w: %s; gcc and libc6-dev come with .ci/setup", err, out)
	}
	return lib, nil
}
