package master

import (
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	mastergo "github.com/mesos/mesos-go/api/v1/lib/master"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire/memnet"
)

// recordedAgents is the answer of a real master, as protobuf.
func recordedAgents(t testing.TB) []byte {
	in, err := os.ReadFile("testdata/get_agents.json")
	if err != nil {
		t.Fatal(err)
	}
	var w mastergo.Response
	if err := json.Unmarshal(in, &w); err != nil {
		t.Fatal(err)
	}
	b, err := w.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeAgents(t *testing.T) {
	got, err := decodeAgents(recordedAgents(t))
	if err != nil {
		t.Fatal(err)
	}
	total := mesos.Amounts{CPUMilli: 4000, MemoryMilli: 4096000, DiskMilli: 10240000}
	want := []mesos.Agent{{
		ID: "b5a1a292-edbc-4e58-bd59-cd49c83fa1be-S0", Hostname: "127.0.0.1", URL: "http://127.0.0.1:15231",
		Attributes: map[string]string{"rack": "r1", "zone": "z1"}, Total: total,
	}, {
		ID: "b5a1a292-edbc-4e58-bd59-cd49c83fa1be-S1", Hostname: "127.0.0.1", URL: "http://127.0.0.1:15232",
		Attributes: map[string]string{"rack": "r2", "zone": "z2"}, Total: total,
		Allocated: mesos.Amounts{CPUMilli: 500, MemoryMilli: 160000}, Active: true, Version: "1.11.0",
		Registered: time.Unix(0, 1795220843139326976).UTC(),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("\n got %+v\nwant %+v", got, want)
	}
	for _, bad := range []string{"", "\xff", "\x08\x01"} {
		if got, err := decodeAgents([]byte(bad)); err == nil {
			t.Errorf("%q gave %+v", bad, got)
		}
	}
}

func TestDraining(t *testing.T) {
	for state, want := range map[string]string{"DRAINING": "Draining", "DRAINED": "Drained"} {
		var w mastergo.Response
		in := `{"type":"GET_AGENTS","get_agents":{"agents":[{"agent_info":{"hostname":"h","port":5051,"id":{"value":"a"}},"active":true,
			"deactivated":true,"version":"1.11.0","drain_info":{"state":"` + state + `","config":{}}}]}}`
		if err := json.Unmarshal([]byte(in), &w); err != nil {
			t.Fatal(err)
		}
		a := agent(&w.GetAgents.Agents[0])
		if a.Drain != want || a.Active || a.URL != "http://h:5051" {
			t.Errorf("%+v", a)
		}
	}
}

func TestPollAgents(t *testing.T) {
	scene(t, func(t *testing.T, n *memnet.Network) {
		d := newDouble(t, "10.0.0.1:5050")
		list := func(ids ...string) func(w http.ResponseWriter) {
			w := mastergo.Response{Type: mastergo.Response_GET_AGENTS, GetAgents: &mastergo.Response_GetAgents{}}
			for _, id := range ids {
				w.GetAgents.Agents = append(w.GetAgents.Agents, mastergo.Response_GetAgents_Agent{Active: true, Version: id})
			}
			b, err := w.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			return func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", protobuf)
				w.Write(b)
			}
		}
		refuse := func(w http.ResponseWriter) { http.Error(w, "not for you", http.StatusForbidden) }
		page := func(w http.ResponseWriter) { w.Write([]byte("<html>")) }
		answers := []func(w http.ResponseWriter){list("1"), list("1"), list("1", "2"), refuse, refuse, page, list("1", "2"), list("2"), refuse}
		var asked atomic.Int32
		d.operator = func(w http.ResponseWriter, r *http.Request) {
			answers[min(int(asked.Add(1)), len(answers))-1](w)
		}
		core, logs := observer.New(zapcore.WarnLevel)
		cfg := config(n, one)
		cfg.Logger = zap.New(core)
		r := start(t, cfg, "")
		seen := make(chan mesos.Event, 100)
		polled := make(chan error, 1)
		go func() { polled <- r.PollAgents(t.Context(), 10*time.Second, func(e mesos.Event) { seen <- e }) }()
		<-time.After(time.Hour) // nothing to poll yet
		if n := asked.Load(); n != 0 {
			t.Fatalf("asked %d times without a master", n)
		}
		defer n.Serve(d.addr, d)()
		next[mesos.Subscribed](t, r)
		<-time.After(100 * time.Second)
		if n := int(asked.Load()); n < len(answers) {
			t.Fatalf("asked %d times", n)
		}
		for _, want := range []int{1, 2, 1} {
			got := (<-seen).(mesos.AgentsSeen)
			if len(got.Agents) != want {
				t.Fatalf("%d agents, want %d", len(got.Agents), want)
			}
		}
		if len(seen) != 0 {
			t.Fatalf("told again of the same: %+v", <-seen)
		}
		if got := logs.FilterMessageSnippet("cannot list the agents").Len(); got != 2 {
			t.Fatalf("%d log lines about two spells of refusal", got)
		}
		r.stop(t)
	})
}
