package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Options of a Cache. What is zero has the value that is said.
type Options struct {
	// FileRoots are the directories of this host whose repositories may be read by file://; without any, none.
	FileRoots []string
	// MaxFile is the size of a file, 10 MiB, and MaxTree that of all files that are read of one tree, 100 MiB.
	MaxFile, MaxTree int64
	// MaxPack is what one fetch may bring, 2 GiB.
	MaxPack int64
	// MaxPacks after which a source is fetched anew as one pack, 50. So is one that has grown threefold.
	MaxPacks int
	// Damaged is told of sources whose objects are found to be damaged, so that they are fetched before it is their time. It must not block.
	Damaged func(source string)
	// Dial connects to servers and proxies; without it, this host does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Cache holds the objects of all sources, in a directory that survives restarts. One process uses it at a time.
type Cache struct {
	dir     string
	options Options
	mu      sync.Mutex
	sources map[string]*cached
}

// Open opens the cache in the directory, and makes it if need be.
func Open(dir string, o Options) (*Cache, error) {
	for _, d := range []struct {
		v    *int64
		zero int64
	}{{&o.MaxFile, 10 << 20}, {&o.MaxTree, 100 << 20}, {&o.MaxPack, 2 << 30}} {
		if *d.v == 0 {
			*d.v = d.zero
		}
	}
	if o.MaxPacks == 0 {
		o.MaxPacks = 50
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("git cache: %w", err)
	}
	return &Cache{dir: dir, options: o, sources: map[string]*cached{}}, nil
}

// Retain removes the caches of all sources but those named, and those of their submodules.
func (c *Cache) Retain(names []string) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("git cache: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(c.dir, e.Name())
		s, err := readState(dir)
		if err != nil {
			return fmt.Errorf("git cache: %w", err)
		}
		owner, _, _ := strings.Cut(s.Name, submoduleMark)
		if slices.Contains(names, owner) {
			continue
		}
		src := c.source(s.Name)
		src.busy.Lock()
		err = os.RemoveAll(dir)
		src.mu.Lock()
		src.state = state{}
		src.mu.Unlock()
		src.busy.Unlock()
		if err != nil {
			return fmt.Errorf("git cache: %w", err)
		}
	}
	return nil
}

// cached is the cache of one source: generations of packs, of which the last two are kept, so that whoever reads a tree is
// not disturbed by a new one.
type cached struct {
	dir string
	// busy is held while something is fetched.
	busy sync.Mutex
	// damaged is called when objects are found to be so.
	damaged func()
	// mu guards state and spoilt.
	mu    sync.Mutex
	state state
	// spoilt: what is there is not built upon any more.
	spoilt bool
}

// state is what is known of a source's cache, beside its packs.
type state struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Generation that is in use; 0 is none.
	Generation int `json:"generation"`
	// Heads have been fetched, the last one last, with everything that they are made of.
	Heads []string `json:"heads,omitempty"`
	// Shallow commits are those whose parents were not fetched.
	Shallow []string `json:"shallow,omitempty"`
	// Tags as they were seen first, to tell when one is moved.
	Tags map[string]string `json:"tags,omitempty"`
	// Packs of the generation and their bytes, and the bytes that it began with.
	Packs int   `json:"packs"`
	Bytes int64 `json:"bytes"`
	Began int64 `json:"began"`
}

// maxHeads that are named to a server; the newest is what it has, but for a branch that was changed.
const maxHeads = 32

// submoduleMark is between the name of a source and the path of a submodule of it.
const submoduleMark = "//"

func (c *Cache) source(name string) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.sources[name]
	if !ok {
		sum := sha256.Sum256([]byte(name))
		s = &cached{dir: filepath.Join(c.dir, hex.EncodeToString(sum[:16])), damaged: func() {
			if c.options.Damaged != nil {
				owner, _, _ := strings.Cut(name, submoduleMark)
				c.options.Damaged(owner)
			}
		}}
		// What cannot be read is fetched again.
		if st, err := readState(s.dir); err == nil && st.Name == name {
			s.state = st
		}
		c.sources[name] = s
	}
	return s
}

func readState(dir string) (state, error) {
	var s state
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if json.Unmarshal(b, &s) != nil {
		return state{}, nil
	}
	return s, nil
}

func (s *cached) now() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// spoil notes that objects are damaged.
func (s *cached) spoil() {
	s.mu.Lock()
	known := s.spoilt
	s.spoilt = true
	s.mu.Unlock()
	if !known {
		s.damaged()
	}
}

// mend tells whether objects were found to be damaged since the last time.
func (s *cached) mend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.spoilt
	s.spoilt = false
	return was
}

// save makes the state the one in use, and removes what no longer is.
func (s *cached) save(st state) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(s.dir, "state.json"), b); err != nil {
		return err
	}
	s.mu.Lock()
	s.state = st
	s.mu.Unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "generation-%d", &n); err == nil && n != st.Generation && n != st.Generation-1 {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (s *cached) generation(n int) string {
	return filepath.Join(s.dir, fmt.Sprintf("generation-%d", n))
}

// objects reads what is in the packs of a source. It is safe for concurrent use.
type objects struct {
	mu     sync.Mutex
	stores []*filesystem.Storage
	// spoil is told that they are damaged.
	spoil func()
}

// open the generation of the state and the one before, which has what was not fetched again.
func (s *cached) open(st state) *objects {
	o := &objects{spoil: s.spoil}
	for _, n := range []int{st.Generation, st.Generation - 1} {
		if dir := s.generation(n); n > 0 && isDir(dir) {
			o.stores = append(o.stores, filesystem.NewStorageWithOptions(osfs.New(dir), cache.NewObjectLRU(8*cache.MiByte),
				filesystem.Options{KeepDescriptors: true, LargeObjectThreshold: 1 << 20}))
		}
	}
	return o
}

func isDir(name string) bool {
	s, err := os.Stat(name)
	return err == nil && s.IsDir()
}

func (o *objects) get(kind plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	for i, s := range o.stores {
		obj, err := s.EncodedObject(kind, h)
		if !errors.Is(err, plumbing.ErrObjectNotFound) {
			return obj, o.read(err, i == 0)
		}
	}
	return nil, fmt.Errorf("%s %s: %w", kind, h, plumbing.ErrObjectNotFound)
}

func (o *objects) size(h plumbing.Hash) (int64, error) {
	for i, s := range o.stores {
		n, err := s.EncodedObjectSize(h)
		if !errors.Is(err, plumbing.ErrObjectNotFound) {
			return n, o.read(err, i == 0)
		}
	}
	return 0, plumbing.ErrObjectNotFound
}

// read says what it means that an object cannot be read: it was fetched whole, so that the disk has not kept it. What is in the
// generation before has been fetched anew already, if the server still has it.
func (o *objects) read(err error, newest bool) error {
	if err == nil {
		return nil
	}
	// What was closed or removed under a reader is not damaged.
	if newest && o.spoil != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrClosed) {
		o.spoil()
	}
	return &Error{Reason: ReasonCacheDamaged, Message: fmt.Sprintf("what was fetched of the repository is damaged (%v): it is fetched anew", err), Err: err}
}

func (o *objects) has(h plumbing.Hash) bool {
	_, err := o.size(h)
	return err == nil
}

func (o *objects) close() {
	for _, s := range o.stores {
		_ = s.Close()
	}
}
