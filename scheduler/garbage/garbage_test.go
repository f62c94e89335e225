package garbage

import (
	"context"
	"testing"
	"time"
)

const mb = 1 << 20

func TestLittleGarbageIsCollectedRarelyWhileMuchIsMade(t *testing.T) {
	var p pacer
	cycles := uint64(0)
	beats := func(n int, collections uint64, live uint64) (percent int) {
		for range n {
			cycles += collections
			percent = p.next(cycles, live)
		}
		return percent
	}
	for _, step := range []struct {
		name        string
		beats       int
		collections uint64
		live        uint64
		want        int
	}{
		{"nothing happens", 20, 0, 64 * mb, Calm},
		{"the start is busy", 2, 1, 20 * mb, 160},
		{"and may be with more in use", 2, 1, 200 * mb, Calm},
		{"nothing happens for long", 100, 0, 64 * mb, Calm},
		{"one collection", 1, 1, 64 * mb, Calm},
		{"long after", 2 * patience, 0, 64 * mb, Calm},
		{"another one", 1, 1, 64 * mb, Calm},
		{"and one soon after", 1, 1, 64 * mb, 400},
		{"next to nothing in use", 1, 1, 1, most},
		{"much in use", 1, 1, 2048 * mb, Calm},
		{"much in use, and calm", patience, 0, 1024 * mb, 18},
		{"so much that little more is of no use", 1, 0, 4096 * mb, smallest},
		{"busy once more", 2, 1, 64 * mb, 400},
		{"still busy", patience - 1, 0, 128 * mb, 200},
		{"calm again", 1, 0, 128 * mb, Calm},
		{"two in one beat", 1, 2, 128 * mb, 200},
	} {
		if got := beats(step.beats, step.collections, step.live); got != step.want {
			t.Errorf("%s: %d %%, want %d", step.name, got, step.want)
		}
	}
}

func TestPaceEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*beat)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		Pace(ctx, func() {})
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it goes on although its context has ended")
	}
}
