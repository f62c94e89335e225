package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos"
)

func FuzzFrames(f *testing.F) {
	for _, s := range []string{"3\nabc", "0\n", "99999999999999999999\n", "5\nab", "-1\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		frames := NewFrames(bytes.NewReader(in), 1<<16)
		for total := 0; ; {
			b, err := frames.Next()
			if err != nil {
				return
			}
			if total += len(b); total > len(in) {
				t.Fatalf("%d bytes out of %d", total, len(in))
			}
		}
	})
}

// seed adds the recorded events of one API, as protobuf.
func seed(f *testing.F, api string, fresh func() message) {
	in, err := os.Open("testdata/events.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var rec struct {
			API   string
			Event json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			f.Fatal(err)
		}
		if rec.API != api {
			continue
		}
		m := fresh()
		if err := json.Unmarshal(rec.Event, m); err != nil {
			f.Fatal(err)
		}
		b, err := m.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// Whatever bytes come: an error or a noun, and what an offer brought can be launched with.
func FuzzSchedulerEvent(f *testing.F) {
	seed(f, "scheduler", func() message { return new(scheduler.Event) })
	f.Fuzz(func(t *testing.T, in []byte) {
		var w scheduler.Event
		if Decode(&w, in) != nil {
			return
		}
		offers, ok := Event(&w).(mesos.Offers)
		if !ok {
			return
		}
		for _, o := range offers.Offers {
			if _, err := ToResources(o.Resources); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzExecutorEvent(f *testing.F) {
	seed(f, "executor", func() message { return new(executor.Event) })
	f.Fuzz(func(t *testing.T, in []byte) {
		var w executor.Event
		if Decode(&w, in) == nil {
			ExecutorEvent(&w)
		}
	})
}

func FuzzCall(f *testing.F) {
	for _, c := range []mesos.Call{
		mesos.Accept{OfferIDs: []string{"o"}, Tasks: []mesos.Task{{ID: "t", Executor: mesos.Executor{ID: "e"}}}},
		mesos.Kill{TaskID: "t", Grace: 1}, mesos.Reconcile{Tasks: []mesos.TaskRef{{TaskID: "t"}}}, mesos.Teardown{},
	} {
		w, err := ToCall(c, "fw")
		if err != nil {
			f.Fatal(err)
		}
		b, err := w.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var w scheduler.Call
		if Decode(&w, in) != nil {
			return
		}
		noun, err := Call(&w)
		if err != nil {
			return
		}
		if _, err := ToCall(noun, "fw"); err != nil {
			t.Fatalf("%#v: %v", noun, err)
		}
	})
}

func FuzzResourceWire(f *testing.F) {
	f.Add([]byte{0x0a, 0x01, 'x', 0x10, 0x00}, int64(1))
	f.Fuzz(func(t *testing.T, in []byte, milli int64) {
		w, err := ToResource(mesos.Resource{Name: "cpus", Milli: milli, Wire: in})
		if err == nil {
			Resource(&w)
		}
	})
}
