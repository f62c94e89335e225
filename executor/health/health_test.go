package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// play runs one check against results at their due times: "+" success, "-" failure. It returns one line for each
// probe: milliseconds since the start, result, and what is then true.
func play(c Check, results string) string {
	s := New(start, []Check{c})
	var out strings.Builder
	for _, r := range results {
		now := s.Next()
		var due []int
		if s, due = s.Begin(now); len(due) != 1 {
			return fmt.Sprintf("%d probes are due at %s", len(due), now)
		}
		s = s.Result(now, 0, r == '+', "refused")
		fmt.Fprintf(&out, "%d%c", now.Sub(start).Milliseconds(), r)
		if s.Ready() {
			out.WriteString(" ready")
		}
		if _, message, failed := s.Failed(); failed {
			out.WriteString(" failed: " + message)
		}
		out.WriteString("\n")
	}
	return out.String()
}

func TestSchedule(t *testing.T) {
	c := Check{Grace: 400 * time.Millisecond, Interval: 200 * time.Millisecond, FailureThreshold: 2, SuccessThreshold: 1}
	twice := c
	twice.SuccessThreshold = 2
	none := c
	none.Grace = 0
	for name, tt := range map[string]struct {
		check   Check
		results string
		want    string
	}{
		"quick while starting":          {c, "---+", "0-\n25-\n75-\n175+ ready\n"},
		"never up: counted after grace": {c, "-------", "0-\n25-\n75-\n175-\n375-\n575-\n775- failed: refused\n"},
		"first success ends the grace":  {c, "+--", "0+ ready\n200-\n400- failed: refused\n"},
		"one failure is not the end":    {c, "+-+-+", "0+ ready\n200-\n400+ ready\n600-\n800+ ready\n"},
		"two successes":                 {twice, "-+-++", "0-\n25+\n225-\n425+\n625+ ready\n"},
		"no grace":                      {none, "--", "0-\n200- failed: refused\n"},
	} {
		if got := play(tt.check, tt.results); got != tt.want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

func TestChecksHaveTheDefaultsOfTheAPI(t *testing.T) {
	got := Checks([]*padisv1.HealthCheck{
		{Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: 80}}},
		{Probe: &padisv1.HealthCheck_Http{Http: &padisv1.HttpProbe{Port: 80}}, GracePeriodMs: 1000, IntervalMs: 100, TimeoutMs: 50, FailureThreshold: 4, SuccessThreshold: 2},
	})
	want := []Check{
		{"tcp", 0, 5 * time.Second, 2 * time.Second, 1, 1},
		{"http", time.Second, 100 * time.Millisecond, 50 * time.Millisecond, 4, 2},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Whatever comes when: an awaited probe is never begun twice, nothing fails for good with fewer counted failures than
// its threshold in a row, and what passes has its successes in a row behind it.
func TestThresholds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "checks")
		var checks []Check
		for range n {
			checks = append(checks, Check{
				Grace:            time.Duration(rapid.IntRange(0, 2000).Draw(t, "grace")) * time.Millisecond,
				Interval:         time.Duration(rapid.IntRange(1, 1000).Draw(t, "interval")) * time.Millisecond,
				FailureThreshold: rapid.IntRange(1, 4).Draw(t, "failures"),
				SuccessThreshold: rapid.IntRange(1, 4).Draw(t, "successes"),
			})
		}
		s, now := New(start, checks), start
		out := map[int]bool{}
		fails, wins := make([]int, n), make([]int, n)
		begun := make([]bool, n)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "pass")) * time.Millisecond)
			var due []int
			s, due = s.Begin(now)
			for _, i := range due {
				if out[i] {
					t.Fatalf("check %d begun twice", i)
				}
				out[i] = true
			}
			i := rapid.IntRange(-1, n).Draw(t, "result of")
			ok := rapid.Bool().Draw(t, "ok")
			s = s.Result(now, i, ok, "no")
			if !out[i] {
				continue
			}
			delete(out, i)
			if ok {
				begun[i], fails[i] = true, 0
				wins[i]++
			} else {
				wins[i] = 0
				if begun[i] || !now.Before(start.Add(checks[i].Grace)) {
					fails[i]++
				}
			}
			ready, failed := true, false
			for j, c := range checks {
				ready = ready && wins[j] >= c.SuccessThreshold
				failed = failed || fails[j] >= c.FailureThreshold
			}
			if s.Ready() != ready {
				t.Fatalf("ready %v, should be %v", s.Ready(), ready)
			}
			if _, _, got := s.Failed(); got != failed {
				t.Fatalf("failed %v, should be %v", got, failed)
			}
		}
	})
}

func TestWhatWasReadyStaysSoUntilACheckFails(t *testing.T) {
	s := Resume(start, Checks([]*padisv1.HealthCheck{{Probe: &padisv1.HealthCheck_Tcp{}, GracePeriodMs: 60_000, SuccessThreshold: 3, FailureThreshold: 2}}))
	if !s.Ready() || !s.Checked() || !s.Next().Equal(start) {
		t.Errorf("at first: ready %v, checked %v, next %v", s.Ready(), s.Checked(), s.Next())
	}
	s, _ = s.Begin(start)
	if s = s.Result(start, 0, true, ""); !s.Ready() {
		t.Error("not ready after a success")
	}
	now := s.Next()
	s, _ = s.Begin(now)
	s = s.Result(now, 0, false, "refused")
	if _, _, failed := s.Failed(); s.Ready() || failed {
		t.Errorf("after a failure: ready %v, failed %v", s.Ready(), failed)
	}
	now = s.Next()
	s, _ = s.Begin(now)
	s = s.Result(now, 0, false, "refused")
	if _, _, failed := s.Failed(); !failed {
		t.Error("there is no second grace period")
	}
}
