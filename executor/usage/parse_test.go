package usage

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLocate(t *testing.T) {
	v1 := parseMounts("34 31 0:31 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n" +
		"35 31 0:32 /docker/me /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\nbroken\n")
	v2 := parseMounts("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	for name, c := range map[string]struct {
		mounts      []mount
		own, theirs string
		want        places
	}{
		"version 2":               {v2, "0::/mesos/a\n", "0::/padis/x\n", both(place{"/sys/fs/cgroup/padis/x", true})},
		"shared":                  {v2, "0::/mesos/a\n", "0::/mesos/a\n", both(place{"", true})},
		"the root is nobody's":    {v2, "0::/mesos/a\n", "0::/\n", both(place{"", true})},
		"outside the namespace":   {v2, "0::/\n", "0::/../x\n", both(place{"", true})},
		"a colon in the name":     {v2, "0::/\n", "0::/a:b\n", both(place{"/sys/fs/cgroup/a:b", true})},
		"version 1 and a half":    {v1, "4:memory:/m\n1:cpu,cpuacct:/\n", "4:memory:/padis/x\n1:cpu,cpuacct:/docker/me/padis/x\n0::/padis/x\n", places{cpu: place{dir: "/sys/fs/cgroup/cpu,cpuacct/padis/x"}, memory: place{dir: "/sys/fs/cgroup/memory/padis/x"}, pids: place{"/sys/fs/cgroup/unified/padis/x", true}, io: place{"/sys/fs/cgroup/unified/padis/x", true}}},
		"beside what is mounted":  {v1, "", "1:cpu,cpuacct:/docker/other\n", places{pids: place{v2: true}, io: place{v2: true}}},
		"no cgroups on this host": {nil, "0::/a\n", "0::/b\n", places{}},
	} {
		if got := locate(c.mounts, parseCgroup(c.own), parseCgroup(c.theirs)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func both(p place) places { return places{cpu: p, memory: p, pids: p, io: p} }

// files writes a directory as the kernel would show it.
func files(t *testing.T, all map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVersions(t *testing.T) {
	want := Sample{CPUNanos: 7_000_000, MemoryBytes: 900, MemoryLimitBytes: 4096, ReadBytes: 30, WriteBytes: 5, Processes: 2, OOMKills: 3}
	for name, p := range map[string]place{
		"1": {dir: files(t, map[string]string{
			"cpuacct.usage": "7000000\n", "memory.usage_in_bytes": "1000\n", "memory.stat": "cache 1\ninactive_file 1\nhierarchical_memory_limit 4096\ntotal_inactive_file 100\n",
			"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "cgroup.procs": "1\n2\n",
			"blkio.throttle.io_service_bytes": "8:0 Read 10\n8:0 Write 5\n8:0 Total 15\n8:16 Read 20\nTotal 35\n",
		})},
		"2": {dir: files(t, map[string]string{
			"cpu.stat": "usage_usec 7000\nuser_usec 1\n", "memory.current": "1000\n", "memory.stat": "anon 1\ninactive_file 100\n", "memory.max": "4096\n",
			"memory.events": "low 0\noom 9\noom_kill 3\n", "cgroup.procs": "1\n2\n", "io.stat": "8:0 rbytes=10 wbytes=5 rios=1\n8:16 rbytes=20 wbytes=0\n",
		}), v2: true},
	} {
		b := buffer{}
		var got Sample
		if missing := cgroups(both(p), &b, &got); missing.any() || got != want {
			t.Errorf("version %s: got %+v, missing %+v; want %+v", name, got, missing, want)
		}
	}
	b := buffer{}
	var got Sample
	none := both(place{dir: t.TempDir(), v2: true})
	if missing := cgroups(none, &b, &got); missing != (metrics{true, true, true, true}) {
		t.Errorf("of empty directories, missing: %+v", missing)
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]uint64{"5\n": 5, "max\n": 0, "9223372036854771712\n": 0, "": 0, "-1": 0} {
		if got := number(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

const statText = "42 (a ) b) S 1 42 42 0 -1 4194560 100 200 0 0 10 20 30 40 20 0 5 0 12345 1000000 77 18446744073709551615 1 1 0 0\n"

func TestParseStat(t *testing.T) {
	got, ok := parseStat(statText)
	if want := (stat{state: 'S', ticks: 100, started: 12345, pages: 77}); !ok || got != want {
		t.Errorf("got %+v, %v; want %+v", got, ok, want)
	}
}

const (
	devText = "Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n" +
		"net1:7 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n"
	snmpText = "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm CurrEstab InSegs\nTcp: 1 12 5\nUdp: A\nUdp: 1\n"
	tcpText  = "  sl  local_address rem_address   st tx_queue\n   0: 00000000:07E8 00000000:0000 0A 00000000:00000000\n   1: 0100007F:07E8 0100007F:1111 01 00000000:00000000\n"
)

func TestNetworkFiles(t *testing.T) {
	if rx, tx := parseDev(devText); rx != 107 || tx != 35 {
		t.Errorf("%d %d", rx, tx)
	}
	if n := parseEstablished(snmpText); n != 12 {
		t.Errorf("%d established", n)
	}
	if n := parseListening(tcpText); n != 1 {
		t.Errorf("%d listening", n)
	}
}

func FuzzFiles(f *testing.F) {
	for _, s := range []string{statText, devText, snmpText, tcpText, "8:0 Read 10\n", "8:0 rbytes=10", "1:cpu,cpuacct:/x\n0::/y\n", "1 1 0:1 /a /b rw - cgroup2 x rw\n", "x) R", "Tcp:\nTcp:\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parseStat(text)
		parseDev(text)
		parseEstablished(text)
		parseListening(text)
		parseBlkio(text)
		parseIOStat(text)
		number(text)
		value(text, "oom_kill")
		mounts, theirs := parseMounts(text), parseCgroup(text)
		p := locate(mounts, parseCgroup("0::/own\n"), theirs)
		for _, one := range []place{p.cpu, p.memory, p.pids, p.io} {
			if one.dir == "" {
				continue
			}
			var under bool
			for _, m := range mounts {
				under = under || len(one.dir) > len(m.point) && one.dir[:len(m.point)] == m.point
			}
			if !under {
				t.Errorf("%q is in none of %+v", one.dir, mounts)
			}
		}
	})
}

func FuzzDump(f *testing.F) {
	socket := []byte{16, 0, 0, 0, sockDiagByFamily, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	done := []byte{20, 0, 0, 0, unix.NLMSG_DONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	failed := []byte{20, 0, 0, 0, unix.NLMSG_ERROR, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff}
	f.Add(append(append([]byte{}, socket...), done...))
	f.Add(failed)
	if n, last, err := parseDump(append(append([]byte{}, socket...), done...), nil); n != 1 || !last || err != nil {
		f.Errorf("%d %v %v", n, last, err)
	}
	if _, last, err := parseDump(failed, nil); !last || fmt.Sprint(err) != "no such file or directory" {
		f.Errorf("%v %v", last, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, _, _ := parseDump(b, func(m []byte) { parseSocket(m) }); n > uint64(len(b)/headerLen) {
			t.Errorf("%d sockets in %d bytes", n, len(b))
		}
	})
}
