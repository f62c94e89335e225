package rollout

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"

	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// world is an App, what is wanted of it and a scheduler that does nothing but what a script tells it.
type world struct {
	snapshot  Snapshot
	pools     []string
	fixed     []string
	hash      string
	limit     string
	instances map[int32]*Instance
}

func newWorld() *world {
	return &world{
		hash: "a1", pools: []string{"shop"}, instances: map[int32]*Instance{},
		snapshot: Snapshot{App: &padisv1.WantedApp{Uid: "u1", Namespace: "shop", Name: "web", Generation: 1}, MaxUnavailable: 1},
	}
}

func (w *world) revision() *padisv1.Revision {
	r := &padisv1.Revision{Hash: w.hash}
	for n, p := range w.pools {
		wish := &padisv1.NetworkWish{Pool: p}
		if n == 0 {
			wish.Addresses = w.fixed
		}
		r.Networks = append(r.Networks, wish)
	}
	if w.limit != "" {
		r.Constraints = []*padisv1.Constraint{{Attribute: "hostname", Operator: padisv1.Constraint_MAX_PER, Value: w.limit}}
	}
	return r
}

func (w *world) take() Snapshot {
	s := w.snapshot
	s.Newest = w.revision()
	for i := int32(0); i < 10000 && len(s.Instances) < len(w.instances); i++ {
		if in := w.instances[i]; in != nil {
			s.Instances = append(s.Instances, *in)
		}
	}
	return s
}

// plan puts the next plan in force.
func (w *world) plan() Plan {
	p := Decide(w.take())
	w.snapshot.Current = p.Wanted
	return p
}

// serve makes all slots that are wanted run ready at their revision, and ends all others.
func (w *world) serve() {
	wanted := map[int32]string{}
	for _, s := range w.snapshot.Current.GetSlots() {
		wanted[s.Index] = s.Revision
	}
	for i := range w.instances {
		if wanted[i] == "" {
			delete(w.instances, i)
		}
	}
	for i, rev := range wanted {
		in := w.instances[i]
		if in == nil {
			in = &Instance{Slot: i, Addresses: []string{fmt.Sprintf("10.44.1.%d", i+1)}}
			w.instances[i] = in
		}
		if int(i) < len(w.fixed) && w.fixed[i] != "" && in.Revision == "" {
			in.Addresses = []string{w.fixed[i]}
		}
		in.Phase, in.Ready, in.Revision, in.Reason, in.Message = "Running", true, rev, padisv1.ReasonReady, ""
	}
}

// The scripts in testdata are read line by line; what Decide says goes to the golden file beside them.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".script"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(script))
			golden := strings.TrimSuffix(file, ".script") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("transcript differs from %s (go test -update writes it anew):\n%s", golden, got)
			}
		})
	}
}

// play runs a script. Commands: replicas N, revision HASH, pools A,B, fixed A,B, limit N, max N, pause, resume, refuse REASON
// MESSAGE, revoke REASON MESSAGE, accept, leave, serve, gone SLOT, SLOT PHASE [ready] [REASON MESSAGE], which starts the
// revision that is wanted, prepull SLOT REASON MESSAGE, which leaves it at the old one, plan.
func play(t *testing.T, script string) string {
	var out strings.Builder
	w := newWorld()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			fmt.Fprintln(&out, line)
			continue
		}
		fmt.Fprintf(&out, "> %s\n", line)
		verb, rest, _ := strings.Cut(line, " ")
		number := func() int32 {
			n, err := strconv.ParseInt(rest, 10, 32)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return int32(n)
		}
		switch verb {
		case "replicas":
			w.snapshot.Replicas = number()
			w.snapshot.App.Generation++
		case "revision":
			w.hash = rest
		case "pools":
			w.pools = strings.Split(rest, ",")
		case "fixed":
			w.fixed = strings.Split(rest, ",")
		case "limit":
			w.limit = rest
		case "max":
			w.snapshot.MaxUnavailable = number()
		case "pause", "resume":
			w.snapshot.Paused = verb == "pause"
		case "refuse", "revoke":
			reason, message, _ := strings.Cut(rest, " ")
			w.snapshot.Refusal = &Refusal{Reason: reason, Message: message, Revoked: verb == "revoke"}
		case "prepull":
			slot, rest, _ := strings.Cut(rest, " ")
			n, err := strconv.ParseInt(slot, 10, 32)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			in := w.instances[int32(n)]
			in.Reason, in.Message, _ = strings.Cut(rest, " ")
		case "accept":
			w.snapshot.Refusal = nil
		case "leave":
			w.snapshot.Leaving = true
		case "serve":
			w.serve()
		case "gone":
			delete(w.instances, number())
		case "plan":
			current := w.snapshot.Current
			before := proto.CloneOf(current)
			p := w.plan()
			if !proto.Equal(before, current) {
				t.Errorf("%q: the snapshot was changed", line)
			}
			out.WriteString(p.String())
			for _, e := range Done(current, p) {
				fmt.Fprintf(&out, "event %s\n", e)
			}
			if again := Decide(w.take()); !proto.Equal(again.Wanted, p.Wanted) {
				t.Errorf("%q: deciding again gives something else:\n%s", line, again)
			}
		default:
			slot, err := strconv.ParseInt(verb, 10, 32)
			if err != nil {
				t.Fatalf("unknown line %q", line)
			}
			w.set(int32(slot), rest)
		}
	}
	return out.String()
}

func (w *world) set(slot int32, rest string) {
	in := w.instances[slot]
	if in == nil {
		in = &Instance{Slot: slot}
		w.instances[slot] = in
	}
	in.Phase, rest, _ = strings.Cut(rest, " ")
	rest, in.Ready = strings.CutPrefix(rest, "ready")
	in.Reason, in.Message, _ = strings.Cut(strings.TrimSpace(rest), " ")
	if in.Phase == "Starting" || in.Phase == "Running" {
		for _, s := range w.snapshot.Current.GetSlots() {
			if s.Index == slot {
				in.Revision = s.Revision
			}
		}
	}
}
