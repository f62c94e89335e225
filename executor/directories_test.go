package executor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestSuperfluousDirectories(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	k := Keep{Directories: 24 * time.Hour, PerSlot: 2}
	for name, c := range map[string]struct {
		all  string // name:slot:hours since the end
		want string
	}{
		"nothing":           {"", ""},
		"young":             {"a:x:1 b:x:2", ""},
		"old":               {"a:x:1 b:x:25", "b"},
		"too many":          {"a:x:3 b:x:1 c:x:2 d:y:4", "a"},
		"old and too many":  {"a:x:30 b:x:1 c:x:2 d:x:3", "d a"},
		"unknown are young": {"a::1 b::2 c::3", ""},
		"unknown are old":   {"a::1 b::25", "b"},
	} {
		var all []directory
		for _, s := range strings.Fields(c.all) {
			f := strings.Split(s, ":")
			var hours int
			if _, err := fmt.Sscan(f[2], &hours); err != nil {
				t.Fatal(err)
			}
			all = append(all, directory{f[0], f[1], now.Add(-time.Duration(hours) * time.Hour)})
		}
		if got := strings.Join(superfluous(all, now, k), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestDirectoriesOfEndedContainersAreKeptForAWhile(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor(func(_ *world, c *Config) { c.Keep.PerSlot = 2 })
		left := func() string {
			entries, err := os.ReadDir(filepath.Join(k.state, "instances"))
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, e := range entries {
				out = append(out, e.Name())
			}
			return strings.Join(out, " ")
		}
		for _, c := range []string{"c1", "c2", "c3"} {
			w.running(1, c)
			k.container(c).end(runtime.Exit{Code: 1})
			w.until(c, "TASK_FAILED Exited exit=1")
			time.Sleep(time.Second)
		}
		w.running(1, "c4")
		w.running(2, "d1")
		// Of another framework, and of nobody who says so.
		for name, owner := range map[string]string{"other": "fw2", "nobody": ""} {
			dir := instance.Directory(k.state, name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if owner != "" {
				if err := writeLaunch(dir, owner, &padisv1.Launch{Template: &padisv1.Template{}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		k.fail("release", errNo)
		time.Sleep(firstKeep + time.Second)
		if got := left(); got != "c1 c2 c3 c4 d1 nobody other" {
			t.Errorf("with volumes that are left: %s", got)
		}
		k.fail("release", nil)
		k.fail("remove", errNo)
		time.Sleep(keepAgain)
		if got := left(); got != "c2 c3 c4 d1 nobody other" {
			t.Errorf("left: %s", got)
		}
		time.Sleep(25 * time.Hour)
		if got := left(); got != "c4 d1 nobody other" {
			t.Errorf("a day later: %s", got)
		}
		if !slices.Contains(k.log, "remove images unused for 168h0m0s") {
			t.Errorf("%v", k.log)
		}
	})
}
