package webhooks

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Whoever is answered was passed on by a pass that began after he had come, and passes are a gap apart.
func TestNoCallIsLost(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(seed, 1))
			j := &joins{gap: gap, now: time.Now}
			var (
				mu    sync.Mutex
				begun []time.Time
				all   sync.WaitGroup
			)
			calls := 1 + chance.IntN(40)
			for range calls {
				time.Sleep(time.Duration(chance.IntN(400)) * time.Millisecond)
				came, slow := time.Now(), time.Duration(chance.IntN(700))*time.Millisecond
				all.Go(func() {
					err := j.do(t.Context(), types.NamespacedName{Name: "a"}, func() error {
						mu.Lock()
						begun = append(begun, time.Now())
						mu.Unlock()
						time.Sleep(slow)
						return nil
					})
					mu.Lock()
					defer mu.Unlock()
					if err != nil || len(begun) == 0 || begun[len(begun)-1].Before(came) {
						t.Errorf("came at %s, answered with %v after passes at %v", came, err, begun)
					}
				})
			}
			all.Wait()
			for i := 1; i < len(begun); i++ {
				if d := begun[i].Sub(begun[i-1]); d < gap {
					t.Errorf("seed %d: passes are %s apart", seed, d)
				}
			}
			if len(begun) > calls {
				t.Errorf("%d passes for %d calls", len(begun), calls)
			}
		})
	}
}

func TestWhoWaitsHearsOfTheFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &joins{gap: gap, now: time.Now}
		a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
		fails := errors.New("no")
		if err := j.do(t.Context(), a, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := j.do(t.Context(), a, func() error { return fails }); !errors.Is(err, fails) {
			t.Errorf("got %v", err)
		}
		// Another source does not wait.
		start := time.Now()
		if err := j.do(t.Context(), b, func() error { return nil }); err != nil || time.Since(start) != 0 {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
		// A caller that goes away takes nothing with him.
		passed := false
		ctx, cancel := context.WithTimeout(t.Context(), gap/4)
		defer cancel()
		if err := j.do(ctx, b, func() error { passed = true; return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * gap)
		synctest.Wait()
		if !passed {
			t.Error("what was asked for is not passed on")
		}
		_ = j.do(t.Context(), b, func() error { return nil })
		if len(j.by) != 1 {
			t.Errorf("%d sources are remembered", len(j.by))
		}
	})
}
