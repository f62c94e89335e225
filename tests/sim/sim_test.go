package sim

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"padis.io/padis/scheduler/record"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// A few hundred histories with each test run; `padis-sim` lives through more.
func TestHistories(t *testing.T) {
	for seed := range uint64(300) {
		r := Run(Options{Seed: 1_000_000 + seed})
		if len(r.Violations) > 0 {
			t.Fatalf("seed %d: %s\n%s", r.Seed, strings.Join(r.Violations, "; "), strings.Join(r.Trace, "\n"))
		}
	}
}

// The same seed is the same history, line by line.
func TestSameSeedSameTrace(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := range uint64(20) {
		a, b := Run(Options{Seed: seed, Keep: -1}), Run(Options{Seed: seed, Keep: -1})
		if a.Hash != b.Hash {
			for i := range min(len(a.Trace), len(b.Trace)) {
				if a.Trace[i] != b.Trace[i] {
					t.Fatalf("seed %d parts at line %d:\n%s\n%s", seed, i, a.Trace[i], b.Trace[i])
				}
			}
			t.Fatalf("seed %d: %d and %d lines", seed, len(a.Trace), len(b.Trace))
		}
		seen[a.Hash] = true
	}
	if len(seen) != 20 {
		t.Errorf("20 seeds gave %d histories", len(seen))
	}
}

// The invariants have eyes: executors that do not probe are found out.
func TestRudeExecutorsAreNoticed(t *testing.T) {
	for seed := range uint64(200) {
		for _, v := range Run(Options{Seed: seed, Rude: true}).Violations {
			if strings.Contains(v, "is configured on") {
				return
			}
		}
	}
	t.Error("200 histories without probes, and no address was on two hosts")
}

// The scenarios' transcripts are in testdata; read the difference before you accept it with -update.
var scenarios = map[string]func(*Script){
	"crash-between-persist-and-send": func(s *Script) {
		s.Say("Two instances are wanted. The scheduler dies when the wish is durable, and again when the placement is and nothing is sent")
		s.CrashAt("after a commit")
		s.Want("web", 2, "r1")
		s.Let(10 * time.Millisecond)
		s.CrashAt("after a commit")
		s.Let(40 * time.Second)
	},
	"update-in-place": func(s *Script) {
		s.Say("Two instances")
		s.Want("web", 2, "r1")
		s.Let(3 * time.Second)
		s.Say("A new template")
		s.Want("web", 2, "r2")
		s.Let(5 * time.Second)
	},
	"unreachable-and-return": func(s *Script) {
		s.Say("One instance")
		s.Want("web", 1, "r1")
		s.Let(30 * time.Second)
		s.Say("Its host is cut off from the master and goes on serving")
		s.Cut(s.host(), false, 12*time.Second)
		s.Let(11 * time.Second)
		s.Say("It comes back")
		s.Let(20 * time.Second)
	},
	"executor-dies-while-away": func(s *Script) {
		s.Say("Two containers")
		s.WantImage("web", 2, "r1", "registry/web:1")
		s.Let(30 * time.Second)
		s.Say("A host is cut off from the master, so that its container is replaced; then its executor dies, and the container goes on")
		host := s.host()
		s.Cut(host, false, 14*time.Second)
		s.Let(8 * time.Second)
		s.KillExecutor(host)
		s.Let(5 * time.Second)
		s.Say("It comes back: the container is adopted, and what was to replace it is killed")
		s.Let(20 * time.Second)
	},
	"executor-dies": func(s *Script) {
		s.Say("One instance")
		s.Want("web", 1, "r1")
		s.Let(3 * time.Second)
		s.Say("Its executor dies")
		s.KillExecutor(s.host())
		s.Let(15 * time.Second)
	},
	"executor-of-containers-dies": func(s *Script) {
		s.Say("Two containers")
		s.WantImage("web", 2, "r1", "registry/web:1")
		s.Let(3 * time.Second)
		s.Say("An executor is killed: its container goes on, and the next executor takes it over")
		s.KillExecutor(s.host())
		s.Let(5 * time.Second)
		s.Say("Again, and the scheduler dies when the adoption is durable and not sent")
		s.CrashAt("before a send")
		s.KillExecutor(s.host())
		s.Let(40 * time.Second)
	},
	"update-to-another-image": func(s *Script) {
		s.Say("Two containers")
		s.WantImage("web", 2, "r1", "registry/web:1")
		s.Let(3 * time.Second)
		s.Say("Another image: it is pulled first, then the old ones are stopped")
		s.WantImage("web", 2, "r2", "registry/web:2")
		s.Let(8 * time.Second)
	},
	"upgrade-of-executors": func(s *Script) {
		s.Say("Three containers on three hosts")
		s.WantImage("web", 3, "r1", "registry/web:1")
		s.Let(3 * time.Second)
		s.Say("A new scheduler offers another executor: one after the other leaves, and its container goes on")
		s.Upgrade()
		s.Let(20 * time.Second)
	},
	"partition-with-lease": func(s *Script) {
		s.Say("One instance, which may use its address for six seconds without word from the scheduler")
		s.Lease(6 * time.Second)
		s.Want("web", 1, "r1")
		s.Let(4 * time.Second)
		s.Say("Its host is cut off from everybody, and its executor hangs: the kernel takes the address away, then it is started elsewhere")
		host := s.host()
		s.Stall(host, 24*time.Second)
		s.Cut(host, true, 25*time.Second)
		s.Let(24 * time.Second)
		s.Say("It comes back, and gets no renewal before the old instance was killed")
		s.Let(20 * time.Second)
	},
	"power-loss-and-scale-in": func(s *Script) {
		s.Say("One instance")
		s.Want("web", 1, "r1")
		s.Let(30 * time.Second)
		s.Say("Its host loses power, and the app is deleted meanwhile")
		s.PowerOff(s.host(), 12*time.Second)
		s.Let(5 * time.Second)
		s.Delete("web")
		s.Let(20 * time.Second)
	},
}

// Whatever happens to executors, the scheduler and, for a short time, to agents: no container that runs is started again.
func TestDeathsOfExecutorsStartNothing(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(Options{Seed: seed, Keep: 200})
		w.random()
		w.user.apps = nil
		for range 3 {
			a := w.user.create()
			a.Revisions[0].Template.Image = "registry/app:1"
			a.Revisions[0].Constraints = nil
		}
		w.begin()
		w.advance(20 * time.Second)
		before := maps.Clone(w.truth.starts)
		for range 12 {
			switch h := w.hosts[w.rng.IntN(len(w.hosts))]; w.rng.IntN(6) {
			case 0:
				if w.sched.alive {
					w.sched.stop("from outside")
				}
			case 1:
				h.crashAgent(w.between(100*time.Millisecond, time.Second))
				w.advance(6 * time.Second) // It is not away again when the master looks whether it came back.
			case 2:
				w.roll()
			default:
				h.killExecutor()
			}
			w.advance(w.between(0, 4*time.Second))
		}
		w.settle()
		// Those that had no room before may find some that Mesos does not know to be in use.
		maps.DeleteFunc(w.truth.starts, func(s record.Slot, _ int) bool { return before[s] == 0 })
		if r := w.finish(); len(r.Violations) > 0 || !maps.Equal(before, w.truth.starts) || len(before) == 0 {
			t.Fatalf("seed %d: containers started %v before and %v after; %s\n%s", seed, before, w.truth.starts, strings.Join(r.Violations, "; "), strings.Join(r.Trace, "\n"))
		}
	}
}

// host is the number of the host of the first instance.
func (s *Script) host() int {
	for i, h := range s.w.hosts {
		if h.name == s.w.store.instances()[0].GetHostname() {
			return i + 1
		}
	}
	return 1
}

func TestScenarios(t *testing.T) {
	for name, play := range scenarios {
		t.Run(name, func(t *testing.T) {
			s := NewScript(3)
			play(s)
			if why := s.Settled(); why != "" {
				t.Errorf("not as wanted in the end: %s", why)
			}
			path := filepath.Join("testdata", name+".txt")
			got := s.Transcript()
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; write it with -update", err)
			}
			if got != string(want) {
				t.Errorf("the transcript is not that of %s; with -update it is written anew\n%s", path, got)
			}
		})
	}
}
