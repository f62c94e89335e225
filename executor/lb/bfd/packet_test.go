package bfd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// golden is laid out by hand after RFC 5880, section 4.1.
var golden = []struct {
	name, bytes string
	packet      Packet
}{
	{"first", "20 40 03 18  00000001 00000000  000f4240 000186a0 00000000",
		Packet{State: Down, Multiplier: 3, Mine: 1, DesiredTx: time.Second, RequiredRx: 100 * time.Millisecond}},
	{"up, poll", "20 e0 05 18  11223344 55667788  0000c350 0000c350 00000000",
		Packet{State: Up, Poll: true, Multiplier: 5, Mine: 0x11223344, Yours: 0x55667788, DesiredTx: 50 * time.Millisecond, RequiredRx: 50 * time.Millisecond}},
	{"init, final", "20 90 01 18  00000001 00000002  00000001 00000002 00000003",
		Packet{State: Init, Final: true, Multiplier: 1, Mine: 1, Yours: 2, DesiredTx: time.Microsecond, RequiredRx: 2 * time.Microsecond, RequiredEchoRx: 3 * time.Microsecond}},
	{"silence, independent, demand", "21 4a ff 18  ffffffff fffffffe  ffffffff 00000000 00000000",
		Packet{State: Down, Diag: DiagSilence, Independent: true, Demand: true, Multiplier: 255, Mine: 0xffffffff, Yours: 0xfffffffe, DesiredTx: 0xffffffff * time.Microsecond}},
	{"admin down", "27 00 03 18  00000001 00000002  000f4240 000f4240 00000000",
		Packet{State: AdminDown, Diag: DiagAdmin, Multiplier: 3, Mine: 1, Yours: 2, DesiredTx: time.Second, RequiredRx: time.Second}},
}

func decode(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		want := decode(t, g.bytes)
		if have := g.packet.Append(nil); !bytes.Equal(have, want) {
			t.Errorf("%s: wrote %x, not %x", g.name, have, want)
		}
		if have, err := Parse(append(want, 1, 2, 3)); err != nil || have != g.packet {
			t.Errorf("%s: read %+v, %v", g.name, have, err)
		}
	}
}

// Each refusal of RFC 5880, section 6.8.6, by one change to a packet that is taken.
func TestRefused(t *testing.T) {
	for _, r := range []struct {
		bytes string
		err   error
	}{
		{"", ErrShort},
		{"20 40 03 18  00000001 00000000  000f4240 000186a0 000000", ErrShort},
		{"20 40 03 17  00000001 00000000  000f4240 000186a0 00000000", ErrShort},
		{"20 40 03 19  00000001 00000000  000f4240 000186a0 00000000", ErrShort},
		{"40 40 03 18  00000001 00000000  000f4240 000186a0 00000000", ErrVersion},
		{"00 40 03 18  00000001 00000000  000f4240 000186a0 00000000", ErrVersion},
		{"20 40 00 18  00000001 00000000  000f4240 000186a0 00000000", ErrMultiplier},
		{"20 41 03 18  00000001 00000000  000f4240 000186a0 00000000", ErrMultipoint},
		{"20 40 03 18  00000000 00000000  000f4240 000186a0 00000000", ErrDiscriminator},
		{"20 80 03 18  00000001 00000000  000f4240 000186a0 00000000", ErrDiscriminator},
		{"20 c0 03 18  00000001 00000000  000f4240 000186a0 00000000", ErrDiscriminator},
		// A simple password, "pass".
		{"20 44 03 1f  00000001 00000000  000f4240 000186a0 00000000 01 07 01 70617373", ErrAuthentication},
	} {
		if p, err := Parse(decode(t, r.bytes)); !errors.Is(err, r.err) {
			t.Errorf("%s: %+v, %v, not %v", r.bytes, p, err, r.err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, g := range golden {
		f.Add(decode(f, g.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if p != (Packet{}) {
				t.Errorf("%v, and yet %+v", err, p)
			}
			return
		}
		again, err := Parse(p.Append(nil))
		if err != nil || again != p {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
		if have := p.Append(nil); len(have) != Size || !bytes.Equal(have[4:], b[4:Size]) || have[0] != b[0] || have[1] != b[1] || have[2] != b[2] {
			t.Errorf("%x became %x", b, have)
		}
		// Whatever is said to it, a session goes on.
		now := time.Unix(0, 0)
		s := New(Config{Discriminator: max(p.Yours, 1), Interval: DefaultInterval, Multiplier: DefaultMultiplier}, now)
		for range 3 {
			var out Output
			s, out = s.Step(Event{Now: now, Packet: &p})
			if out.Next.Before(now) {
				t.Errorf("%+v: wants to be asked at %v, before %v", p, out.Next, now)
			}
			now = now.Add(time.Millisecond)
		}
	})
}

func TestPeers(t *testing.T) {
	peers, err := Normal([]Peer{{Address: addr("fd00::1")}, {Address: addr("10.0.0.1"), Local: addr("10.0.0.2"), Interval: 50 * time.Millisecond, Multiplier: 5}})
	if err != nil || peers[0].Multiplier != 5 || peers[1].Interval != DefaultInterval || peers[1].Multiplier != DefaultMultiplier {
		t.Errorf("%+v, %v", peers, err)
	}
	_, err = Normal([]Peer{
		{}, {Address: addr("fe80::1%eth0")}, {Address: addr("224.0.0.1")}, {Address: addr("10.0.0.1"), Local: addr("fd00::1")},
		{Address: addr("10.0.0.1"), Interval: 1500 * time.Microsecond}, {Address: addr("10.0.0.3"), Interval: time.Millisecond},
	})
	for _, want := range []string{
		"bfd peer invalid IP: address", "bfd peer fe80::1%eth0: address", "bfd peer 224.0.0.1: address", "bfd peer 10.0.0.1: local address: fd00::1",
		"bfd peer 10.0.0.1: interval: 1.5ms", "bfd peer 10.0.0.3: interval: 1ms", "bfd peer 10.0.0.1: is named twice",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestJitter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{Discriminator: 1, Interval: rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second}).Draw(t, "interval"), Multiplier: rapid.Uint8Range(1, 3).Draw(t, "multiplier")}
		now := time.Unix(0, 0)
		s, out := New(c, now).Step(Event{Now: now, Seed: rapid.Uint64().Draw(t, "seed")})
		low, high := c.Interval-c.Interval/4, c.Interval
		if c.Multiplier == 1 {
			high -= c.Interval / 10
		}
		if wait := out.Next.Sub(now); !out.Send || wait < low || wait > high {
			t.Fatalf("the second packet would come after %v, not within %v and %v", wait, low, high)
		}
		if _, early := s.Step(Event{Now: out.Next.Add(-1)}); early.Send {
			t.Fatal("it came early")
		}
		if _, due := s.Step(Event{Now: out.Next}); !due.Send {
			t.Fatal("it did not come")
		}
	})
}

func TestNoAllocations(t *testing.T) {
	now, buffer := time.Unix(0, 0), make([]byte, 0, Size)
	p := Packet{State: Down, Multiplier: 3, Mine: 2, DesiredTx: time.Second, RequiredRx: time.Second}
	s := New(Config{Discriminator: 1, Interval: DefaultInterval, Multiplier: 3}, now)
	var got Packet
	if n := testing.AllocsPerRun(100, func() {
		var err error
		got, err = Parse(p.Append(buffer))
		if err != nil {
			t.Error(err)
		}
		s, _ = s.Step(Event{Now: now, Packet: &got})
		now = now.Add(time.Second)
		s, _ = s.Step(Event{Now: now})
	}); n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}
