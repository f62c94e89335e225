package status

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"padis.io/padis/api/v1alpha1"
)

func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// A condition keeps its time as long as its status is the same, whatever else it says.
func TestTimed(t *testing.T) {
	before := []metav1.Condition{
		{Type: "Available", Status: "True", Reason: "Ready", LastTransitionTime: metav1.NewTime(at(10))},
		{Type: "Accepted", Status: "True", LastTransitionTime: metav1.NewTime(at(11))},
	}
	after := Timed(before, []metav1.Condition{
		{Type: "Available", Status: "True", Reason: "ScaledToZero"},
		{Type: "Accepted", Status: "False"},
		{Type: "Progressing", Status: "True"},
	}, at(20).Add(300*time.Millisecond))
	for n, want := range []int64{10, 20, 20} {
		if got := after[n].LastTransitionTime.Time; !got.Equal(at(want)) {
			t.Errorf("%s changed at %s, want %s", after[n].Type, got, at(want))
		}
	}
	if after[0].Reason != "ScaledToZero" || !before[0].LastTransitionTime.Time.Equal(at(10)) {
		t.Errorf("%+v, %+v", before, after)
	}
}

// What was written counts until the cache has seen it; then the cache does, for somebody else may have written since.
func TestShown(t *testing.T) {
	k := Keeper[string]{wrote: map[types.UID]wrote[string]{"u1": {version: "100", status: "written", at: at(10)}}}
	object := func(uid, version string) *v1alpha1.App {
		return &v1alpha1.App{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}}
	}
	for _, c := range []struct{ uid, version, want string }{
		{"u1", "99", "written"},
		{"u1", "100", "written"},
		{"u1", "101", "cached"},
		{"u1", "1000", "cached"},
		{"u1", "strange", "written"},
		{"u2", "99", "cached"},
	} {
		if got := k.Shown(object(c.uid, c.version), "cached"); got != c.want {
			t.Errorf("%s at %s shows what was %s, want %s", c.uid, c.version, got, c.want)
		}
	}
	if got := k.Wait(object("u1", "1"), at(10).Add(20*time.Millisecond), 75*time.Millisecond); got != 55*time.Millisecond {
		t.Errorf("waits %s", got)
	}
	if got := k.Wait(object("u1", "1"), at(11), 75*time.Millisecond); got != 0 {
		t.Errorf("waits %s", got)
	}
	k.Retain(func(uid types.UID) bool { return uid != "u1" })
	if got := k.Shown(object("u1", "99"), "cached"); got != "cached" {
		t.Errorf("remembers what is gone: %s", got)
	}
}
