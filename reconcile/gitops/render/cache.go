package render

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"maps"
	"slices"

	"padis.io/padis/reconcile/gitops/render/kustomize"
)

// Cache remembers what files came to, by their content, from one Render to the next. It holds decrypted secrets: it stays in memory.
// One goroutine uses it at a time. The zero Cache is empty.
type Cache struct {
	settings [sha256.Size]byte
	files    map[string]cachedFile
	builds   map[string]cachedBuild
	charts   map[string]cachedChart

	// what the Render at work used; the rest is forgotten
	newFiles  map[string]cachedFile
	newBuilds map[string]cachedBuild
	newCharts map[string]cachedChart
	parsed    int
}

type cachedFile struct {
	content [sha256.Size]byte
	// hash is what the tree says of the content, if it says anything, and size the bytes.
	hash string
	size int
	result
}

// cachedChart is good as long as all that its digest is of stays the same.
type cachedChart struct {
	content [sha256.Size]byte
	result
}

// cachedBuild is good as long as all that kustomize looked at looks the same.
type cachedBuild struct {
	used []kustomize.Use
	saw  [sha256.Size]byte
	result
}

// Parsed tells how many files, kustomizations and charts the last Render had to read anew.
func (c *Cache) Parsed() int { return c.parsed }

func (c *Cache) begin(in Input) *Cache {
	if c == nil {
		c = &Cache{}
	}
	if s := settings(in); s != c.settings {
		*c = Cache{settings: s}
	}
	c.parsed = 0
	c.newFiles = make(map[string]cachedFile, len(c.files))
	c.newBuilds = make(map[string]cachedBuild, len(c.builds))
	c.newCharts = make(map[string]cachedChart, len(c.charts))
	return c
}

func (c *Cache) end() {
	c.files, c.builds, c.charts = c.newFiles, c.newBuilds, c.newCharts
	c.newFiles, c.newBuilds, c.newCharts = nil, nil, nil
}

// settings are all inputs but the tree.
func settings(in Input) (sum [sha256.Size]byte) {
	h := sha256.New()
	field := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	field(in.Namespace)
	field(in.Default)
	field(fmt.Sprint(in.Options, in.Variables == nil, len(in.Variables)))
	for _, k := range slices.Sorted(maps.Keys(in.Variables)) {
		field(k)
		field(in.Variables[k])
		field(fmt.Sprint(in.Secret[k]))
	}
	field(in.Release)
	field(fmt.Sprint(in.Chart == nil, in.Helm == nil, in.Make == nil))
	if in.Helm != nil {
		field(string(in.Helm.Values))
		field(fmt.Sprintf("%q", in.Helm.ValuesFiles))
	}
	digest := in.Decrypt.Digest()
	h.Write(digest[:])
	h.Sum(sum[:0])
	return sum
}

// unread gives what a file came to that has the same hash still.
func (c *Cache) unread(name, hash string) (cachedFile, bool) {
	known, ok := c.files[name]
	return known, ok && hash != "" && known.hash == hash
}

func (c *Cache) file(name, hash string, data []byte, render func() result) result {
	content := sha256.Sum256(data)
	known, ok := c.files[name]
	if !ok || known.content != content {
		c.parsed++
		known = cachedFile{content: content, size: len(data), result: render()}
	}
	known.hash = hash
	c.newFiles[name] = known
	return known.result
}

func (c *Cache) build(dir string, look func(kustomize.Use) []byte, render func() (result, []kustomize.Use)) result {
	known, ok := c.builds[dir]
	if !ok || saw(known.used, look) != known.saw {
		c.parsed++
		r, used := render()
		used = distinct(used)
		known = cachedBuild{used, saw(used, look), r}
	}
	if !slices.ContainsFunc(known.problems, func(p Problem) bool { return p.Passing }) {
		c.newBuilds[dir] = known
	}
	return known.result
}

// chart remembers what the chart in a directory comes to, unless it may come to something else another time.
func (c *Cache) chart(dir string, content [sha256.Size]byte, render func() result) result {
	known, ok := c.charts[dir]
	if !ok || known.content != content {
		c.parsed++
		known = cachedChart{content, render()}
	}
	if !slices.ContainsFunc(known.problems, func(p Problem) bool { return p.Passing }) {
		c.newCharts[dir] = known
	}
	return known.result
}

func distinct(used []kustomize.Use) []kustomize.Use {
	seen := make(map[kustomize.Use]bool, len(used))
	return slices.DeleteFunc(used, func(u kustomize.Use) bool {
		twice := seen[u]
		seen[u] = true
		return twice
	})
}

func saw(used []kustomize.Use, look func(kustomize.Use) []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, u := range used {
		write(h, look(u))
	}
	h.Sum(sum[:0])
	return sum
}

func write(h hash.Hash, b []byte) {
	fmt.Fprintf(h, "%d:", len(b))
	h.Write(b)
}
