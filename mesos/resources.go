package mesos

// Resource is one entry of an offer or a task, in the form Mesos accounts it.
type Resource struct {
	// Name is "cpus", "mem", "disk", "ports" or any other name the agent was given.
	Name string
	// Milli is the scalar value in thousandths (Mesos keeps three decimals); 0 for ranges.
	Milli int64
	// Ranges is set for a resource of type RANGES.
	Ranges []Range
	// Role that the resource is statically or dynamically reserved to; empty when unreserved.
	ReservedTo string
	// AllocatedTo is the role of the allocation, which a launch must repeat.
	AllocatedTo string
	// Wire is the edge's own serialised form of what the nouns do not model (reservations, disk sources). It is
	// opaque: carried from an offer to a launch unchanged. Nil for a plain resource.
	Wire []byte
}

// Range is a closed interval.
type Range struct{ Begin, End uint64 }

// Amounts are the scalars that placement reckons with: thousandths of a CPU, thousandths of a MiB.
type Amounts struct {
	CPUMilli    int64
	MemoryMilli int64
	DiskMilli   int64
}

// Sum adds up the scalars of a list of resources.
func Sum(rs []Resource) Amounts {
	var a Amounts
	for _, r := range rs {
		switch r.Name {
		case "cpus":
			a.CPUMilli += r.Milli
		case "mem":
			a.MemoryMilli += r.Milli
		case "disk":
			a.DiskMilli += r.Milli
		}
	}
	return a
}

// Add returns a + b.
func (a Amounts) Add(b Amounts) Amounts {
	return Amounts{a.CPUMilli + b.CPUMilli, a.MemoryMilli + b.MemoryMilli, a.DiskMilli + b.DiskMilli}
}

// Sub returns a - b.
func (a Amounts) Sub(b Amounts) Amounts {
	return Amounts{a.CPUMilli - b.CPUMilli, a.MemoryMilli - b.MemoryMilli, a.DiskMilli - b.DiskMilli}
}

// Fits tells whether a is enough for b.
func (a Amounts) Fits(b Amounts) bool {
	return a.CPUMilli >= b.CPUMilli && a.MemoryMilli >= b.MemoryMilli && a.DiskMilli >= b.DiskMilli
}

// Carve takes want out of from and returns the entries taken and what remains. Reserved entries are used first, so
// that the unreserved ones stay for others. ok is false, and nothing is taken, if from is not enough.
func Carve(from []Resource, want Amounts) (taken, rest []Resource, ok bool) {
	if !Sum(from).Fits(want) {
		return nil, from, false
	}
	need := map[string]int64{"cpus": want.CPUMilli, "mem": want.MemoryMilli, "disk": want.DiskMilli}
	rest = make([]Resource, len(from))
	copy(rest, from)
	for _, reserved := range []bool{true, false} {
		for i := range rest {
			r := &rest[i]
			n := min(need[r.Name], r.Milli)
			if n <= 0 || (r.ReservedTo != "") != reserved {
				continue
			}
			t := *r
			t.Milli = n
			taken = append(taken, t)
			r.Milli -= n
			need[r.Name] -= n
		}
	}
	kept := rest[:0]
	for _, r := range rest {
		if r.Milli > 0 || len(r.Ranges) > 0 {
			kept = append(kept, r)
		}
	}
	return taken, kept, true
}
