package plan

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestQuestionGoesThereAndBack(t *testing.T) {
	want := []Proposal{{Object: json.RawMessage(`{"kind":"App"}`), Refusals: []Refusal{{Reason: "Invalid", Field: "spec", Message: "no"}}}, {Object: json.RawMessage(`{"kind":"Secret"}`)}}
	b, err := EncodeQuestion(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeQuestion(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := EncodeQuestion(make([]Proposal, MaxProposals+1)); err == nil || !strings.Contains(err.Error(), "fewer") {
		t.Errorf("too many: %v", err)
	}
}

func TestChanged(t *testing.T) {
	was := &Plan{World: "1", Parts: map[string]string{"Apps": "a", "agents": "b"}, Objects: []Object{{Kind: "App", Namespace: "shop", Name: "web", Action: Update, Fields: []Field{{Path: "x", After: json.RawMessage("1")}}}}}
	copied := func(change func(*Plan)) *Plan {
		b, err := json.Marshal(was)
		if err != nil {
			t.Fatal(err)
		}
		var p Plan
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		change(&p)
		return &p
	}
	for want, change := range map[string]func(*Plan){
		"":                                   func(*Plan) {},
		"agents":                             func(p *Plan) { p.World = "2"; p.Parts["agents"] = "c" },
		"Apps Secrets":                       func(p *Plan) { p.World = "2"; p.Parts["Apps"] = "c"; p.Parts["Secrets"] = "d" },
		"the world":                          func(p *Plan) { p.World = "2" },
		"what would become of App shop/web":  func(p *Plan) { p.Objects[0].Action = Unchanged },
		"what would become of App shop/web ": func(p *Plan) { p.Objects = nil },
	} {
		want = strings.TrimSpace(want)
		if got := strings.Join(was.Changed(copied(change)), " "); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}

// A reader is told of his namespaces only: quotas by the instances that wait, what is unfinished by where it is.
func TestOnly(t *testing.T) {
	made := func() *Plan {
		return &Plan{
			Apps:       []App{{Namespace: "shop", Name: "web"}, {Namespace: "bank", Name: "web"}},
			Quotas:     []Quota{{Tenant: "red", Namespaces: []string{"shop", "bank"}}, {Tenant: "blue", Namespaces: []string{"bank"}}, {Tenant: "green"}},
			Unfinished: "1 Backoff", UnfinishedIn: []string{"bank"},
		}
	}
	nobody := func(string) bool { return false }
	everybody := func(string) bool { return true }
	p := made()
	p.Only(func(n string) bool { return n == "shop" }, nobody)
	if len(p.Apps) != 1 || !reflect.DeepEqual(p.Quotas, []Quota{{Tenant: "red", Namespaces: []string{"shop"}}}) || p.Unfinished != elsewhere {
		t.Errorf("%+v", p)
	}
	p = made()
	p.Only(func(n string) bool { return n == "bank" }, func(tenant string) bool { return tenant == "green" })
	if len(p.Quotas) != 3 || p.Unfinished != "1 Backoff" {
		t.Errorf("%+v", p)
	}
	p = made()
	p.UnfinishedIn = []string{""} // Of all namespaces together.
	p.Only(func(n string) bool { return n != "" }, everybody)
	if len(p.Quotas) != 3 || p.Unfinished != elsewhere {
		t.Errorf("%+v", p)
	}
	p.Only(everybody, everybody)
	p = made()
	p.Unfinished, p.UnfinishedIn = "no Mesos master", nil
	if p.Only(nobody, nobody); p.Unfinished != "no Mesos master" {
		t.Errorf("%+v", p)
	}
}

func FuzzDecodeQuestion(f *testing.F) {
	f.Add([]byte(`{"version":1,"proposals":[{"object":{"kind":"App"},"refusals":[{"message":"no"}]}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeQuestion(data)
		if err != nil {
			return
		}
		b, err := EncodeQuestion(got)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeQuestion(b); err != nil {
			t.Errorf("%q was read, and not read again: %v", data, err)
		}
	})
}
