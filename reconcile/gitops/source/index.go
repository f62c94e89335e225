package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// Bounds of a pack. go-git's own indexer reads every object into memory whole; this one hashes files as they stream by,
// and keeps in memory only what others are deltas of.
const (
	// maxObjects of one pack; each costs some 150 bytes of memory while it is indexed.
	maxObjects = 4 << 20
	// maxStructure is the size of a commit, tag or tree.
	maxStructure = 32 << 20
	// maxDelta is the size of an object that is stored as a delta, or that others are deltas of.
	maxDelta = 64 << 20
	// maxLive is how much of them is in memory at once.
	maxLive = 256 << 20
)

// packed is an object of a pack that is being indexed.
type packed struct {
	offset   int64
	size     int64
	crc      uint32
	kind     plumbing.ObjectType
	hash     plumbing.Hash
	children []int32
}

// indexer resolves the deltas of one pack.
type indexer struct {
	ctx     context.Context
	scanner *packfile.Scanner
	objects []packed
	// waiting are deltas of an object that has not turned up yet.
	waiting  map[plumbing.Hash][]int32
	resolved int
	live     int64
}

// writeIndex reads a pack and writes its index.
func writeIndex(ctx context.Context, pack *os.File, idx io.Writer) (plumbing.Hash, error) {
	x := &indexer{ctx: ctx, scanner: packfile.NewScanner(pack), waiting: map[plumbing.Hash][]int32{}}
	_, count, err := x.scanner.Header()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if count > maxObjects {
		return plumbing.ZeroHash, fail(ReasonTooLarge, "the repository has %d objects, at most %d are read: use a repository with less history", count, maxObjects)
	}
	roots, err := x.scan(int(count))
	if err != nil {
		return plumbing.ZeroHash, err
	}
	sum, err := x.scanner.Checksum()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	for _, i := range roots {
		if len(x.objects[i].children) == 0 {
			continue
		}
		base, err := x.read(i)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if err := x.resolve(i, base); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	if x.resolved != len(x.objects) {
		return plumbing.ZeroHash, fmt.Errorf("the pack has %d objects whose base is not in it", len(x.objects)-x.resolved)
	}
	w := new(idxfile.Writer)
	if err := w.OnHeader(count); err != nil {
		return plumbing.ZeroHash, err
	}
	for _, o := range x.objects {
		if err := w.OnInflatedObjectContent(o.hash, o.offset, o.crc, nil); err != nil {
			return plumbing.ZeroHash, err
		}
	}
	if err := w.OnFooter(sum); err != nil {
		return plumbing.ZeroHash, err
	}
	index, err := w.Index()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	_, err = idxfile.NewEncoder(idx).Encode(index)
	return sum, err
}

// scan goes over the pack once. It gives the objects that are no deltas.
func (x *indexer) scan(count int) ([]int32, error) {
	var roots []int32
	byOffset := map[int64]int32{}
	for i := int32(0); int(i) < count; i++ {
		if err := x.ctx.Err(); err != nil {
			return nil, err
		}
		h, err := x.scanner.NextObjectHeader()
		if err != nil {
			return nil, err
		}
		o := packed{offset: h.Offset, size: h.Length, kind: h.Type}
		switch {
		case h.Type.IsDelta() && h.Length > maxDelta, !h.Type.IsDelta() && h.Type != plumbing.BlobObject && h.Length > maxStructure:
			return nil, fail(ReasonTooLarge, "an object of the kind %s has %d bytes: take it out of the history, or let the server filter (uploadpack.allowFilter)", h.Type, h.Length)
		case h.Type.IsDelta():
			if _, o.crc, err = x.scanner.NextObject(io.Discard); err != nil {
				return nil, err
			}
		default:
			hasher := plumbing.NewHasher(h.Type, h.Length)
			if _, o.crc, err = x.scanner.NextObject(hasher); err != nil {
				return nil, err
			}
			o.hash = hasher.Sum()
			roots = append(roots, i)
			x.resolved++
		}
		x.objects = append(x.objects, o)
		byOffset[h.Offset] = i
		switch h.Type {
		case plumbing.OFSDeltaObject:
			base, ok := byOffset[h.OffsetReference]
			if !ok {
				return nil, fmt.Errorf("the pack has a delta at %d of nothing at %d", h.Offset, h.OffsetReference)
			}
			x.objects[base].children = append(x.objects[base].children, i)
		case plumbing.REFDeltaObject:
			x.waiting[h.Reference] = append(x.waiting[h.Reference], i)
		}
	}
	for _, i := range roots {
		x.adopt(i)
	}
	return roots, nil
}

// adopt makes the deltas that name the object by its hash its children.
func (x *indexer) adopt(i int32) {
	o := &x.objects[i]
	if w, ok := x.waiting[o.hash]; ok {
		o.children = append(o.children, w...)
		delete(x.waiting, o.hash)
	}
}

// read gives the bytes of the pack's object, which for a delta are its instructions.
func (x *indexer) read(i int32) ([]byte, error) {
	o := x.objects[i]
	if o.size > maxDelta {
		return nil, fail(ReasonTooLarge, "a file of %d bytes (%s) is packed as changes of another, at most %d are: let the server filter (uploadpack.allowFilter), or take it out of the history", o.size, o.hash, maxDelta)
	}
	if _, err := x.scanner.SeekObjectHeader(o.offset); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, _, err := x.scanner.NextObject(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// resolve gives the deltas of an object their hashes, and theirs. The content of an object is let go with its last delta, so
// that a long chain needs no more memory than two of its links.
func (x *indexer) resolve(i int32, content []byte) error {
	x.live += int64(len(content))
	size := int64(len(content))
	if x.live > maxLive {
		return fail(ReasonTooLarge, "files of more than %d bytes in all are packed as changes of one another: let the server filter (uploadpack.allowFilter), or take it out of the history", maxLive)
	}
	children := x.objects[i].children
	for n, c := range children {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		delta, err := x.read(c)
		if err != nil {
			return err
		}
		if want, err := targetSize(delta); err != nil || want > maxDelta {
			return fail(ReasonTooLarge, "a file of %d bytes is packed as changes of another, at most %d are: let the server filter (uploadpack.allowFilter), or take it out of the history", want, maxDelta)
		}
		target, err := packfile.PatchDelta(content, delta)
		if err != nil {
			return err
		}
		o := &x.objects[c]
		o.kind = x.objects[i].kind
		o.hash = plumbing.ComputeHash(o.kind, target)
		x.resolved++
		x.adopt(c)
		if n == len(children)-1 {
			content = nil
			x.live -= size
		}
		if len(o.children) > 0 {
			if err := x.resolve(c, target); err != nil {
				return err
			}
		}
	}
	return nil
}

// targetSize is the second of the two numbers that a delta begins with.
func targetSize(delta []byte) (int64, error) {
	var n int64
	for range 2 {
		n = 0
		for shift := 0; ; shift += 7 {
			if len(delta) == 0 || shift > 56 {
				return 0, errors.New("the delta has no sizes")
			}
			b := delta[0]
			delta = delta[1:]
			n |= int64(b&0x7f) << shift
			if b < 0x80 {
				break
			}
		}
	}
	return n, nil
}
