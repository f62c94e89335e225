package volume

import (
	"slices"
	"strconv"
	"strings"
)

// MountPoints reads a /proc/PID/mountinfo (proc(5)) for what is mounted below a directory, newest first: the order in
// which it can be unmounted.
func MountPoints(mountinfo, dir string) []string {
	var found []string
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 /root /mount/point options - type source options
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if p := unescape(fields[4]); p != dir && Below(p, dir) {
			found = append(found, p)
		}
	}
	slices.Reverse(found)
	return found
}

// unescape replaces \ooo, which stands for a byte that would end a field.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
