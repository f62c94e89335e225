package logs

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDecode(t *testing.T) {
	at := func(ms, offset int64) record { return record{time.UnixMilli(ms), offset} }
	for _, c := range []struct {
		in   string
		want []record
	}{
		{"", nil},
		{"1000 0\n2000 50\n", []record{at(1000, 0), at(2000, 50)}},
		{"1000 0\n2000 5", []record{at(1000, 0)}},
		{"1000 0\n2000 503000 70\n4000 90\n", []record{at(1000, 0), at(4000, 90)}},
		{"x\n\n1000\n-1 5\n1000 -5\n1000 7\n500 6\n500 8\n", []record{at(1000, 7), at(500, 8)}},
	} {
		if got := decode([]byte(c.in)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, want %v", c.in, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("1000 0\n2000 50\n"), int64(1500))
	f.Add([]byte("1000 0\n\xff 5\n9"), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, ms int64) {
		records := decode(b)
		var again []byte
		for i, r := range records {
			if r.offset < 0 || i > 0 && r.offset < records[i-1].offset {
				t.Fatalf("offsets go back: %v", records)
			}
			again = append(again, r.encode()...)
		}
		if got := decode(again); !reflect.DeepEqual(got, records) {
			t.Fatalf("%v became %v", records, got)
		}
		if offset, found := since(records, time.UnixMilli(ms)); found && offset > records[len(records)-1].offset {
			t.Fatalf("found %d in %v", offset, records)
		}
	})
}

// Nothing that was written at the time or later is left out.
func TestSinceLeavesNothingOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []record
		now, offset := int64(0), int64(0)
		for range rapid.IntRange(0, 10).Draw(t, "records") {
			records = append(records, record{time.UnixMilli(now), offset})
			now += int64(rapid.IntRange(1, 5).Draw(t, "later"))
			offset += int64(rapid.IntRange(0, 5).Draw(t, "more"))
		}
		at := time.UnixMilli(int64(rapid.IntRange(-1, 60).Draw(t, "since")))
		got, found := since(records, at)
		for i, r := range records {
			if !r.time.Before(at) && found && got > r.offset {
				t.Fatalf("since %v: %d, and record %d is later: %v", at, got, i, records)
			}
		}
		if found != (len(records) > 0 && !records[0].time.After(at)) {
			t.Fatalf("since %v: found %t in %v", at, found, records)
		}
	})
}
