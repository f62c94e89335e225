package child

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"padis.io/padis/reconcile/gitops/render/helm"
)

// The test binary is the control plane's binary, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		os.Exit(Main(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func chart(files ...string) helm.Request {
	req := helm.Request{Release: "shop", Namespace: "berlin", Files: []helm.File{{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: web\nversion: 1.0.0\n")}}}
	for i := 0; i+1 < len(files); i += 2 {
		req.Files = append(req.Files, helm.File{Name: files[i], Data: []byte(files[i+1])})
	}
	return req
}

func TestRender(t *testing.T) {
	req := chart("templates/a.yaml", "name: {{ .Release.Name }}-{{ .Values.tier }}\n", "values.yaml", "tier: front\n")
	req.Values = [][]byte{[]byte(`{"tier":"back"}`)}
	res, err := New(Bounds{}).Render(context.Background(), req)
	if err != nil || len(res.Problems) > 0 || len(res.Files) != 1 || string(res.Files[0].Data) != "name: shop-back\n" || res.Files[0].Name != "templates/a.yaml" {
		t.Fatalf("%+v, %v", res, err)
	}
}

// Whatever a template does, the control plane goes on and is told which bound was hit.
func TestBounds(t *testing.T) {
	grow := "{{- define \"grow\" }}{{ $x := . }}{{ range until 40 }}{{ $x = cat $x $x }}{{ end }}{{ end }}"
	for name, c := range map[string]struct {
		template string
		bounds   Bounds
		want     string
	}{
		"endless range":     {"{{ range until 100000 }}{{ range until 100000 }}{{ $x := sha256sum \"a\" }}{{ end }}{{ end }}", Bounds{CPU: time.Second}, "more than 1s of processor time"},
		"memory":            {grow + "{{ include \"grow\" \"0123456789012345678901234567890123456789\" }}", Bounds{Memory: 200 << 20}, "more than 200 MiB of memory"},
		"memory at once":    {"{{ range until 1000000000 }}{{ end }}", Bounds{Memory: 200 << 20}, "more than 200 MiB of memory"},
		"output":            {"{{ range until 1000 }}{{ repeat 1000 \"x\" }}{{ end }}", Bounds{Response: 100_000}, "more than 100000 bytes"},
		"recursion":         {"{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}", Bounds{}, "without end"},
		"include recursion": {"{{ define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}", Bounds{}, "without end"},
		"a value's bottom":  {"{{ $d := dict }}{{ $_ := set $d \"a\" $d }}{{ print $d }}", Bounds{}, "no bottom"},
		"large chart":       {strings.Repeat("x", 1000), Bounds{Request: 1000}, "the chart and its values are more than 1000 bytes"},
		"too slow a world":  {"{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}", Bounds{Wall: time.Nanosecond}, "cannot be started"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := New(c.bounds).Render(context.Background(), chart("templates/a.yaml", c.template))
			got := ""
			if err != nil {
				got = err.Error()
			} else if len(res.Problems) == 1 {
				got = res.Problems[0].Message
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("%q, %d files, want %s", got, len(res.Files), c.want)
			}
			var death *helm.Death
			if errors.As(err, &death) && death.Passing != (c.bounds.Wall > 0) {
				t.Errorf("passing: %v", death.Passing)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := New(Bounds{}).Render(ctx, chart()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestDeath(t *testing.T) {
	for want, e := range map[string]ending{
		"more than 5 bytes":       {large: true, failed: true},
		"10s of processor time":   {failed: true, cpu: 9900 * time.Millisecond},
		"too much to do":          {late: true, failed: true},
		"MiB of memory":           {failed: true, said: "fatal error: runtime: out of memory"},
		"without end":             {failed: true, said: "runtime: goroutine stack exceeds 67108864-byte limit\nfatal error: stack overflow"},
		"before it was done":      {failed: true},
		"before it was done, too": {failed: true, said: "panic: hunter2"},
	} {
		d := e.death(Bounds{Response: 5}.or(Defaults))
		if d == nil || !strings.Contains(d.Message, strings.TrimSuffix(want, ", too")) || strings.Contains(d.Message, "hunter2") {
			t.Errorf("%v, want %s", d, want)
		}
	}
	if d := (ending{}).death(Defaults); d != nil {
		t.Error(d)
	}
}

// Somebody who calls it by hand is told that it is not for him, and nothing else happens.
func TestByHand(t *testing.T) {
	for _, args := range [][]string{nil, {"1"}, {"a", "b", "c", "d"}} {
		var out, stderr strings.Builder
		if status := Main(args, strings.NewReader(""), &out, &stderr); status != 1 || out.Len() > 0 || stderr.Len() == 0 {
			t.Errorf("%v: %d, %q, %q", args, status, &out, &stderr)
		}
	}
}
