package decide

import (
	"maps"
	"slices"
	"strings"
)

// Dependent is a Sync and what it waits for, all as NAMESPACE/NAME.
type Dependent struct {
	Name      string
	DependsOn []string
	// Ready: it has applied the newest commit of its source, and all of it is healthy.
	Ready bool
}

// Dependency is whether a Sync may go on.
type Dependency struct {
	// Ready: all that it depends on is ready, and it waits for nobody who waits for it.
	Ready bool
	// Waiting are those that are not ready, and Missing those that do not exist.
	Waiting, Missing []string
	// Cycle is how it waits for itself, from itself to itself; empty if it does not. Who waits for a cycle without
	// being part of it waits for those in it.
	Cycle []string
}

// String says what a Sync waits for.
func (d Dependency) String() string {
	switch {
	case len(d.Cycle) > 0:
		return "waits for itself: " + strings.Join(d.Cycle, " -> ") + ": remove one of these from spec.dependsOn"
	case len(d.Missing) > 0:
		return "waits for " + strings.Join(d.Missing, ", ") + ", which does not exist: declare it, or remove it from spec.dependsOn"
	case len(d.Waiting) > 0:
		return "waits for " + strings.Join(d.Waiting, ", ")
	}
	return "waits for nobody"
}

// Depends says of each Sync whether what it depends on is ready.
func Depends(syncs []Dependent) map[string]Dependency {
	by := make(map[string]Dependent, len(syncs))
	for _, s := range syncs {
		by[s.Name] = s
	}
	out := make(map[string]Dependency, len(by))
	for name, s := range by {
		d := Dependency{Cycle: cycle(name, by)}
		for _, on := range slices.Compact(slices.Sorted(slices.Values(s.DependsOn))) {
			switch dep, exists := by[on]; {
			case !exists:
				d.Missing = append(d.Missing, on)
			case !dep.Ready:
				d.Waiting = append(d.Waiting, on)
			}
		}
		d.Ready = len(d.Cycle)+len(d.Waiting)+len(d.Missing) == 0
		out[name] = d
	}
	return out
}

// cycle finds the shortest way from a Sync to itself, the first one by name.
func cycle(name string, by map[string]Dependent) []string {
	from := map[string]string{}
	level := []string{name}
	for len(level) > 0 {
		next := map[string]string{}
		for _, at := range level {
			for _, on := range slices.Sorted(slices.Values(by[at].DependsOn)) {
				if on == name {
					way := []string{name}
					for ; at != name; at = from[at] {
						way = append(way, at)
					}
					way = append(way, name)
					slices.Reverse(way)
					return way
				}
				if _, seen := from[on]; seen {
					continue
				}
				if _, again := next[on]; !again {
					next[on] = at
				}
			}
		}
		maps.Copy(from, next)
		level = slices.Sorted(maps.Keys(next))
	}
	return nil
}
