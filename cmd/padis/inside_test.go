package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
)

// fakeInside runs commands on this machine.
type fakeInside struct{}

func (fakeInside) Container(_, name string) string { return name }
func (fakeInside) Record(string) bool              { return false }

func (fakeInside) Exec(ctx context.Context, _, _ string, e live.Exec) (int, error) {
	cmd := exec.CommandContext(ctx, e.Command[0], e.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, e.Stderr
	err := cmd.Run()
	var status *exec.ExitError
	if errors.As(err, &status) {
		return status.ExitCode(), nil
	}
	return 0, err
}

func (fakeInside) Forward(context.Context, string, string, uint16) (live.Conn, error) {
	return nil, errors.New("nobody listens")
}

// used is the CPU of each instance, in thousandths.
var used = map[string]int64{"web-0": 250, "web-1": 500, "solo-0": 50}

func (fakeInside) Usage(_ context.Context, instances []*runtime.Instance) (map[[2]string]runtime.UsageStatus, map[string]string, error) {
	out := map[[2]string]runtime.UsageStatus{}
	for _, i := range instances {
		out[[2]string{i.Namespace, i.Name}] = runtime.UsageStatus{CPUMilli: used[i.Name], MemoryBytes: 1 << 20}
	}
	return out, map[string]string{"host-9": "no answer"}, nil
}

func TestExec(t *testing.T) {
	useAPI(t)
	padis("exec", "web-0", "--", "echo", "hello").expect(t, exitOK, "hello\n")
	padis("exec", "instance/web-0", "echo", "-n", "flags are the command's").expect(t, exitOK, "flags are the command's")
	if r := padis("exec", "web-0", "--", "sh", "-c", "exit 7"); r.status != 7 || r.err != "" {
		t.Errorf("status %d: %q", r.status, r.err)
	}
	padis("exec", "nobody-0", "--", "true").expect(t, exitError, "not found")
	var out, errOut bytes.Buffer
	status := run([]string{"exec", "-i", "web-0", "--", "cat"}, genericiooptions.IOStreams{In: strings.NewReader("typed"), Out: &out, ErrOut: &errOut})
	if status != exitOK || out.String() != "typed" {
		t.Errorf("status %d, %q, %q", status, out.String(), errOut.String())
	}
}

func TestTop(t *testing.T) {
	useAPI(t)
	r := padis("top", "instances")
	r.expect(t, exitOK, "host host-9 does not answer", "web-1    0.5", "web-0    0.25", "1Mi")
	if strings.Index(r.out, "web-1") > strings.Index(r.out, "web-0") {
		t.Errorf("not sorted:\n%s", r.out)
	}
	padis("top", "apps", "-A").expect(t, exitOK, "NAMESPACE", "default     web    0.75", "2Mi")
}

func TestCp(t *testing.T) {
	useAPI(t)
	here, there := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(here, "site", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"site/index.html": "welcome", "site/sub/a b": "deep"} {
		if err := os.WriteFile(filepath.Join(here, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	same := func(path, want string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	padis("cp", filepath.Join(here, "site"), "web-0:"+there+"/new").expect(t, exitOK)
	same(there+"/new/sub/a b", "deep")
	padis("cp", filepath.Join(here, "site"), "web-0:"+there).expect(t, exitOK)
	same(there+"/site/index.html", "welcome")
	padis("cp", "web-0:"+there+"/new", filepath.Join(here, "back")).expect(t, exitOK)
	same(here+"/back/sub/a b", "deep")
	padis("cp", "instance/web-0:"+there+"/new/index.html", here).expect(t, exitOK)
	same(here+"/index.html", "welcome")
	padis("cp", "web-0:"+there+"/missing", here).expect(t, exitError)
	padis("cp", here+"/missing", "web-0:/tmp").expect(t, exitError, "no such file")
}

// What an instance sends stays in the target, whatever it sends.
func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	archive := func(headers ...tar.Header) io.Reader {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Size, h.Mode = int64(len("evil")), 0o644
			if h.Typeflag != tar.TypeReg {
				h.Size = 0
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				if _, err := io.WriteString(w, "evil"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	for name, headers := range map[string][]tar.Header{
		"parent":   {{Typeflag: tar.TypeReg, Name: "site/../../evil"}},
		"absolute": {{Typeflag: tar.TypeReg, Name: "/evil"}},
		"other":    {{Typeflag: tar.TypeReg, Name: "evil"}},
		"link":     {{Typeflag: tar.TypeDir, Name: "site"}, {Typeflag: tar.TypeSymlink, Name: "site/link", Linkname: ".."}, {Typeflag: tar.TypeReg, Name: "site/link/../../evil"}},
		"planted":  {{Typeflag: tar.TypeDir, Name: "site"}, {Typeflag: tar.TypeReg, Name: "site/planted/evil"}},
	} {
		dir := t.TempDir()
		local := filepath.Join(dir, "local")
		if err := os.Mkdir(local, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("..", filepath.Join(local, "planted")); err != nil {
			t.Fatal(err)
		}
		err := unpack(archive(headers...), "site", local, io.Discard)
		if _, statErr := os.Lstat(filepath.Join(dir, "evil")); statErr == nil || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]place{
		"web-0:/etc": {"web-0", "/etc"}, "instance/web-0:a": {"web-0", "a"}, "./a:b": {path: "./a:b"}, "/a:b": {path: "/a:b"}, "file": {path: "file"},
	} {
		if got := parsePlace(text); got != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
