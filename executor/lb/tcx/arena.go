package tcx

import (
	"cmp"
	"slices"
)

// Tables are kept in pages of the kernel's memory, in units of 64 bytes. No table crosses the end of a page. Position 0 is
// never given: it says "none".
const (
	unit      = 64
	pageBytes = 4 << 20
	pageUnits = pageBytes / unit
	maxPages  = 256
)

// block is a piece of the pages, in units.
type block struct{ position, units uint32 }

// arena knows which units are free.
type arena struct {
	pages int
	free  []block // by position; blocks of one page that touch are one
}

func (a *arena) clone() arena { return arena{a.pages, slices.Clone(a.free)} }

// alloc finds room for n bytes, in a new page if there is none in the others. False: all pages are in use, or n is more than a
// page has.
func (a *arena) alloc(n int) (block, bool) {
	want := uint32((n + unit - 1) / unit)
	if want == 0 || want > pageUnits {
		return block{}, false
	}
	for {
		for i := range a.free {
			if f := &a.free[i]; f.units >= want {
				b := block{f.position, want}
				f.position, f.units = f.position+want, f.units-want
				if f.units == 0 {
					a.free = slices.Delete(a.free, i, i+1)
				}
				return b, true
			}
		}
		if a.pages == maxPages {
			return block{}, false
		}
		b := block{uint32(a.pages) * pageUnits, pageUnits}
		if a.pages == 0 {
			b = block{1, pageUnits - 1}
		}
		a.pages++
		a.free = append(a.free, b)
	}
}

func (a *arena) release(b block) {
	i, _ := slices.BinarySearchFunc(a.free, b, func(x, y block) int { return cmp.Compare(x.position, y.position) })
	touches := func(x, y block) bool {
		return x.position+x.units == y.position && x.position/pageUnits == y.position/pageUnits
	}
	if i < len(a.free) && touches(b, a.free[i]) {
		b.units += a.free[i].units
		a.free = slices.Delete(a.free, i, i+1)
	}
	if i > 0 && touches(a.free[i-1], b) {
		a.free[i-1].units += b.units
		return
	}
	a.free = slices.Insert(a.free, i, b)
}

// numbers gives small numbers that are not in use, from its first on.
type numbers struct {
	next, limit uint32
	free        []uint32
}

func (n *numbers) clone() numbers { return numbers{n.next, n.limit, slices.Clone(n.free)} }

func (n *numbers) take() (uint32, bool) {
	if k := len(n.free); k > 0 {
		x := n.free[k-1]
		n.free = n.free[:k-1]
		return x, true
	}
	if n.next == n.limit {
		return 0, false
	}
	n.next++
	return n.next - 1, true
}

func (n *numbers) give(x uint32) { n.free = append(n.free, x) }
