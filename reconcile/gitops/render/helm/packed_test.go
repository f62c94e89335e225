package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"slices"
	"strings"
	"testing"
)

// pack is a packed chart, as `helm package` makes it, of files whose names begin with that of the chart.
func pack(t testing.TB, files ...File) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o644, Size: int64(len(f.Data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// packed is the chart in testdata with its subchart as `helm dependency build` would have put it there.
func packed(t testing.TB, more ...File) Request {
	t.Helper()
	req := shop(t)
	var cache []File
	req.Files = slices.DeleteFunc(req.Files, func(f File) bool {
		name, ok := strings.CutPrefix(f.Name, "charts/")
		if ok {
			cache = append(cache, File{name, f.Data})
		}
		return ok
	})
	req.Files = append(req.Files, File{"charts/cache-0.1.0.tgz", pack(t, append(cache, more...)...)})
	return req
}

// A packed subchart is the same as one that is not.
func TestPackedSubcharts(t *testing.T) {
	for _, values := range []string{"{}", "cache: {enabled: false}\n", "cache: {memory: 1Gi}\n"} {
		req, plain := packed(t), shop(t, values)
		req.Values = plain.Values
		got, want := Render(req), Render(plain)
		if len(want.Problems) > 0 || text(t, got) != text(t, want) {
			t.Errorf("%s: packed it is\n%s\nand not\n%s", values, text(t, got), text(t, want))
		}
	}
	// Packed once more, in a subchart.
	inner := pack(t, File{"inner/Chart.yaml", []byte("apiVersion: v2\nname: inner\nversion: 1.0.0\n")}, File{"inner/templates/a.yaml", []byte("of: {{ .Chart.Name }} in {{ .Release.Name }}\n")})
	if got := text(t, Render(packed(t, File{"cache/charts/inner-1.0.0.tgz", inner}))); !strings.Contains(got, "# Source: shop/charts/cache/charts/inner/templates/a.yaml\nof: inner in eu") {
		t.Error(got)
	}
}

// What is wrong with a packed subchart is told by its name, and in the words that are used of one that is not.
func TestPackedSubchartsProblems(t *testing.T) {
	zeros := make([]byte, unpacked+1)
	chart := func(files ...File) func(*Request) {
		return func(r *Request) {
			files := append([]File{{"bulk/Chart.yaml", []byte("apiVersion: v2\nname: bulk\nversion: 1.0.0\n")}}, files...)
			r.Files = append(r.Files, File{"charts/bulk-1.0.0.tgz", pack(t, files...)})
		}
	}
	for name, c := range map[string]struct {
		edit func(*Request)
		want string
	}{
		"a large file": {chart(File{"bulk/files/zeros", zeros}), "charts/bulk-1.0.0.tgz:0: : unpacks to more than 16777216 bytes: commit the chart without what it does not need"},
		"large files":  {chart(File{"bulk/files/1", zeros[:10<<20]}, File{"bulk/files/2", zeros[:10<<20]}), "charts/bulk-1.0.0.tgz:0: : unpacks to more than 16777216 bytes"},
		"a large one in another": {chart(File{"bulk/charts/huge-2.0.0.tgz", pack(t, File{"huge/Chart.yaml", []byte("apiVersion: v2\nname: huge\nversion: 1.0.0\n")}, File{"huge/zeros", zeros})}),
			"charts/bulk-1.0.0.tgz:0: : charts/huge-2.0.0.tgz in it unpacks to more than 16777216 bytes"},
		"no archive": {add("charts/bulk-1.0.0.tgz", "hunter2"), "charts/bulk-1.0.0.tgz:0: : not a chart that helm can read: "},
		"no chart": {func(r *Request) {
			r.Files = append(r.Files, File{"charts/bulk-1.0.0.tgz", pack(t, File{"bulk/a", nil})})
		}, "charts/bulk-1.0.0.tgz:0: : not a chart that helm can read: "},
		"a way out":       {chart(File{"bulk/../../etc/passwd", []byte("x")}), "charts/bulk-1.0.0.tgz:0: : not a chart that helm can read: "},
		"an unpacked one": {add("charts/bulk/Chart.yaml", "name: [\n"), "charts/bulk:0: : not a chart that helm can read: "},
		"a definition":    {chart(File{"bulk/crds/a.yaml", []byte("kind: CustomResourceDefinition\n")}), "Padis serves no custom resource definitions"},
		"what it says":    {chart(File{"bulk/templates/b.yaml", []byte("a: 1\n{{ fail \"no\" }}\n")}), "charts/bulk/templates/b.yaml:2: : no"},
		"its template":    {chart(File{"bulk/templates/b.yaml", []byte("a: {{ .Values.no.such.thing }}\n")}), "charts/bulk/templates/b.yaml:1: : <.Values.no.such.thing>: nil pointer evaluating interface {}.such"},
		"its chance":      {chart(File{"bulk/templates/b.yaml", []byte("a: {{ uuidv4 }}\n")}), "charts/bulk/templates/b.yaml:0: : line 1 of what it renders changes each time"},
	} {
		t.Run(name, func(t *testing.T) {
			req := packed(t)
			c.edit(&req)
			res := Render(req)
			if got := text(t, res); len(res.Files) > 0 || len(res.Problems) != 1 || !strings.Contains(got, c.want) || strings.Contains(got, "hunter2") {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	// Up to the bound it is fine.
	req := packed(t)
	chart(File{"bulk/files/zeros", zeros[:unpacked-1<<10]})(&req)
	if res := Render(req); len(res.Problems) > 0 {
		t.Error(text(t, res))
	}
}
