package main

import "testing"

// No flow of a live server moves, whatever the seed; and the model can tell: it sees what routers do to other directors.
func TestReplay(t *testing.T) {
	for seed := range uint64(3) {
		c := config{flows: 4000, changes: 20, servers: 20, slots: 2039, seed: seed}
		r, err := replay(c, t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		if r.moved != 0 {
			t.Errorf("seed %d: %d flows moved", seed, r.moved)
		}
		if r.packets < c.flows*c.changes || r.relayed == 0 {
			t.Errorf("seed %d: only %d packets, %d relayed", seed, r.packets, r.relayed)
		}
		for name, least := range map[string]float64{"modulo": 0.8, "threshold": 0.25, "resilient": 0.1} {
			if n := r.routed[name]; float64(n) < least*float64(c.flows) {
				t.Errorf("seed %d: %s sends only %d of %d flows to another director", seed, name, n, c.flows)
			}
		}
	}
}

// The model is not blind: with a server that forgets its sockets it counts the flows.
func TestReplaySeesWhatMoves(t *testing.T) {
	c := config{flows: 2000, changes: 2, servers: 5, slots: 2039, seed: 1}
	f, v, err := begin(c)
	if err != nil {
		t.Fatal(err)
	}
	f.servers = append(f.servers, newServer(len(f.servers)))
	v.four, v.six = nil, nil // a table without histories
	if _, err = f.next(v); err != nil {
		t.Fatal(err)
	}
	if r := f.check(0, 1, 0, true); r.moved < c.flows/20 || r.moved > c.flows/2 {
		t.Errorf("%d of %d flows move without histories", r.moved, c.flows)
	}
}
