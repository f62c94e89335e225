package bfd

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawConfig(t *rapid.T, d uint32) Config {
	return Config{Discriminator: d, Interval: rapid.SampledFrom([]time.Duration{20, 50, 100, 333, 1000, 1500}).Draw(t, "interval") * ms,
		Multiplier: rapid.SampledFrom([]uint8{1, 2, 3, 5}).Draw(t, "multiplier")}
}

// bad is a network that loses, doubles and delays, and so reorders.
func bad(t *rapid.T, chance func(n int) int) func(int) []time.Duration {
	lost := [2]int{rapid.IntRange(0, 100).Draw(t, "lost of A"), rapid.IntRange(0, 100).Draw(t, "lost of B")}
	doubled, delay := rapid.IntRange(0, 50).Draw(t, "doubled"), rapid.SampledFrom([]int{1, 10, 100, 1000, 3000}).Draw(t, "delay")
	return func(from int) (all []time.Duration) {
		for again := true; again; again = chance(100) < doubled && len(all) < 4 {
			if chance(100) >= lost[from] {
				all = append(all, time.Duration(chance(delay)+1)*ms)
			}
		}
		return all
	}
}

// Two sides over a bad network with changes of their times, and then over a good one, or over one that is good one way only: in
// the end both are up and stay up, or neither is. At every step the detection time holds (wire.observe).
func TestNetworks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := rapid.Uint64().Draw(t, "seed")
		seed := func() uint64 { // splitmix64
			state += 0x9e3779b97f4a7c15
			z := state
			z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			return z ^ z>>31
		}
		w := &wire{t: t, now: time.Unix(0, 0), seed: seed}
		good := func(int) []time.Duration { return []time.Duration{2 * ms} }
		w.fate = good
		w.start([2]Config{drawConfig(t, 1), drawConfig(t, 2)})
		for range rapid.IntRange(0, 6).Draw(t, "phases") {
			w.fate = bad(t, func(n int) int { return int(seed() >> 1 % uint64(n)) })
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				w.run(time.Duration(rapid.IntRange(0, 5000).Draw(t, "for")) * ms)
				i := rapid.IntRange(0, 1).Draw(t, "side")
				c := drawConfig(t, 9)
				c.Down = rapid.IntRange(0, 9).Draw(t, "down") == 0
				w.step(i, Event{Config: &c})
			}
		}
		for i := range w.side {
			c := w.side[i].config
			c.Down = false
			w.step(i, Event{Config: &c})
		}
		// The longest silence that anybody bears, and what is still in flight.
		const settled = 2*5*1500*ms + 8*time.Second
		if rapid.Bool().Draw(t, "one way") {
			w.fate = func(from int) []time.Duration {
				if from == 0 {
					return nil
				}
				return good(from)
			}
			w.run(settled)
			for range 50 {
				if a, b := w.side[0].State(), w.side[1].State(); a == Up || b == Up {
					t.Fatalf("B hears nothing, and yet A is %v and B is %v", a, b)
				}
				w.run(100 * ms)
			}
		}
		w.fate = good
		w.run(settled)
		w.downs = [2]int{}
		w.run(10 * time.Second)
		if a, b := w.side[0].State(), w.side[1].State(); a != Up || b != Up || w.downs != [2]int{} {
			t.Fatalf("over a good network A is %v (%s) and B is %v (%s), down %v times", a, w.side[0].Why(), b, w.side[1].Why(), w.downs)
		}
		if w.side[0].poll != pollNone || w.side[1].poll != pollNone {
			t.Fatal("a side still asks for an answer that it got")
		}
		// Death: whoever is left notices within its detection time, and then never believes in it again.
		w.fate = func(int) []time.Duration { return nil }
		w.run(3 * ms)
		limit := max(w.patience(0)-w.now.Sub(w.heard[0]), w.patience(1)-w.now.Sub(w.heard[1]))
		w.run(limit)
		w.step(0, Event{})
		w.step(1, Event{})
		if a, b := w.side[0].State(), w.side[1].State(); a != Down || b != Down {
			t.Fatalf("%v after the network's death A is %v and B is %v", limit, a, b)
		}
	})
}

// On a good network no change of times looks like death.
func TestChangesOfTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := rapid.Uint64().Draw(t, "seed")
		w := &wire{t: t, now: time.Unix(0, 0), seed: func() uint64 { state = state*6364136223846793005 + 1442695040888963407; return state }}
		delay := time.Duration(rapid.IntRange(0, 20).Draw(t, "delay")) * ms
		w.fate = func(int) []time.Duration { return []time.Duration{delay} }
		draw := func() Config {
			c := drawConfig(t, 1)
			c.Interval = max(c.Interval, 50*ms)
			return c
		}
		a, b := draw(), draw()
		b.Discriminator = 2
		w.start([2]Config{a, b})
		w.run(10 * time.Second)
		w.downs = [2]int{}
		for range rapid.IntRange(1, 20).Draw(t, "changes") {
			c := draw()
			w.step(rapid.IntRange(0, 1).Draw(t, "side"), Event{Config: &c})
			w.run(time.Duration(rapid.IntRange(0, 3000).Draw(t, "for")) * ms)
		}
		if w.side[0].State() != Up || w.side[1].State() != Up || w.downs != [2]int{} {
			t.Fatalf("A is %v, B is %v, down %v times", w.side[0].State(), w.side[1].State(), w.downs)
		}
	})
}
