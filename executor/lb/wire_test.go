package lb

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// small is a service with something of everything; its bytes are in testdata, because older and newer programs must read them.
func small(t testing.TB) (before, now *Generation) {
	s := Service{VIP: netip.MustParseAddr("2001:db8::80"), Protocol: TCP, Ports: Ports{8000, 8999}, Scheduler: SourceHash, TableSize: 31, Seed: 0x0102030405060708,
		Allow: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::/0")}}
	all := servers(4)
	before = must(t, nil, s, all)
	all[1].Weight, all[2].State, all[3].State = 300, Draining, Suspect
	return before, must(t, before, s, append(all, server(4)))
}

func TestWireRoundTrip(t *testing.T) {
	before, now := small(t)
	for _, g := range []*Generation{before, now, history(t, 1021, 40), must(t, nil, service(2), nil)} {
		got, err := Decode(g.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !got.same(g) || got.Number != g.Number {
			t.Errorf("generation %d comes back different", g.Number)
		}
	}
}

// A fresh table takes a byte a slot, a change no more than its servers.
func TestWireIsCompact(t *testing.T) {
	g := must(t, nil, service(DefaultTableSize), servers(100))
	if n := len(g.Encode()); n > DefaultTableSize+3000 {
		t.Errorf("generation of %d bytes", n)
	}
	if n := len(must(t, g, g.Service, servers(101)).ChangeTo(g).Encode()); n > 101*24+50 {
		t.Errorf("change of %d bytes", n)
	}
}

func TestWireGolden(t *testing.T) {
	before, now := small(t)
	for name, got := range map[string][]byte{"testdata/generation.bin": now.Encode(), "testdata/change.bin": now.ChangeTo(before).Encode()} {
		if *update {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: a new layout needs a new version\ngot  %x\nwant %x", name, got, want)
		}
	}
}

func TestChangeLeadsToTheSameTable(t *testing.T) {
	before, now := small(t)
	c, err := DecodeChange(now.ChangeTo(before).Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := before.Apply(c); err != nil || !got.same(now) {
		t.Errorf("another table: %v", err)
	}
	if _, err := now.Apply(c); !errors.Is(err, ErrWhole) {
		t.Errorf("from another generation: %v", err)
	}
	c.Digest++
	if _, err := before.Apply(c); !errors.Is(err, ErrWhole) {
		t.Errorf("to another generation: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	before, now := small(t)
	whole, change := now.Encode(), now.ChangeTo(before).Encode()
	for n := range whole {
		if _, err := Decode(whole[:n]); err == nil {
			t.Errorf("accepts %d of %d bytes", n, len(whole))
		}
	}
	for n := range change {
		if _, err := DecodeChange(change[:n]); err == nil {
			t.Errorf("accepts %d of %d bytes of a change", n, len(change))
		}
	}
	for want, b := range map[string][]byte{
		"1 bytes too many": append(slices.Clone(whole), 0),
		"one version":      append([]byte{0x12}, whole[1:]...),
	} {
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// What is accepted can be used: every slot has a chain of known servers, and it is written and read again as it is.
func FuzzDecode(f *testing.F) {
	before, now := small(f)
	f.Add(now.Encode())
	f.Add(before.Encode())
	f.Add(now.ChangeTo(before).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeChange(b); err == nil {
			if again, err := DecodeChange(c.Encode()); err != nil || !again.Service.same(&c.Service) || !slices.Equal(again.Servers, c.Servers) {
				t.Fatalf("a change comes back different: %v", err)
			}
		}
		g, err := Decode(b)
		if err != nil {
			return
		}
		for slot := range g.Service.TableSize {
			for _, e := range g.Chain(slot) {
				_ = g.Servers[e]
			}
		}
		if again, err := Decode(g.Encode()); err != nil || !again.same(g) {
			t.Fatalf("comes back different: %v", err)
		}
	})
}
