package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// draw makes random writes, with keys that repeat.
func draw(t *rapid.T) []record.Write {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) record.Write {
		app := rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "app")
		slot := rapid.Int32Range(0, 12).Draw(t, "slot")
		m := rapid.SampledFrom([]proto.Message{
			instance(app, slot), lease(app, slot), lease(app, slot), &padisv1.WantedApp{Uid: app},
			&padisv1.AgentRecord{AgentId: fmt.Sprint(slot)}, &padisv1.ExecutorRecord{AgentId: fmt.Sprint(slot)},
			&padisv1.Cluster{}, &padisv1.FrameworkRecord{},
		}).Draw(t, "record")
		if rapid.IntRange(0, 3).Draw(t, "deleted") == 0 {
			return drop(m)
		}
		return put(m)
	}), 0, 60).Draw(t, "writes")
}

func TestSplitKeepsEveryLastWriteAndTheOrderThatIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		writes := draw(t)
		maxOps := rapid.IntRange(1, 40).Draw(t, "maxOps")
		maxBytes := rapid.IntRange(400, 20_000).Draw(t, "maxBytes")
		chunks, err := split(writes, maxOps, maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]record.Write{}
		for _, w := range writes {
			want[w.Key] = w
		}
		at := map[string]int{}
		var flat []part
		for i, c := range chunks {
			size := 0
			for _, p := range c {
				if _, twice := at[p.key]; twice {
					t.Fatalf("%s is written twice", p.key)
				}
				at[p.key] = i
				size += p.size()
				flat = append(flat, p)
			}
			if len(c) == 0 || len(c) > maxOps || len(c) > 1 && size > maxBytes {
				t.Fatalf("transaction of %d operations and %d bytes, allowed are %d and %d", len(c), size, maxOps, maxBytes)
			}
		}
		if len(at) != len(want) {
			t.Fatalf("%d writes of %d", len(at), len(want))
		}
		position := func(key string) int { return slices.IndexFunc(flat, func(p part) bool { return p.key == key }) }
		for _, p := range flat {
			w := want[p.key]
			if p.deletes != (w.Value == nil) {
				t.Fatalf("%s: deletes=%v", p.key, p.deletes)
			}
			m, kept := w.Value.(*padisv1.InstanceRecord)
			for other, ow := range want {
				switch {
				case kept && ow.Value != nil && refersTo(m, ow.Value) && position(other) > position(p.key):
					t.Fatalf("%s is written before %s, which it refers to", p.key, other)
				case kept && ow.Value == nil && position(other) < position(p.key):
					t.Fatalf("%s is deleted before %s is written", other, p.key)
				case p.deletes && strings.HasPrefix(p.key, record.PrefixLease) && ow.Value == nil &&
					strings.HasPrefix(other, record.PrefixInstance) && position(other) > position(p.key):
					t.Fatalf("lease %s is deleted before instance %s", p.key, other)
				}
			}
			if l, ok := w.Value.(*padisv1.LeaseRecord); ok && maxOps > 20 && maxBytes > 10_000 {
				key := record.InstanceKey(slot(l))
				if i, ok := want[key]; ok && i.Value != nil && at[key] != at[p.key] {
					t.Fatalf("%s and its lease %s are in different transactions", key, p.key)
				}
			}
		}
	})
}

// refersTo tells whether the instance cannot do without the other record.
func refersTo(i *padisv1.InstanceRecord, other proto.Message) bool {
	switch m := other.(type) {
	case *padisv1.LeaseRecord:
		return slot(m) == slot(i)
	case *padisv1.InstanceRecord:
		return false
	}
	return true
}

// However long a prefix of the transactions survives, no instance is without its lease.
func TestEveryPrefixOfASplitCommitIsConsistent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int32Range(1, 40).Draw(t, "slots")
		var writes []record.Write
		for i := range n {
			writes = append(writes, put(instance("new", i)), put(lease("new", i)))
			writes = append(writes, drop(instance("old", i+1000)), drop(lease("old", i+1000)))
		}
		writes = rapid.Permutation(writes).Draw(t, "order")
		chunks, err := split(writes, rapid.IntRange(1, 10).Draw(t, "maxOps"), maxTxnBytes)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for i := range n {
			there[put(instance("old", i+1000)).Key] = true
			there[put(lease("old", i+1000)).Key] = true
		}
		for _, c := range chunks {
			for _, p := range c {
				there[p.key] = !p.deletes
			}
			for i := range n {
				for _, s := range []struct {
					app  string
					slot int32
				}{{"new", i}, {"old", i + 1000}} {
					if there[put(instance(s.app, s.slot)).Key] && !there[put(lease(s.app, s.slot)).Key] {
						t.Fatalf("%s/%d is there without its lease", s.app, s.slot)
					}
				}
			}
		}
	})
}

func TestEncodeAndDecodeAreInverse(t *testing.T) {
	for _, w := range one() {
		value, err := encode(w.Key, w.Value)
		if err != nil {
			t.Fatal(err)
		}
		var s record.Snapshot
		if err := decode(&s, w.Key, []byte(value)); err != nil {
			t.Errorf("%s: %v", w.Key, err)
		}
	}
}

// Whatever is in the ledger, reading it gives a record that agrees with its key or an error.
func FuzzDecode(f *testing.F) {
	for _, w := range one() {
		value, err := encode(w.Key, w.Value)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(w.Key, []byte(value))
	}
	f.Add("volume/1", []byte{format})
	f.Add("app/", []byte{format, 0xff})
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var s record.Snapshot
		if err := decode(&s, key, value); err != nil {
			return
		}
		for _, i := range s.Instances {
			if put(i).Key != key {
				t.Errorf("instance %v under %q", i, key)
			}
		}
		for _, l := range s.Leases {
			if put(l).Key != key {
				t.Errorf("lease %v under %q", l, key)
			}
		}
	})
}

func FuzzDecodeEpoch(f *testing.F) {
	f.Add([]byte("7 host:1"))
	f.Add([]byte(""))
	f.Add([]byte("9223372036854775807 x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		epoch, err := decodeEpoch(b)
		if err != nil {
			return
		}
		if again, err := decodeEpoch([]byte(encodeEpoch(epoch+1, "x"))); err == nil && again != epoch+1 {
			t.Errorf("%d became %d", epoch+1, again)
		}
	})
}

// BenchmarkCommit writes 50 instances with their leases, as when an App grows by 50.
func BenchmarkCommit(b *testing.B) {
	l := open(b, on(start(b)))
	var writes []record.Write
	for i := range int32(50) {
		writes = append(writes, put(instance("u1", i)), put(lease("u1", i)))
	}
	for b.Loop() {
		if err := l.Commit(b.Context(), writes); err != nil {
			b.Fatal(err)
		}
	}
}
