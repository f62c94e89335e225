package signals

import "testing"

func TestSaid(t *testing.T) {
	s := Said("Name:\tsh\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000004000\nSigQ:\t1/1\n")
	for n := 1; n <= 64; n++ {
		if want := n == 1 || n == 3 || n == 15; s.Has(n) != want {
			t.Errorf("signal %d: %v", n, s.Has(n))
		}
	}
	if s.Has(0) || s.Has(-1) {
		t.Error("there are no such signals")
	}
}

func TestDefaults(t *testing.T) {
	for n, want := range map[int]bool{9: true, 15: true, 1: true, 28: false, 17: false} {
		if EndsByDefault(n) != want {
			t.Errorf("default action of %d ends: %v", n, !want)
		}
	}
	for n, want := range map[int]bool{9: true, 11: true, 15: false, 2: false} {
		if EndsFirst(n) != want {
			t.Errorf("%d can end a PID 1: %v", n, !want)
		}
	}
}

func FuzzSaid(f *testing.F) {
	f.Add("SigCgt:\tffff\n")
	f.Add("SigIgn")
	f.Fuzz(func(_ *testing.T, s string) { Said(s) })
}
