package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// message is what the generated types of both APIs have in common.
type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// Every shape of event that a real master or agent was seen to send becomes the noun that the golden file says. The
// events were recorded as JSON and go through protobuf here, as they do in production.
func TestRecordedEvents(t *testing.T) {
	in, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(in))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var rec struct {
			From, API string
			Event     json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		var noun any
		switch rec.API {
		case "scheduler":
			var e, again scheduler.Event
			throughProtobuf(t, n, rec.Event, &e, &again)
			noun = Event(&again)
		case "executor":
			var e, again executor.Event
			throughProtobuf(t, n, rec.Event, &e, &again)
			noun = ExecutorEvent(&again)
		}
		fmt.Fprintf(&out, "%s %s\n", rec.From, show(t, noun))
	}
	const golden = "testdata/events.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(out.String(), "\n")
	for i, w := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != w {
			t.Fatalf("line %d (go test -update rewrites the golden file, then read the diff):\n got %s\nwant %s", i+1, got[i], w)
		}
	}
}

func throughProtobuf(t *testing.T, line int, js []byte, first, again message) {
	t.Helper()
	if err := json.Unmarshal(js, first); err != nil {
		t.Fatalf("line %d: %v", line, err)
	}
	b, err := first.Marshal()
	if err != nil {
		t.Fatalf("line %d: %v", line, err)
	}
	if err := Decode(again, b); err != nil {
		t.Fatalf("line %d: %v", line, err)
	}
}

// show prints a noun's type and its fields that are not zero.
func show(t *testing.T, noun any) string {
	t.Helper()
	b, err := json.Marshal(noun)
	if err != nil {
		t.Fatal(err)
	}
	var fields any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	b, err = json.Marshal(prune(fields))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%T %s", noun, b)
}

func prune(x any) any {
	switch x := x.(type) {
	case map[string]any:
		for k, v := range x {
			switch v := prune(v); v {
			case nil, "", 0.0, false, "0001-01-01T00:00:00Z":
				if v == false && k == "Healthy" { // a pointer: false says something
					continue
				}
				delete(x, k)
			}
		}
		if len(x) == 0 {
			return nil
		}
	case []any:
		for i := range x {
			x[i] = prune(x[i])
		}
		if len(x) == 0 {
			return nil
		}
	}
	return x
}
