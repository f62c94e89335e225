package ipvs

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

func examples() []op {
	four := key{protocol: lb.TCP, at: netip.MustParseAddrPort("10.99.0.1:80"), family: unix.AF_INET}
	six := key{protocol: lb.UDP, at: netip.MustParseAddrPort("[fd99::1]:53"), family: unix.AF_INET6}
	mark := key{mark: 7, family: unix.AF_INET6}
	return []op{
		{verb: addService, service: service{key: four, scheduler: "mh", flags: mhPort}},
		{verb: editService, service: service{key: six, scheduler: "mh", flags: mhPort | onePacket}},
		{verb: addService, service: service{key: mark, scheduler: "rr"}},
		{verb: addDest, service: service{key: four}, dest: dest{netip.MustParseAddrPort("10.3.0.1:80"), 3, 9}},
		{verb: editDest, service: service{key: six}, dest: dest{netip.MustParseAddrPort("[fd03::1]:53"), 0, 0}},
		{verb: addDest, service: service{key: mark}, dest: dest{netip.MustParseAddrPort("[fd03::1]:0"), 1, 0}},
	}
}

// The kernel lists services and real servers by the attributes by which it is told of them.
func TestMessagesAreReadAsTheyAreWritten(t *testing.T) {
	for _, o := range examples() {
		b, err := o.encode()
		if err != nil {
			t.Fatal(err)
		}
		s, err := decodeService(b)
		if err != nil || s.key != o.service.key || s.scheduler != o.service.scheduler || s.flags != o.service.flags {
			t.Errorf("%s: %v, %+v", o, err, s)
		}
		if o.verb < addDest {
			continue
		}
		if d, err := decodeDest(b, o.service.family); err != nil || d != o.dest {
			t.Errorf("%s: %v, %+v", o, err, d)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, o := range examples() {
		b, err := o.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b[:len(b)-3], false)
	}
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		if s, err := decodeService(b); err == nil && s.mark == 0 && !s.at.IsValid() {
			t.Errorf("a service without address: %+v", s)
		}
		family := uint8(unix.AF_INET)
		if six {
			family = unix.AF_INET6
		}
		if d, err := decodeDest(b, family); err == nil && d.at.Addr().Is6() != six {
			t.Errorf("a real server of another family: %+v", d)
		}
	})
}

func TestCounters(t *testing.T) {
	const text = `       Total Incoming Outgoing         Incoming         Outgoing
CPU    Conns  Packets  Packets            Bytes            Bytes
  0        2       1A        0              5DC                0
  1        0        3        0               80                0
  ~        2       10        0              65C                0

     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
           0        0        0                0                0
`
	if n, err := incoming(text); n != 0x1d || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := incoming("nothing"); err == nil {
		t.Error("a file without counters is read")
	}
}
