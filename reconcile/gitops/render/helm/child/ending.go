package child

import (
	"fmt"
	"strings"
	"time"

	"padis.io/padis/reconcile/gitops/render/helm"
)

// ending is how a child ended.
type ending struct {
	out    []byte
	said   string        // beginning of what it said to stderr: Go's runtime, in the hour of its death
	cpu    time.Duration // what it used
	failed bool
	large  bool // its answer was cut off
	late   bool // it was killed because of the time on the wall
}

// death says why a child ended before it was done; nil if it did its work. What the child said is not told: it may hold values.
func (e ending) death(b Bounds) *helm.Death {
	says := func(s string) bool { return strings.Contains(e.said, s) }
	switch {
	case e.large || says(tooLarge):
		return &helm.Death{Message: fmt.Sprintf("rendering gives more than %d bytes: mend the template that repeats itself, or split the chart", b.Response)}
	case e.failed && e.cpu >= b.CPU-b.CPU/10: // the kernel counts the bound by another clock
		return &helm.Death{Message: fmt.Sprintf("rendering takes more than %s of processor time: mend the template that does not end", b.CPU)}
	case e.late:
		return &helm.Death{Message: fmt.Sprintf("rendering was not done after %s, of which it may use %s: this machine has too much to do, or too little", b.Wall, b.CPU), Passing: true}
	case says("stack exceeds"), says("stack overflow"):
		return &helm.Death{Message: "rendering does not end: templates include each other without end, or a value has no bottom"}
	case says("out of memory"), says("cannot allocate memory"), says("errno=12"), says("failed to create new OS thread"):
		return &helm.Death{Message: fmt.Sprintf("rendering takes more than %d MiB of memory: mend the template that gathers so much", b.Memory>>20)}
	case e.failed:
		return &helm.Death{Message: "the process that renders charts has ended before it was done", Passing: true}
	}
	return nil
}
