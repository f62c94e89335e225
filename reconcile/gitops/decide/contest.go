package decide

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// atOnce is how often what somebody changes is put back without a pause.
	atOnce = 5
	// firstPause comes then, and each is twice as long as the one before, up to longestPause.
	firstPause, longestPause = time.Second, 5 * time.Minute
	// calm is how long nothing must have been changed before all is forgotten; after pauses, it is twice the last one if that is
	// longer.
	calm = time.Minute
)

// ReasonDriftContested: somebody changes a field again as soon as it is put back.
const ReasonDriftContested = "DriftContested"

// Contender is a field manager that changes fields of an object; empty if nobody says who it was.
type Contender struct {
	ID ID
	By string
}

// Contest is how often what a contender has changed was put back, since when, and when last.
type Contest struct {
	Times       int
	Since, Last time.Time
	// Path is of the field that was put back last, and More how many others were.
	Path string
	More int
}

// Contests are what contenders do. They are kept in memory: after a start, all is calm.
type Contests map[Contender]Contest

// pause is how long what is changed now is left as it is.
func (c Contest) pause() time.Duration {
	if c.Times < atOnce {
		return 0
	}
	d := firstPause
	for range c.Times - atOnce {
		if d *= 2; d >= longestPause {
			return longestPause
		}
	}
	return d
}

// again is when what is changed is put back again.
func (c Contest) again() time.Time { return c.Last.Add(c.pause()) }

// over is when it is forgotten.
func (c Contest) over() time.Time { return c.Last.Add(max(calm, 2*c.pause())) }

// waits tells whether what a contender has changed is left as it is for now.
func (c Contests) waits(k Contender, now time.Time) bool {
	one, ok := c[k]
	return ok && now.Before(one.again())
}

// After gives the contests after drift was put back. Those that are over are forgotten.
func (c Contests) After(putBack []Drifted, now time.Time) Contests {
	out := maps.Clone(c)
	if out == nil {
		out = Contests{}
	}
	maps.DeleteFunc(out, func(_ Contender, one Contest) bool { return !now.Before(one.over()) })
	for _, d := range putBack {
		fields := map[string][]FieldChange{}
		for _, f := range d.Fields {
			fields[f.By] = append(fields[f.By], f)
		}
		for by, f := range fields {
			k := Contender{d.ID, by}
			one := out[k]
			if one.Times == 0 {
				one.Since = now
			}
			one.Times++
			one.Last, one.Path, one.More = now, f[0].Path, len(f)-1
			out[k] = one
		}
	}
	return out
}

// Words say of each contest that is no matter of once or twice how it stands: the same in conditions, statuses and events.
// waiting is what is left as it is.
func (c Contests) Words(waiting []Drifted, now time.Time) []string {
	left := map[Contender]bool{}
	for _, d := range waiting {
		for _, f := range d.Fields {
			left[Contender{d.ID, f.By}] = true
		}
	}
	var out []string
	for _, k := range slices.SortedFunc(maps.Keys(c), func(a, b Contender) int {
		if a.ID != b.ID {
			return compareIDs(a.ID, b.ID)
		}
		return slices.Compare([]string{a.By}, []string{b.By})
	}) {
		if one := c[k]; one.Times >= atOnce && now.Before(one.over()) {
			out = append(out, k.words(one, left[k]))
		}
	}
	return out
}

// Recurring is what Words say of drift that was put back just now.
func (c Contests) Recurring(putBack []Drifted, now time.Time) []string {
	these := Contests{}
	for _, d := range putBack {
		for _, f := range d.Fields {
			k := Contender{d.ID, f.By}
			if one, ok := c[k]; ok {
				these[k] = one
			}
		}
	}
	return these.Words(nil, now)
}

// Word is what Words say of one field that is left as it is.
func (c Contests) Word(id ID, f FieldChange) string {
	k := Contender{id, f.By}
	one, ok := c[k]
	if !ok || one.Times < atOnce {
		return ""
	}
	return k.words(one, true)
}

func (k Contender) words(c Contest, left bool) string {
	who, what, times := k.By, "has changed "+c.Path+" of "+k.ID.String(), c.Times
	if who == "" {
		who = "somebody"
	}
	if c.Path == "" {
		what = "has deleted " + k.ID.String()
	}
	if c.More > 0 {
		what += fmt.Sprintf(" and %d more of its fields", c.More)
	}
	end := "it was put back at " + stamp(c.Last)
	if left {
		times++
		end = "it is put back again at " + stamp(c.again())
	}
	return fmt.Sprintf("%s %s %d times since %s; %s: have it stop, or take the field out of the repository", who, what, times, stamp(c.Since), end)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Wake is when something of the contests changes by itself: something is put back again, or one is over; zero if nothing does.
func (c Contests) Wake(waiting []Drifted, now time.Time) time.Time {
	var out time.Time
	at := func(t time.Time) {
		if t.After(now) && (out.IsZero() || t.Before(out)) {
			out = t
		}
	}
	for _, d := range waiting {
		for _, f := range d.Fields {
			if one, ok := c[Contender{d.ID, f.By}]; ok {
				at(one.again())
			}
		}
	}
	for _, one := range c {
		if one.Times >= atOnce {
			at(one.over())
		}
	}
	return out
}
