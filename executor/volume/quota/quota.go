// Package quota bounds what is written below directories, by the project quotas of ext4 and xfs. Edge: talks to file
// systems.
//
// A project is a number that files carry. Directories that say so hand it to whatever is made in them, and the file system
// counts, and bounds, what all files of a project take. The file system is the only record: whose number a directory has
// is read from it, and a number is free if nothing has it and nobody has set a limit for it.
package quota

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Projects of this package are first..first+count-1: above those that Docker and Kubernetes take, which count from small
// numbers on.
const (
	first = 1 << 30
	count = 1 << 30
	// attempts is how many numbers are looked at. They are spread, so that more than a few are never needed.
	attempts = 64
)

// What <linux/fs.h> and <linux/quota.h> say, and golang.org/x/sys/unix does not.
const (
	getAttr        = 0x801c581f // FS_IOC_FSGETXATTR
	setAttr        = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit        = 0x200      // FS_XFLAG_PROJINHERIT
	project        = 2          // PRJQUOTA
	getQuota       = 0x800007   // Q_GETQUOTA
	setQuota       = 0x800008   // Q_SETQUOTA
	getState       = 0x5808     // Q_XGETQSTATV
	stateVersion   = 1          // FS_QSTATV_VERSION1
	stateEnforced  = 1 << 5     // FS_QUOTA_PDQ_ENFD
	validLimits    = 1          // QIF_BLIMITS
	blockSize      = 1024       // of limits
	stateFlags     = 2          // offset of qs_flags
	stateMaxLength = 256
)

// attributes is struct fsxattr.
type attributes struct {
	Flags, ExtentSize, Extents, Project, CowExtentSize uint32

	_ [8]byte
}

// limits is struct if_dqblk.
type limits struct {
	BlocksHard, BlocksSoft, Bytes  uint64
	InodesHard, InodesSoft, Inodes uint64
	BlockTime, InodeTime           uint64
	Valid                          uint32
	_                              uint32
}

// Unsupported tells why a file system bounds nothing.
type Unsupported struct{ Why string }

func (u *Unsupported) Error() string { return u.Why }

// choosing is held between the look at a number and its being taken.
var choosing sync.Mutex

// Limit bounds what is written below directories of one file system, which are empty, together. Name is that of whoever
// writes there: different ones are spread over the numbers. Where the file system cannot, the error is *Unsupported.
func Limit(name string, bytes int64, dirs ...string) error {
	var open []*os.File
	defer func() {
		for _, d := range open {
			_ = d.Close()
		}
	}()
	for _, dir := range dirs {
		d, err := openDir(dir)
		if err != nil {
			return err
		}
		open = append(open, d)
	}
	if err := enforced(open[0]); err != nil {
		return err
	}
	choosing.Lock()
	defer choosing.Unlock()
	id, err := free(open[0], name)
	if err != nil {
		return err
	}
	// Directories first: a limit of which they tell nothing would stay for ever.
	for _, d := range open {
		a, err := attributesOf(d)
		if err == nil {
			a.Project, a.Flags = id, a.Flags|inherit
			err = setProject(d, &a)
		}
		if err != nil {
			return fmt.Errorf("give %s the project %d: %w", d.Name(), id, err)
		}
	}
	return set(open[0], id, bytes)
}

// Release gives the number of a directory back, if it has one of this package's: what is there and goes on to be written is
// no longer bounded.
func Release(dir string) error {
	d, err := openDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	a, err := attributesOf(d)
	if err != nil || a.Project < first || a.Project >= first+count {
		return nil // of a file system without projects, or somebody else's
	}
	return set(d, a.Project, 0)
}

func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// enforced is nil if the limits of projects count on the file system of d.
func enforced(d *os.File) error {
	if _, err := attributesOf(d); err != nil {
		return &Unsupported{"the file system has no projects: use ext4 or xfs"}
	}
	var state [stateMaxLength]byte
	state[0] = stateVersion
	err := quotactl(d, getState, 0, unsafe.Pointer(&state))
	if err == nil && binary.NativeEndian.Uint16(state[stateFlags:])&stateEnforced != 0 {
		// Of the host's root only.
		var l limits
		if err = get(d, first, &l); !errors.Is(err, unix.EPERM) {
			return nil
		}
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return &Unsupported{"only the root of the host may set quotas"}
	case err == nil || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL):
		return &Unsupported{"the file system enforces no project quota: mount ext4 (with the features quota and project) or xfs with prjquota, on a kernel that has project quotas"}
	}
	return &Unsupported{fmt.Sprintf("the file system does not say whether it enforces project quotas: %v", err)}
}

// free finds a number that is free.
func free(d *os.File, name string) (uint32, error) {
	for n := range uint32(attempts) {
		id := candidate(name, n)
		var l limits
		if err := get(d, id, &l); err != nil {
			return 0, fmt.Errorf("look at the quota of project %d: %w", id, err)
		}
		if l.BlocksHard|l.BlocksSoft|l.Bytes|l.InodesHard|l.InodesSoft|l.Inodes == 0 {
			return id, nil
		}
	}
	return 0, errors.New("no project number is free")
}

// candidate is the n-th number for a name.
func candidate(name string, n uint32) uint32 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%d", name, n)
	return first + uint32(h.Sum64()%count)
}

func get(d *os.File, id uint32, l *limits) error {
	err := quotactl(d, getQuota, id, unsafe.Pointer(l))
	if errors.Is(err, unix.ENOENT) { // xfs has not heard of it yet
		return nil
	}
	return err
}

// set sets the limit of a project; 0 is none.
func set(d *os.File, id uint32, bytes int64) error {
	blocks := (uint64(bytes) + blockSize - 1) / blockSize
	l := limits{BlocksHard: blocks, BlocksSoft: blocks, Valid: validLimits}
	if err := quotactl(d, setQuota, id, unsafe.Pointer(&l)); err != nil {
		return fmt.Errorf("set the quota of project %d to %d bytes: %w", id, bytes, err)
	}
	return nil
}

func attributesOf(d *os.File) (a attributes, err error) {
	err = ioctl(d, getAttr, unsafe.Pointer(&a))
	return a, err
}

func setProject(d *os.File, a *attributes) error { return ioctl(d, setAttr, unsafe.Pointer(a)) }

func ioctl(d *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// quotactl asks the file system of d.
func quotactl(d *os.File, command int, id uint32, arg unsafe.Pointer) error {
	which := uintptr(command<<8 | project)
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, d.Fd(), which, uintptr(id), uintptr(arg), 0, 0)
	if errno == unix.ENOSYS { // from Linux before 5.14, or from a file system without quotas
		return quotactlOfDevice(d, which, id, arg)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

func quotactlOfDevice(d *os.File, which uintptr, id uint32, arg unsafe.Pointer) error {
	device, err := deviceOf(d)
	if err != nil {
		return err
	}
	name, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall6(unix.SYS_QUOTACTL, which, uintptr(unsafe.Pointer(name)), uintptr(id), uintptr(arg), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// deviceOf is the block device of a file system, as a path.
func deviceOf(d *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return "", err
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	if path := "/dev/block/" + number; isDevice(path, st.Dev) {
		return path, nil
	}
	// The thread may be in another mount namespace than the process.
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		mount, super, _ := strings.Cut(lines.Text(), " - ")
		m, s := strings.Fields(mount), strings.Fields(super)
		if len(m) > 2 && m[2] == number && len(s) > 1 && isDevice(s[1], st.Dev) {
			return s[1], nil
		}
	}
	return "", fmt.Errorf("no path of the block device %s: %w", number, unix.ENOSYS)
}

func isDevice(path string, number uint64) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == number
}
