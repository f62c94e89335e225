package registry

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestWhatIsPushedIsThere(t *testing.T) {
	r := Start(t, Options{Dir: t.TempDir()})
	digest, err := r.PushBusybox("web:1", Config{Env: []string{"A=b"}, User: "app", WorkingDir: "/tmp", Labels: map[string]string{"x": "y"}, Files: map[string]string{"/etc/x": "y"}, Filler: []int64{100_000}})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := r.parse("web@" + digest)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config; got.User != "app" || got.WorkingDir != "/tmp" || got.Labels["x"] != "y" || got.Env[1] != "A=b" || got.Cmd[0] != "/bin/sh" || config.Architecture == "" {
		t.Errorf("config %+v", config)
	}
	if n := r.Requests("GET", "/v2/web/manifests/"+digest); n != 1 {
		t.Errorf("%d requests for the manifest, made 1", n)
	}
	// Another registry over the same files has it too, at the same address.
	r.Stop()
	r = Start(t, Options{Dir: r.dir, Address: r.Host()})
	layers, err := Layers(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Corrupt(layers[1]); err != nil {
		t.Fatal(err)
	}
	if err := readLayer(img, 1); err == nil {
		t.Error("a damaged layer was read as if it were whole")
	}
	if err := readLayer(img, 0); err != nil {
		t.Error(err)
	}
	if err := r.Delete("web@" + digest); err != nil {
		t.Error(err)
	}
	if _, err := remote.Image(ref); err == nil {
		t.Error("the image was deleted and is there")
	}
}

func readLayer(img v1.Image, i int) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	rc, err := layers[i].Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	_, err = io.Copy(io.Discard, rc)
	return err
}

func TestUsersAndTLS(t *testing.T) {
	r := Start(t, Options{Users: map[string]string{"ann": "secret"}, TLS: true})
	resp, err := r.client.Get(r.URL() + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a password: %s", resp.Status)
	}
	program := filepath.Join(t.TempDir(), "true")
	if out, err := exec.Command("cp", busybox, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	here, err := Program(program, Config{})
	if err != nil {
		t.Fatal(err)
	}
	there, err := Program(program, Config{Platform: "linux/arm/v7"})
	if err != nil {
		t.Fatal(err)
	}
	index, err := Index(here, there)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PushIndex("both:1", index); err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := manifest.Manifests[1].Platform.String(); got != "linux/arm/v7" {
		t.Errorf("second platform %s", got)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	if r, err := Open(Options{Address: "192.0.2.1:1"}); err == nil {
		r.Stop()
		t.Error("listens on an address that is not here")
	} else {
		t.Log(err)
	}
}
