package amount

import (
	"fmt"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	got, err := Parse("cpus:4;mem:4096;disk:10240;ports:[31000-31010, 32000-32010];labels_set:{a,b};cpus(web):2.5")
	if err != nil {
		t.Fatal(err)
	}
	const want = "cpus:4; mem:4096; disk:10240; ports:[31000-31010, 32000-32010]; labels_set:{a, b}; cpus(reservations: [(STATIC,web)]):2.5"
	if Text(got) != want {
		t.Errorf("got %s", Text(got))
	}
	for _, bad := range []string{"cpus", "cpus:x", "cpus:-1", "ports:[2-1]", "cpus(a:1", ":1", "cpus:1e300"} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("%q gave %s", bad, Text(got))
		}
	}
}

func TestOffersListRangesFirst(t *testing.T) {
	total, err := Parse("cpus:2;mem:1024;disk:2048;gpus_like:3.5;ports:[1-2];labels_set:{a}")
	if err != nil {
		t.Fatal(err)
	}
	if got := Text(Ordered(total, total)); got != "ports:[1-2]; labels_set:{a}; cpus:2; mem:1024; disk:2048; gpus_like:3.5" {
		t.Errorf("got %s", got)
	}
}

func drawList(t *rapid.T, label string) List {
	var out List
	for range rapid.IntRange(0, 4).Draw(t, label) {
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			out = append(out, mesos.Resource{Name: rapid.SampledFrom([]string{"cpus", "mem"}).Draw(t, "name"), Type: mesos.SCALAR.Enum(), Role: new("*"),
				Scalar: &mesos.Value_Scalar{Value: float64(rapid.IntRange(1, 9000).Draw(t, "milli")) / 1000}})
		case 1:
			begin := rapid.Uint64Range(1, 50).Draw(t, "begin")
			out = append(out, mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(), Role: new("*"),
				Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: begin, End: begin + rapid.Uint64Range(0, 9).Draw(t, "more")}}}})
		}
	}
	return out
}

// What is contained can be taken away, and put back.
func TestMinusAndSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := Sum(drawList(t, "a")), Sum(drawList(t, "b"))
		before := fmt.Sprint(Text(a), Text(b))
		if !Contains(a, b) {
			return
		}
		rest := Minus(a, b)
		back := Sum(rest, b)
		if !Contains(back, a) || !Contains(a, back) {
			t.Fatalf("%s - %s = %s, and back: %s", Text(a), Text(b), Text(rest), Text(back))
		}
		if after := fmt.Sprint(Text(a), Text(b)); after != before {
			t.Fatalf("arguments changed from %s to %s", before, after)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("cpus:4;mem:4096;ports:[31000-32000];set:{a,b};cpus(role):2")
	f.Add("rack:r1;cores:8.5;slots:[1-4,7-9]")
	f.Fuzz(func(t *testing.T, s string) {
		if l, err := Parse(s); err == nil {
			_ = Text(l)
			_ = Contains(l, l)
			_ = Ordered(Minus(Sum(l, l), l), l)
		}
		_, _ = ParseAttributes(s)
	})
}
