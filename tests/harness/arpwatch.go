package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
)

// ARPWatch is a running watch for addresses that more than one station answers for.
type ARPWatch struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
}

// WatchARP starts to watch the ranges ("10.0.0.1-10.0.0.9") on the virtual switch that all embedded hosts share.
func (c *Cluster) WatchARP(ctx context.Context, dir string, ranges ...string) (*ARPWatch, error) {
	bin := filepath.Join(dir, "arpwatch")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin, "./tests/arpwatch")
	build.Dir = Root()
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build arpwatch: %w\n%s", err, out)
	}
	inner, err := c.FindOne("up", "--inner")
	if err != nil {
		return nil, err
	}
	w := &ARPWatch{}
	w.cmd = exec.Command("nsenter", append([]string{"-t", strconv.Itoa(inner.Pid), "-n", bin, "switch0"}, ranges...)...)
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.out
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return w, w.cmd.Start()
}

// Result is what a watch has seen.
type Result struct {
	Rounds, Answers, Duplicates int
	Text                        string
}

// Stop ends the watch.
func (w *ARPWatch) Stop() (Result, error) {
	_ = w.stdin.Close()
	if err := w.cmd.Wait(); err != nil {
		return Result{Text: w.out.String()}, fmt.Errorf("arpwatch: %w\n%s", err, w.out.String())
	}
	r := Result{Text: w.out.String()}
	last := bytes.LastIndex(w.out.Bytes(), []byte("rounds "))
	if _, err := fmt.Sscanf(w.out.String()[max(last, 0):], "rounds %d answers %d duplicates %d", &r.Rounds, &r.Answers, &r.Duplicates); err != nil {
		return r, fmt.Errorf("arpwatch said %q: %w", r.Text, err)
	}
	return r, nil
}
