package plan

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// mostInstances bounds how many instances of one App are listed for one fate, mostAddresses how many addresses, and
	// mostKept how many objects that stay.
	mostInstances, mostAddresses, mostKept = 20, 40, 40
	// widest is how much of a value is shown.
	widest = 100
)

// Text is the plan as people read it. Marks are + for what is made, ~ for what changes, > for what moves, - for what ends, ? for
// what waits, = for what stays although it has left a repository, and ! for what is refused.
func Text(p *Plan) string {
	var b strings.Builder
	t := text{&b}
	t.sync(p.Sync)
	t.objects(p.Objects)
	t.kept(p.Kept)
	for i := range p.Apps {
		t.app(&p.Apps[i])
	}
	t.addresses(p.Addresses)
	t.quotas(p.Quotas)
	t.violations(p.Violations)
	if p.Unfinished != "" {
		t.line("Not all is known: %s\n", p.Unfinished)
	}
	t.summary(p)
	return b.String()
}

type text struct{ b *strings.Builder }

func (t text) line(format string, args ...any) { fmt.Fprintf(t.b, format+"\n", args...) }

var marks = map[Action]string{Create: "+", Update: "~", Delete: "-", Unchanged: " "}

func (t text) objects(objects []Object) {
	n := 0
	for i := range objects {
		o := &objects[i]
		if o.Action == Unchanged && len(o.Refusals) == 0 && o.Verdict == nil {
			continue
		}
		n++
		mark := marks[o.Action]
		if len(o.Refusals) > 0 {
			mark = "!"
		}
		if o.Because != "" {
			t.line("%s %s %s, which %s", mark, o.Kind, o.name(), o.Because)
		} else {
			t.line("%s %s %s", mark, o.Kind, o.name())
		}
		t.fields(o.Fields)
		for _, r := range o.Refusals {
			t.line("    refused: %s", r)
		}
		if o.Verdict != nil {
			t.line("    would not be in force: %s", *o.Verdict)
		}
	}
	if n > 0 {
		t.line("")
	}
}

// FieldsText lists fields that differ as a plan does.
func FieldsText(fields []Field) string {
	var b strings.Builder
	text{&b}.fields(fields)
	return b.String()
}

func (t text) fields(fields []Field) {
	for _, f := range fields {
		switch {
		case f.Before == nil:
			t.line("    + %s: %s", f.Path, short(string(f.After)))
		case f.After == nil:
			t.line("    - %s: %s", f.Path, short(string(f.Before)))
		default:
			t.line("    ~ %s: %s -> %s", f.Path, short(string(f.Before)), short(string(f.After)))
		}
	}
}

func (o *Object) name() string { return title(o.Namespace, o.Name) }

func title(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func (t text) sync(s *Sync) {
	if s == nil {
		return
	}
	what := "the working copy " + s.From
	if s.Commit != "" {
		what = "commit " + s.Commit
		if s.Ref != "" {
			what += " of " + s.Ref
		}
		what += " from " + s.From
	}
	t.line("Sync %s/%s would apply %s", s.Namespace, s.Name, what)
	for _, n := range s.Notes {
		t.line("    note: %s", n)
	}
	t.line("")
}

func (t text) kept(list []Kept) {
	for i, k := range list {
		if i == mostKept {
			t.line("  ... and %d more that stay", len(list)-i)
			break
		}
		t.line("= %s %s %s", k.Kind, title(k.Namespace, k.Name), k.Message)
	}
	if len(list) > 0 {
		t.line("")
	}
}

func (t text) violations(list []Refusal) {
	for _, v := range list {
		t.line("! %s", v)
	}
	if len(list) > 0 {
		t.line("")
	}
}

// String gives "reason: field: message", as far as it is known.
func (r Refusal) String() string {
	var parts []string
	for _, s := range []string{r.Reason, r.Field, r.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

func short(s string) string {
	if len(s) <= widest {
		return s
	}
	cut := widest
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:cut], len(s))
}

var fates = []struct {
	fate Fate
	mark string
}{{Started, "+"}, {Replaced, "~"}, {Moved, ">"}, {Stopped, "-"}, {Waiting, "?"}}

func (t text) app(a *App) {
	by := map[Fate][]Instance{}
	for _, in := range a.Instances {
		by[in.Fate] = append(by[in.Fate], in)
	}
	var counts []string
	for _, f := range fates {
		if n := len(by[f.fate]); n > 0 {
			counts = append(counts, fmt.Sprintf("%d to %s", n, f.fate))
		}
	}
	if len(counts) == 0 {
		counts = []string{"nothing now"}
	}
	t.line("Instances of %s/%s: %s", a.Namespace, a.Name, strings.Join(counts, ", "))
	for _, f := range fates {
		for i, in := range by[f.fate] {
			if i == mostInstances {
				t.line("    %s ... and %d more", f.mark, len(by[f.fate])-i)
				break
			}
			t.line("    %s %s", f.mark, in.sentence())
		}
	}
	if r := a.Rollout; r != nil {
		if n := len(r.Batches); n > 0 {
			var sizes []string
			for _, b := range r.Batches[:min(n, mostInstances)] {
				sizes = append(sizes, spans(b))
			}
			if n > mostInstances {
				sizes = append(sizes, fmt.Sprintf("and %d more", n-mostInstances))
			}
			t.line("    in %s: %s; at least %d of %d stay ready (%d must)", plural(n, "batch", "batches"), strings.Join(sizes, "; "), r.Lowest, r.Replicas, r.Minimum)
			if r.Lowest < r.Minimum {
				t.line("    ! fewer than spec.update.maxUnavailable leaves: %d ready, and %d must be", r.Lowest, r.Minimum)
			}
		}
		if len(r.Held) > 0 {
			t.line("    slots %s stay as they are: %s", spans(r.Held), r.Because)
		}
	}
	t.line("")
}

func (in Instance) sentence() string {
	s := in.Name
	switch in.Fate {
	case Moved:
		s += " from " + in.From + " to " + in.To
	case Stopped:
		if in.From != "" {
			s += " on " + in.From
		}
	case Waiting:
		if in.From != "" {
			s += " stops on " + in.From + " and"
		}
		s += " waits: " + Refusal{Reason: in.Reason, Message: in.Why}.String()
		return s
	default:
		s += " on " + in.To
	}
	if len(in.Addresses) > 0 {
		s += " at " + strings.Join(in.Addresses, ", ")
	}
	if in.Batch > 0 {
		s += fmt.Sprintf(", batch %d", in.Batch)
	}
	var why []string
	for _, w := range []string{in.Cause, in.Why} {
		if w != "" {
			why = append(why, w)
		}
	}
	if len(why) > 0 {
		s += ": " + strings.Join(why, "; ")
	}
	return s
}

func (t text) addresses(list []Address) {
	if len(list) == 0 {
		return
	}
	t.line("Addresses")
	for i, a := range list {
		if i == mostAddresses {
			t.line("    ... and %d more", len(list)-i)
			break
		}
		rest := ""
		if a.Cooling {
			rest = ", and rests"
		}
		switch {
		case a.From == "":
			t.line("    + %s of pool %s is leased to %s", a.Address, a.Pool, a.To)
		case a.To == "":
			t.line("    - %s of pool %s is given back by %s%s", a.Address, a.Pool, a.From, rest)
		default:
			t.line("    > %s of pool %s goes from %s to %s", a.Address, a.Pool, a.From, a.To)
		}
	}
	t.line("")
}

func (t text) quotas(list []Quota) {
	for _, q := range list {
		what := fmt.Sprintf("%d held", q.Held)
		if q.Refused > 0 {
			what += fmt.Sprintf(", %s without", plural(int(q.Refused), "instance", "instances"))
		}
		t.line("! Quota of tenant %s: %d addresses of pool %s, %s", q.Tenant, q.Max, q.Pool, what)
	}
	if len(list) > 0 {
		t.line("")
	}
}

func (t text) summary(p *Plan) {
	if !p.Changes() && !p.Refused() {
		t.line("Nothing would change.")
		return
	}
	n := map[Action]int{}
	refused := 0
	for i := range p.Objects {
		if len(p.Objects[i].Refusals) > 0 {
			refused++
			continue
		}
		n[p.Objects[i].Action]++
	}
	t.line("Objects: %d to create, %d to update, %d to delete, %d unchanged.", n[Create], n[Update], n[Delete], n[Unchanged])
	by := map[Fate]int{}
	for i := range p.Apps {
		for _, in := range p.Apps[i].Instances {
			by[in.Fate]++
		}
	}
	t.line("Instances: %d to create, %d to replace, %d to move, %d to stop, %d would wait.", by[Started], by[Replaced], by[Moved], by[Stopped], by[Waiting])
	if refused > 0 {
		t.line("%s refused: nothing can be applied before that is corrected.", plural(refused, "object is", "objects are"))
	}
	if n := len(p.Violations); n > 0 {
		t.line("%s in the way: see above.", plural(n, "rule is", "rules are"))
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// spans prints ascending slots, for example "0-3,7".
func spans(slots []int32) string {
	var parts []string
	for n := 0; n < len(slots); {
		m := n + 1
		for m < len(slots) && slots[m] == slots[m-1]+1 {
			m++
		}
		if m == n+1 {
			parts = append(parts, fmt.Sprint(slots[n]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", slots[n], slots[m-1]))
		}
		n = m
	}
	return strings.Join(parts, ",")
}
