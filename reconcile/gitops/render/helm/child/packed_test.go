package child

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/reconcile/gitops/render/helm"
)

// Each packed subchart is within its bound, and all of them are not within that of the process.
func TestManyPackedSubcharts(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	for _, f := range []helm.File{{Name: "sub/Chart.yaml", Data: []byte("apiVersion: v2\nname: sub\nversion: 1.0.0\n")}, {Name: "sub/zeros", Data: make([]byte, 15<<20)}} {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o644, Size: int64(len(f.Data))})
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	var files []string
	for i := range 40 {
		files = append(files, fmt.Sprintf("charts/sub-%d.tgz", i), packed.String())
	}
	_, err := New(Bounds{Memory: 200 << 20}).Render(context.Background(), chart(files...))
	var death *helm.Death
	if !errors.As(err, &death) || death.Passing || !strings.Contains(death.Message, "more than 200 MiB of memory") {
		t.Errorf("%v", err)
	}
}
