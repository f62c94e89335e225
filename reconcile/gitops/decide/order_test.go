package decide

import (
	"strings"
	"testing"
)

func TestKindsThatNeedEachOtherAreNotWrittenTogether(t *testing.T) {
	for list, want := range map[string]int{
		"":                          0,
		"App":                       1,
		"App App App LoadBalancer":  3,
		"ConfigMap Secret Secret":   3,
		"LoadBalancer App":          1,
		"Role ClusterRole App":      2,
		"Unknown Unknown Other":     2,
		"Unknown ExecutorUpgrade X": 1,
	} {
		if got := Together(strings.Fields(list), func(kind string) ID { return ID{Kind: kind} }); got != want {
			t.Errorf("%s: %d, want %d", list, got, want)
		}
	}
}
