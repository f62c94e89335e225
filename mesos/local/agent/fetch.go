package agent

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"padis.io/padis/mesos/local/words"
)

// fetcher puts URIs into sandboxes. Cached ones are downloaded once per agent.
type fetcher struct {
	client *http.Client
	mu     sync.Mutex
	flight map[string]*download
}

type download struct {
	done chan struct{}
	err  error
}

func newFetcher() *fetcher {
	return &fetcher{client: &http.Client{Timeout: 10 * time.Minute}, flight: map[string]*download{}}
}

func (f *fetcher) fetchAll(ctx context.Context, l Launch) error {
	for _, uri := range l.Command.URIs {
		if err := f.fetch(ctx, l, uri); err != nil {
			return words.Errorf("Failed to fetch '%s': %w", uri.Value, err)
		}
	}
	return nil
}

func (f *fetcher) fetch(ctx context.Context, l Launch, uri mesos.CommandInfo_URI) error {
	name, err := outputName(uri)
	if err != nil {
		return err
	}
	target := filepath.Join(l.Dir, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if uri.GetCache() {
		sum := sha256.Sum256([]byte(uri.Value))
		cached := filepath.Join(l.Cache, hex.EncodeToString(sum[:])+"-"+path.Base(name))
		if err := f.once(ctx, cached, uri.Value); err != nil {
			return err
		}
		if err := copyFile(cached, target); err != nil {
			return err
		}
	} else if err := f.download(ctx, uri.Value, target); err != nil {
		return err
	}
	if uri.GetExecutable() {
		return os.Chmod(target, 0o755)
	}
	if uri.Extract == nil || *uri.Extract {
		return extract(target, l.Dir)
	}
	return nil
}

// outputName is where a URI goes in the sandbox.
func outputName(uri mesos.CommandInfo_URI) (string, error) {
	name := uri.GetOutputFile()
	if name == "" {
		u, err := url.Parse(uri.Value)
		if err != nil {
			return "", err
		}
		name = path.Base(u.Path)
	}
	if !filepath.IsLocal(name) || name == "." {
		return "", fmt.Errorf("'%s' is not a name inside the sandbox", name)
	}
	return name, nil
}

// once downloads a file into the cache; others that want it meanwhile wait for the same download.
func (f *fetcher) once(ctx context.Context, cached, uri string) error {
	f.mu.Lock()
	if _, err := os.Stat(cached); err == nil {
		f.mu.Unlock()
		return nil
	}
	d := f.flight[cached]
	if d == nil {
		d = &download{done: make(chan struct{})}
		f.flight[cached] = d
		go func() {
			if d.err = os.MkdirAll(filepath.Dir(cached), 0o755); d.err == nil {
				d.err = f.download(context.WithoutCancel(ctx), uri, cached)
			}
			f.mu.Lock()
			delete(f.flight, cached)
			f.mu.Unlock()
			close(d.done)
		}()
	}
	f.mu.Unlock()
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// download writes the content of a URI to a file, which appears only when it is complete.
func (f *fetcher) download(ctx context.Context, uri, target string) error {
	body, err := f.open(ctx, uri)
	if err != nil {
		return err
	}
	defer body.Close()
	return writeFile(target, body, 0o644)
}

func (f *fetcher) open(ctx context.Context, uri string) (io.ReadCloser, error) {
	switch {
	case strings.HasPrefix(uri, "http://"), strings.HasPrefix(uri, "https://"):
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
		if err != nil {
			return nil, err
		}
		response, err := f.client.Do(request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			response.Body.Close()
			return nil, fmt.Errorf("unexpected HTTP response '%s'", response.Status)
		}
		return response.Body, nil
	case strings.HasPrefix(uri, "file://"):
		return os.Open(strings.TrimPrefix(uri, "file://"))
	case filepath.IsAbs(uri):
		return os.Open(uri)
	}
	return nil, errors.New("only http, https and file URIs are supported")
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFile(to, in, 0o644)
}

func writeFile(target string, in io.Reader, mode os.FileMode) error {
	out, err := os.CreateTemp(filepath.Dir(target), ".fetch-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Chmod(mode), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), target)
	}
	if err != nil {
		_ = os.Remove(out.Name())
	}
	return err
}

// extract unpacks an archive beside itself, if its name says that it is one.
func extract(file, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	switch {
	case strings.HasSuffix(file, ".tar.gz"), strings.HasSuffix(file, ".tgz"):
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		return untar(z, root)
	case strings.HasSuffix(file, ".tar"):
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		return untar(in, root)
	case strings.HasSuffix(file, ".zip"):
		return unzip(file, root)
	}
	return nil
}

func untar(in io.Reader, root *os.Root) error {
	for archive := tar.NewReader(in); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(filepath.Clean(h.Name), 0o755)
		case tar.TypeReg:
			err = unpack(root, h.Name, h.FileInfo().Mode().Perm(), archive)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, filepath.Clean(h.Name))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func unzip(file string, root *os.Root) error {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, entry := range archive.File {
		if entry.FileInfo().IsDir() {
			err = root.MkdirAll(filepath.Clean(entry.Name), 0o755)
		} else {
			var in io.ReadCloser
			if in, err = entry.Open(); err == nil {
				err = errors.Join(unpack(root, entry.Name, entry.Mode().Perm(), in), in.Close())
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Name, err)
		}
	}
	return nil
}

func unpack(root *os.Root, name string, mode os.FileMode, in io.Reader) error {
	name = filepath.Clean(name)
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
