package usage

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// This file reads what the kernel writes, and nothing of the world: see proc(5), cgroups(7) and the kernel's
// Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. What is missing or is not a number counts as 0.

// mount is one hierarchy of cgroups.
type mount struct {
	// point is where it is mounted, root the cgroup that is there.
	point, root string
	// controllers of version 1; none for version 2.
	controllers []string
}

// parseMounts finds the cgroup file systems in a mountinfo.
func parseMounts(text string) []mount {
	var out []mount
	for line := range strings.Lines(text) {
		// 31 23 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
		before, after, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup":
			out = append(out, mount{point: f[4], root: f[3], controllers: strings.Split(kind[2], ",")})
		case "cgroup2":
			out = append(out, mount{point: f[4], root: f[3]})
		}
	}
	return out
}

// unified is the name of the version 2 hierarchy, as in /proc/PID/cgroup.
const unified = ""

// parseCgroup reads /proc/PID/cgroup: controller -> cgroup.
func parseCgroup(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) < 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			out[c] = f[2]
		}
	}
	return out
}

// place is a cgroup as a directory; the zero value is none.
type place struct {
	dir string
	v2  bool
}

// places are the cgroups that an instance has for itself, by the controller that counts in them.
type places struct{ cpu, memory, pids, io place }

// locate finds the cgroups of a process that are not ours, too.
func locate(mounts []mount, own, theirs map[string]string) places {
	find := func(controller string) place {
		for _, m := range mounts {
			if slices.Contains(m.controllers, controller) {
				return place{dir: directory(m, controller, own, theirs)}
			}
		}
		for _, m := range mounts {
			if len(m.controllers) == 0 {
				return place{dir: directory(m, unified, own, theirs), v2: true}
			}
		}
		return place{}
	}
	return places{cpu: find("cpuacct"), memory: find("memory"), pids: find("pids"), io: find("blkio")}
}

func directory(m mount, controller string, own, theirs map[string]string) string {
	p, ok := theirs[controller]
	// A path with dots is outside of our cgroup namespace, and so of what is mounted.
	if !ok || !path.IsAbs(p) || p != path.Clean(p) || p == "/" || p == own[controller] || strings.HasPrefix(p, "/..") {
		return ""
	}
	if m.root != "/" {
		if !strings.HasPrefix(p, m.root+"/") {
			return ""
		}
		p = strings.TrimPrefix(p, m.root)
	}
	return m.point + p
}

// number reads a file that is one number. "max", and what no machine has, is no limit: 0.
func number(text string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil || n > 1<<62 {
		return 0
	}
	return n
}

// value finds a key in lines of "key value".
func value(text, key string) uint64 {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, " "); ok && k == key {
			return number(v)
		}
	}
	return 0
}

// lines counts them.
func lines(text string) uint64 { return uint64(strings.Count(text, "\n")) }

// parseBlkio sums up blkio.throttle.io_service_bytes: "8:0 Read 4096".
func parseBlkio(text string) (read, written uint64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		switch f[1] {
		case "Read":
			read += number(f[2])
		case "Write":
			written += number(f[2])
		}
	}
	return read, written
}

// parseIOStat sums up io.stat: "8:0 rbytes=4096 wbytes=0 rios=1 ...".
func parseIOStat(text string) (read, written uint64) {
	for f := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(f, "rbytes="); ok {
			read += number(v)
		} else if v, ok := strings.CutPrefix(f, "wbytes="); ok {
			written += number(v)
		}
	}
	return read, written
}

// stat is what matters of /proc/PID/stat.
type stat struct {
	state byte
	// ticks of CPU, those of children that were waited for included; started is in ticks since boot.
	ticks, started uint64
	pages          uint64
}

// parseStat reads it; the name of the program may contain anything but ends with the last parenthesis.
func parseStat(text string) (stat, bool) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return stat{}, false
	}
	// Field 3 of proc(5) is the first here.
	f := strings.Fields(text[end+1:])
	if len(f) < 22 || len(f[0]) != 1 {
		return stat{}, false
	}
	s := stat{state: f[0][0], started: number(f[19]), pages: number(f[21])}
	for _, ticks := range f[11:15] {
		s.ticks += number(ticks)
	}
	return s, true
}

// parseDev sums up /proc/PID/net/dev without the loopback interface.
func parseDev(text string) (rx, tx uint64) {
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		if f := strings.Fields(rest); ok && len(f) >= 16 && strings.TrimSpace(name) != "lo" {
			rx += number(f[0])
			tx += number(f[8])
		}
	}
	return rx, tx
}

// parseEstablished reads Tcp.CurrEstab of /proc/PID/net/snmp: connections of both versions of IP that are established,
// or that only the other side has closed.
func parseEstablished(text string) uint64 {
	var names []string
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "Tcp:")
		if !ok {
			continue
		}
		if names == nil {
			names = strings.Fields(rest)
			continue
		}
		values := strings.Fields(rest)
		if i := slices.Index(names, "CurrEstab"); i >= 0 && i < len(values) {
			return number(values[i])
		}
	}
	return 0
}

// parseListening counts the listening sockets of /proc/PID/net/tcp or tcp6.
func parseListening(text string) (n uint64) {
	for line := range strings.Lines(text) {
		// sl local_address rem_address st ...
		if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" {
			n++
		}
	}
	return n
}
