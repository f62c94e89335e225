package bfd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

func pair() [2]Config {
	return [2]Config{{Discriminator: 1, Interval: 100 * ms, Multiplier: 3}, {Discriminator: 2, Interval: 200 * ms, Multiplier: 5}}
}

// Scripts and what comes of them. UPDATE=1 writes the transcripts; read the difference.
func TestScripts(t *testing.T) {
	cut := func(w *wire, from ...bool) {
		w.fate = func(i int) []time.Duration {
			if from[i] {
				return nil
			}
			return []time.Duration{ms}
		}
	}
	heal := func(w *wire) { cut(w, false, false) }
	set := func(w *wire, i int, change func(*Config)) {
		c := w.side[i].config
		change(&c)
		w.step(i, Event{Config: &c})
	}
	for name, script := range map[string]func(*wire){
		"up":      func(w *wire) { w.run(1500 * ms) },
		"alone":   func(w *wire) { cut(w, true, true); w.run(3 * time.Second) },
		"one-way": func(w *wire) { cut(w, true, false); w.run(4 * time.Second) },
		"silence": func(w *wire) { w.run(1500 * ms); cut(w, true, true); w.run(1500 * ms) },
		"deaf":    func(w *wire) { w.run(1500 * ms); cut(w, false, true); w.run(time.Second) },
		"recovery": func(w *wire) {
			w.run(time.Second)
			cut(w, true, true)
			w.run(2 * time.Second)
			heal(w)
			w.run(1500 * ms)
		},
		"admin-down": func(w *wire) {
			w.run(time.Second)
			set(w, 0, func(c *Config) { c.Down = true })
			w.run(1500 * ms)
			set(w, 0, func(c *Config) { c.Down = false })
			w.run(500 * ms)
		},
		"slower": func(w *wire) {
			w.run(time.Second)
			set(w, 0, func(c *Config) { c.Interval = 500 * ms })
			w.run(time.Second)
		},
		"faster": func(w *wire) {
			w.run(time.Second)
			set(w, 1, func(c *Config) { c.Interval = 50 * ms })
			w.run(300 * ms)
		},
		"slower-while-lost": func(w *wire) {
			w.run(time.Second)
			cut(w, true, false)
			set(w, 0, func(c *Config) { c.Interval = 500 * ms })
			w.run(350 * ms)
			heal(w)
			w.run(time.Second)
		},
		"twice": func(w *wire) {
			w.run(time.Second)
			for _, i := range []time.Duration{300, 700} {
				set(w, 0, func(c *Config) { c.Interval = i * ms })
			}
			w.run(2 * time.Second)
		},
		"multiplier": func(w *wire) { w.run(time.Second); set(w, 0, func(c *Config) { c.Multiplier = 9 }); w.run(100 * ms) },
		"restart": func(w *wire) {
			w.run(time.Second)
			c := pair()[1]
			c.Discriminator = 3
			w.side[1], w.next[1] = New(c, w.now), w.now
			w.heard[1] = time.Time{}
			w.run(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, pair())
			w.log = new(strings.Builder)
			script(w)
			path := filepath.Join("testdata", name+".txt")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(path, []byte(w.log.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if have := w.log.String(); have != string(want) {
				t.Errorf("%s:\n%s", name, have)
			}
		})
	}
}

// A router that wants no packets gets none that are not news, and all again when it died.
func TestWantsNone(t *testing.T) {
	now := time.Unix(0, 0)
	s, _ := New(pair()[0], now).Step(Event{Now: now})
	say := func(p Packet) Output {
		var out Output
		p.Mine, p.Yours, p.Multiplier, p.DesiredTx = 9, 1, 3, 100*ms
		s, out = s.Step(Event{Now: now, Packet: &p})
		return out
	}
	say(Packet{State: Init})
	now = now.Add(minInterval)
	s, _ = s.Step(Event{Now: now})
	if out := say(Packet{State: Up, Final: true}); out.Send || !out.Next.Equal(now.Add(300*ms)) {
		t.Errorf("%+v", out)
	}
	now = now.Add(299 * ms)
	var out Output
	if s, out = s.Step(Event{Now: now}); out.Send {
		t.Errorf("sent %+v to a router that wants nothing", out.Packet)
	}
	if out = say(Packet{State: Up, Poll: true}); !out.Send || !out.Packet.Final || out.Packet.Poll {
		t.Errorf("no answer: %+v", out)
	}
	now = now.Add(300 * ms)
	if s, out = s.Step(Event{Now: now}); !out.Send || out.Packet.State != Down || out.Packet.Diag != DiagSilence || out.Packet.Yours != 0 {
		t.Errorf("%+v", out)
	}
	if out.Next.IsZero() {
		t.Error("it rests for ever")
	}
}

// What is not for the session does not touch it, and is no life sign.
func TestForeign(t *testing.T) {
	w := newWire(t, pair())
	w.run(time.Second)
	before := w.side[0]
	for _, st := range []State{AdminDown, Down, Init, Up} {
		after, out := before.Step(Event{Now: w.now, Packet: &Packet{State: st, Mine: 2, Yours: 77, Multiplier: 3, Poll: true}})
		if after != before || out.Send {
			t.Errorf("%v: %+v", st, out)
		}
	}
}
