// Package pages gives pages of files back to the host that a process has mapped and needs no more. Edge: talks to the kernel.
package pages

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ReleaseProgram gives back the pages of the program's file that the start has touched and what follows does not: a quarter of
// the memory of an executor that has nothing to do.
func ReleaseProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	return Release(exe)
}

// Release gives back the pages of a file, by its absolute path without links, that are mapped and cannot be written to, and so do
// not differ from the file. What is needed again comes from the page cache, which all processes of the host share. The file must
// stay mapped where it is meanwhile.
func Release(file string) error {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer f.Close()
	for _, r := range readOnly(f, file) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r[0], r[1]-r[0], unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back pages %x-%x of %s: %w", r[0], r[1], file, errno)
		}
	}
	return nil
}

// readOnly finds the mappings of a file, as proc_pid_maps(5) tells them, that cannot be written to: their first addresses and
// those behind their last.
func readOnly(maps io.Reader, file string) (out [][2]uintptr) {
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// 00400000-0100b000 r-xp 00000000 fe:01 1234   /usr/bin/padis-executor
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || strings.Join(fields[5:], " ") != file || len(fields[1]) != 4 || fields[1][1] != '-' {
			continue
		}
		var r [2]uintptr
		if n, err := fmt.Sscanf(fields[0], "%x-%x", &r[0], &r[1]); err == nil && n == 2 && r[0] < r[1] {
			out = append(out, r)
		}
	}
	return out
}
