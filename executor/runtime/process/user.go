package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	padis "padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// identity is who a program runs as; nil stands for the user of the executor.
type identity struct {
	uid, gid int
	groups   []int
}

const maxID = 1<<32 - 2

// lookUp finds a user "name", "number", "name:group" or "number:number" in /etc/passwd and /etc/group.
func lookUp(user string) (*identity, error) {
	if user == "" {
		return nil, nil
	}
	missing := func(what string) error {
		return &padis.StartError{Reason: padisv1.ReasonUserNotFound, Message: fmt.Sprintf("this host has no %s; create it there, or correct template.user", what)}
	}
	name, group, hasGroup := strings.Cut(user, ":")
	id := &identity{uid: -1, gid: -1}
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n <= maxID {
		id.uid, id.gid = n, n
	}
	err := entries("/etc/passwd", 4, func(f []string) {
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 == nil && err2 == nil && (f[0] == name || (id.uid == uid && f[0] != name)) {
			name, id.uid, id.gid = f[0], uid, gid
		}
	})
	if err != nil {
		return nil, err
	}
	if id.uid < 0 {
		return nil, missing("user " + strconv.Quote(name))
	}
	if hasGroup {
		id.gid = -1
		if n, err := strconv.Atoi(group); err == nil && n >= 0 && n <= maxID {
			id.gid = n
		}
	}
	err = entries("/etc/group", 3, func(f []string) {
		gid, err := strconv.Atoi(f[2])
		if err != nil {
			return
		}
		if hasGroup && f[0] == group {
			id.gid = gid
		}
		if len(f) > 3 {
			for _, member := range strings.Split(f[3], ",") {
				if member == name {
					id.groups = append(id.groups, gid)
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if id.gid < 0 {
		return nil, missing("group " + strconv.Quote(group))
	}
	return id, nil
}

// entries calls f for each line of a file of colon-separated fields that has at least n.
func entries(path string, n int, f func([]string)) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up the user: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), ":"); len(fields) >= n {
			f(fields)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("look up the user: %w", err)
	}
	return nil
}

// own gives the user the working directory and the pipes, so that it can open /dev/stdout.
func own(who *identity, work string) error {
	if who == nil {
		return nil
	}
	if err := os.Lchown(work, who.uid, who.gid); err != nil {
		return unmapped(who, err)
	}
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Fchown(fd, who.uid, who.gid); err != nil {
			return unmapped(who, err)
		}
	}
	return nil
}

// drop changes to the user for good. The raw calls change this thread only, which is the one that becomes the program.
func drop(who *identity) error {
	if who == nil {
		return nil
	}
	if err := setGroups(who.groups); err != nil && !(err == unix.EPERM && os.Getuid() == 0 && who.uid == 0) {
		return unmapped(who, err)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(who.gid), uintptr(who.gid), uintptr(who.gid)); e != 0 {
		return unmapped(who, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(who.uid), uintptr(who.uid), uintptr(who.uid)); e != 0 {
		return unmapped(who, e)
	}
	return nil
}

func setGroups(groups []int) error {
	list := make([]uint32, len(groups)+1)
	for i, g := range groups {
		list[i] = uint32(g)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), pointer(list), 0); e != 0 {
		return e
	}
	return nil
}

func unmapped(who *identity, err error) error {
	return &padis.StartError{Reason: padisv1.ReasonUserNotFound, Message: fmt.Sprintf("change to user %d, group %d: %v; without root, Padis can run programs only as its own user: leave template.user out", who.uid, who.gid, err)}
}
