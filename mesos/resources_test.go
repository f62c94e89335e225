package mesos

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever is carved out and what remains always add up to what was there, and a refusal takes nothing.
func TestCarveConservesResources(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"cpus", "mem", "disk"}
		n := rapid.IntRange(0, 6).Draw(t, "entries")
		var from []Resource
		for range n {
			from = append(from, Resource{
				Name:       rapid.SampledFrom(names).Draw(t, "name"),
				Milli:      rapid.Int64Range(1, 8000).Draw(t, "milli"),
				ReservedTo: rapid.SampledFrom([]string{"", "padis"}).Draw(t, "reserved"),
			})
		}
		want := Amounts{rapid.Int64Range(0, 9000).Draw(t, "c"), rapid.Int64Range(0, 9000).Draw(t, "m"), rapid.Int64Range(0, 9000).Draw(t, "d")}
		before := Sum(from)
		taken, rest, ok := Carve(from, want)
		if ok != before.Fits(want) {
			t.Fatalf("ok=%v but have %+v, want %+v", ok, before, want)
		}
		if got := Sum(taken).Add(Sum(rest)); got != before {
			t.Fatalf("taken+rest = %+v, had %+v", got, before)
		}
		if ok && Sum(taken) != want {
			t.Fatalf("took %+v, wanted %+v", Sum(taken), want)
		}
	})
}
