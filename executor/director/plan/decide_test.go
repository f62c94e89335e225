package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func text(d Decision) string {
	return strings.TrimSpace(fmt.Sprintf("%v apply=%v %s", d.Announce, d.Apply, d.Reason))
}

func TestDecide(t *testing.T) {
	b := balance(t, lb.Serving, lb.Serving)
	both := read(t, b, nil)
	c := proto.Clone(b).(*padisv1.Balance)
	c.Services, c.Number = c.Services[:2], 2
	one := read(t, c, both)
	checked := proto.Clone(b).(*padisv1.Balance)
	checked.Director.Checks, checked.Director.MinServers = []*padisv1.HealthCheck{{}}, 2
	two := read(t, checked, nil)
	vips := both.VIPs
	for _, x := range []struct {
		name, want string
		s          State
	}{
		{"nothing", "[] apply=false", State{}},
		{"the first order", "[] apply=true", State{Wanted: both}},
		{"in force", "[10.9.0.1 fd09::1] apply=false", State{Wanted: both, Applied: both}},
		{"a VIP comes", "[10.9.0.1] apply=true", State{Wanted: both, Applied: one, Announced: vips[:1]}},
		{"a VIP leaves: first the routers", "[10.9.0.1] apply=false", State{Wanted: one, Applied: both, Announced: vips}},
		{"then they have their time", "[10.9.0.1] apply=false", State{Wanted: one, Applied: both, Announced: vips[:1], Withdrew: t0.Add(-Settle + 1)}},
		{"then the table", "[10.9.0.1] apply=true", State{Wanted: one, Applied: both, Announced: vips[:1], Withdrew: t0.Add(-Settle)}},
		{"refused: the rest goes on", "[10.9.0.1] apply=false DataplaneUnavailable",
			State{Wanted: both, Applied: one, Announced: vips[:1], Refused: t0, Retry: t0.Add(1), Why: "x"}},
		{"refused for long", "[] apply=true DataplaneUnavailable", State{Wanted: both, Applied: one, Announced: vips[:1], Refused: t0.Add(-Patience), Retry: t0, Why: "x"}},
		{"anew: first the routers", "[] apply=false", State{Wanted: both, Applied: both, Anew: true, Announced: vips}},
		{"anew: then the dataplane", "[] apply=true", State{Wanted: both, Applied: both, Anew: true, Withdrew: t0.Add(-Settle)}},
		{"leaving", "[] apply=false", State{Wanted: both, Applied: both, Announced: vips, Leaving: true}},
		{"leaving, with tables", "[] apply=true", State{Wanted: both, Applied: one, Leaving: true}},
		{"nothing is known of servers", "[] apply=false TooFewServers", State{Wanted: two, Applied: two}},
		{"nothing is known of new servers", "[10.9.0.1 fd09::1] apply=false", State{Wanted: two, Applied: two, Announced: vips}},
		{"one fails", "[] apply=false TooFewServers", State{Wanted: two, Applied: two, Announced: vips, Reach: map[string]Reach{"s0": Reached, "s1": Failing}}},
		{"all are reached", "[10.9.0.1 fd09::1] apply=false", State{Wanted: two, Applied: two, Reach: map[string]Reach{"s0": Reached, "s1": Reached}}},
	} {
		x.s.Now = t0
		if got := text(Decide(x.s)); got != x.want {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
	}
	if m := Decide(State{Now: t0, Wanted: two, Applied: two}).Message; m != "10.9.0.1: 0 real servers are in rotation and reached, minServers is 2; fd09::1: 0 real servers are in rotation and reached, minServers is 2" {
		t.Error(m)
	}
	for _, x := range []struct {
		name string
		want bool
		s    State
	}{
		{"nothing", false, State{}},
		{"the first order", false, State{Wanted: two}},
		{"nothing is known of servers", true, State{Wanted: two, Applied: two}},
		{"one is reached, two are needed", true, State{Wanted: two, Applied: two, Reach: map[string]Reach{"s0": Reached}}},
		{"one fails, two are needed", false, State{Wanted: two, Applied: two, Reach: map[string]Reach{"s1": Failing}}},
		{"one VIP is not announced", true, State{Wanted: two, Applied: two, Announced: vips[:1]}},
		{"all are announced", false, State{Wanted: two, Applied: two, Announced: vips}},
		{"leaving", false, State{Wanted: two, Applied: two, Leaving: true}},
		{"without checks", false, State{Wanted: both, Applied: both}},
	} {
		if got := x.s.Undecided(); got != x.want {
			t.Errorf("%s: undecided is %v", x.name, got)
		}
	}
	drained := read(t, balance(t, lb.Draining, lb.Suspect), nil)
	if d := Decide(State{Now: t0, Wanted: drained, Applied: drained, Announced: vips}); len(d.Announce) > 0 || d.Reason != padisv1.ReasonTooFewServers {
		t.Error(text(d))
	}
	c.Services[1].Nobody = true
	left := read(t, c, nil)
	if d := Decide(State{Now: t0, Wanted: left, Applied: left}); len(d.Announce) != 1 || d.Reason != padisv1.ReasonInvalid || !strings.Contains(d.Message, "nobody may use it") {
		t.Error(text(d), d.Message)
	}
}

// farm is a director whose world changes at random.
type farm struct {
	State
	orders []*Order
}

// What is announced is in the table; a VIP leaves the table only when routers had their time; nothing is announced below
// minServers; everything is in force after a while, however it came; and equal states give equal decisions.
func TestDecideHistories(t *testing.T) {
	var orders []*Order
	for i, vips := range [][]string{{"10.9.0.1"}, {"10.9.0.1", "10.9.0.2"}, {"10.9.0.3"}, {}, {"10.9.0.2", "fd09::1"}} {
		for _, states := range [][]lb.State{{lb.Serving, lb.Serving, lb.Serving}, {lb.Draining, lb.Serving}, {lb.Suspect, lb.Draining}, {}} {
			b := balance(t, states...)
			b.Services, b.Director.MinServers, b.Director.Checks = nil, int32(i%3), make([]*padisv1.HealthCheck, i%2)
			for j := range b.Director.Checks {
				b.Director.Checks[j] = &padisv1.HealthCheck{}
			}
			for _, v := range vips {
				b.Services = append(b.Services, service(v, "tcp", 80, 80))
			}
			orders = append(orders, read(t, b, nil))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f := farm{State{Now: t0, Reach: map[string]Reach{}}, orders}
		step := func(refuse bool) (look time.Time) {
			for range 10 {
				d := Decide(f.State)
				if again := Decide(f.State); !reflect.DeepEqual(d, again) {
					t.Fatalf("%v, then %v", d, again)
				}
				for _, v := range d.Announce {
					if f.Applied == nil || !slices.Contains(f.Applied.VIPs, v) || f.Leaving {
						t.Fatalf("announces %s, which is not in force", v)
					}
				}
				changed := !slices.Equal(d.Announce, f.Announced)
				for _, v := range f.Announced {
					if !slices.Contains(d.Announce, v) {
						f.Withdrew = f.Now
					}
				}
				f.Announced = d.Announce
				if d.Apply && refuse {
					if f.Refused.IsZero() {
						f.Refused = f.Now
					}
					f.Retry = f.Now.Add(time.Second)
				} else if d.Apply {
					if f.Applied != nil {
						for _, v := range f.Applied.VIPs {
							goes := f.Anew || !slices.Contains(f.Wanted.VIPs, v)
							if goes && (slices.Contains(f.Announced, v) || f.Now.Sub(f.Withdrew) < Settle) {
								t.Fatalf("%s is taken away while routers send", v)
							}
						}
					}
					f.Applied, f.Anew, f.Refused, f.Retry = f.Wanted, false, time.Time{}, time.Time{}
				} else if !changed {
					return d.Look
				}
			}
			t.Fatal("it never settles")
			return
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				f.Wanted = rapid.SampledFrom(f.orders).Draw(t, "order")
			case 2:
				f.Reach[rapid.SampledFrom([]string{"s0", "s1", "s2"}).Draw(t, "server")] = rapid.SampledFrom([]Reach{Unchecked, Reached, Failing}).Draw(t, "reach")
			case 3:
				f.Anew = f.Applied != nil
			case 4:
				f.Now = f.Now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "ms")) * time.Millisecond)
			case 5:
				f.Leaving = f.Leaving || rapid.IntRange(0, 9).Draw(t, "leave") == 0
			}
			if f.Anew && f.Wanted == nil {
				f.Anew = false
			}
			step(rapid.IntRange(0, 4).Draw(t, "refuse") == 0)
		}
		for range 100 {
			look := step(false)
			if look.IsZero() {
				break
			}
			f.Now = look.Add(1)
		}
		if f.Applied != f.Wanted {
			t.Fatalf("the newest order is not in force: %v", text(Decide(f.State)))
		}
	})
}

func TestLeave(t *testing.T) {
	var l Leave
	var said []string
	now, packets := t0, uint64(100)
	for range 1000 {
		var s Step
		var next time.Time
		l, s, next = l.Next(now, packets, true)
		if len(said) == 0 || !strings.HasSuffix(said[len(said)-1], s.String()) {
			said = append(said, fmt.Sprint(now.Sub(t0), " ", s))
		}
		if s == End {
			break
		}
		if now.Sub(t0) < 2*time.Second {
			packets++
		}
		now = next
	}
	if want := []string{"0s ask", "500ms withdraw", "550ms fade", "2.5s end"}; !slices.Equal(said, want) {
		t.Error(said)
	}
	// Somebody who never stops is not waited for.
	l, now = Leave{}, t0
	for s := Ask; s != End; packets++ {
		l, s, now = l.Next(now, packets, true)
	}
	if now.Sub(t0) != Prefer+Linger {
		t.Error(now.Sub(t0))
	}
	if _, s, _ := (Leave{}).Next(t0, 0, false); s != End {
		t.Error("waits for routers that know nothing")
	}
}
