package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
)

func wanted(app *v1alpha1.App) int32 {
	if app.Spec.Replicas == nil {
		return 1
	}
	return *app.Spec.Replicas
}

func readyCount(instances []runtime.Instance) (n int) {
	for _, i := range instances {
		if i.Status.Ready {
			n++
		}
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// byCount sorts reasons, the most frequent first.
func byCount(counts map[string]int32) []string {
	reasons := sortedKeys(counts)
	slices.SortStableFunc(reasons, func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
	return reasons
}

func refusals(counts map[string]int32) string {
	var parts []string
	for _, r := range byCount(counts) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[r], r))
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func thousandths(milli int64) string {
	sign := ""
	if milli < 0 {
		sign, milli = "-", -milli
	}
	text := fmt.Sprintf("%s%d.%03d", sign, milli/1000, milli%1000)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// ago is the time from then to now; clocks of different machines may disagree, so it is never negative.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "unknown time"
	}
	return span(now.Sub(then))
}

// span is a duration in its greatest unit that says enough.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", (d+time.Second-1)/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}
