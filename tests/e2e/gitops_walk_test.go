package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/reconcile/gitops/source/sourcetest"
	"padis.io/padis/tests/harness"
)

// step is a fenced block of a document: commands, and what they must print.
type step struct {
	title string
	line  int
	sh    string
	want  []string
}

// steps reads the blocks of a section that are commands, each with the parts of its output that the block after it shows.
func steps(t *testing.T, file, section string) []step {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	var (
		all                []step
		title, fence, text string
		inside             bool
	)
	for n, line := range strings.Split(string(b), "\n") {
		switch {
		case fence != "" && line == "```":
			switch {
			case fence == "sh":
				all = append(all, step{title: title, line: n + 1 - strings.Count(text, "\n"), sh: text})
			case fence == "text" && len(all) > 0:
				all[len(all)-1].want = strings.Split(strings.TrimSpace(text), "\n")
			}
			fence, text = "", ""
		case fence != "":
			text += line + "\n"
		case strings.HasPrefix(line, "## "):
			inside = line == "## "+section
		case strings.HasPrefix(line, "### "):
			title = line[4:]
		case inside && strings.HasPrefix(line, "```"):
			fence = line[3:]
		}
	}
	return all
}

// pushed makes a repository that may be pushed to, and gives its URL.
func pushed(t *testing.T) string {
	t.Helper()
	w := sourcetest.NewWork(t)
	w.Git("config", "http.receivepack", "true")
	w.Git("config", "receive.denyCurrentBranch", "ignore")
	return sourcetest.HTTP(t, w, sourcetest.Login{}).URL
}

// TestWalkThrough runs the commands of docs/gitops.md as they stand there, on a Padis of its own.
func TestWalkThrough(t *testing.T) {
	c, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	// Not t.TempDir: its path is too long for sockets in it.
	dir, err := os.MkdirTemp("", "padis-walk-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	own, err := harness.Start(c, harness.Options{Dir: dir, Hosts: 2, Out: os.Stderr, Bin: cluster.Bin})
	must(t, err)
	t.Cleanup(own.Stop)

	all := steps(t, filepath.Join(harness.Root(), "docs", "gitops.md"), "Walk-through")
	if len(all) < 10 {
		t.Fatalf("only %d blocks of commands found", len(all))
	}
	out := t.TempDir()
	var script strings.Builder
	for i, s := range all {
		// One shell runs all, so that its directory stays from block to block.
		fmt.Fprintf(&script, "{\nset -x\n%sset +x\n} >%s/%d 2>&1\n", s.sh, out, i)
	}
	cmd := exec.CommandContext(c, "bash", "-e", "-u", "-o", "pipefail", "-c", script.String())
	cmd.Dir = t.TempDir()
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "GIT_") })
	cmd.Env = append(cmd.Env, "HOME="+cmd.Dir, "GIT_CONFIG_NOSYSTEM=1", "KUBECONFIG="+own.Kubeconfig(), "NO_COLOR=1",
		"PATH="+own.Bin+":"+os.Getenv("PATH"), "PADIS="+harness.Root(), "REPO="+pushed(t))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	failed := cmd.Run()
	for i, s := range all {
		printed, err := os.ReadFile(filepath.Join(out, fmt.Sprint(i)))
		if err != nil {
			t.Fatalf("docs/gitops.md:%d (%s) did not run: %v %s", s.line, s.title, failed, said.String())
		}
		text := withoutTrace(string(printed))
		for _, want := range s.want {
			if !strings.Contains(text, want) {
				t.Errorf("docs/gitops.md:%d (%s) does not print %q", s.line, s.title, want)
			}
		}
		if _, err := os.Stat(filepath.Join(out, fmt.Sprint(i+1))); failed != nil && err != nil {
			t.Errorf("docs/gitops.md:%d (%s): %v", s.line, s.title, failed)
		}
		if t.Failed() {
			for _, ask := range [][]string{{"get", "gitsources,syncs,apps,instances", "-n", "shop", "-o", "wide"}, {"describe", "sync,gitsource", "-n", "shop"}} {
				now, _ := own.Padis(c, ask...)
				t.Log(now)
			}
			t.Fatalf("it printed\n%s\nscheduler:\n%s", printed, own.LogTail("scheduler", 20))
		}
	}
}

// withoutTrace drops the lines by which the shell says what it runs.
func withoutTrace(text string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "+") }), "\n")
}
