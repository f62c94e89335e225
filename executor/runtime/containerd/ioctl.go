package containerd

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// changesAttributes are the requests by which the owner of a file takes it out of its project, and so out of the quota of
// its container: FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS and FS_IOC32_SETFLAGS. What replaces them, file_setattr, is no system
// call that the default filter allows.
var changesAttributes = []uint32{0x401c5820, 0x40086602, 0x40046602}

// keepAttributes takes requests out of what a filter of system calls allows. A filter only says what it allows, and a rule
// only one thing of an argument, so that it takes several rules, one of which fits whatever is not forbidden. They compare
// no more than the 32 bits that the kernel looks at.
func keepAttributes(filter *specs.LinuxSeccomp, forbidden []uint32) {
	var rules []specs.LinuxSyscall
	for _, p := range patternsOfOthers(forbidden, pattern{}, 0) {
		rules = append(rules, specs.LinuxSyscall{Names: []string{"ioctl"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
			{Index: 1, Value: uint64(p.mask), ValueTwo: uint64(p.value), Op: specs.OpMaskedEqual},
		}})
	}
	for n := range filter.Syscalls {
		s := &filter.Syscalls[n]
		if s.Action == specs.ActAllow && len(s.Args) == 0 {
			s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(name string) bool { return name == "ioctl" })
		}
	}
	filter.Syscalls = append(slices.DeleteFunc(filter.Syscalls, func(s specs.LinuxSyscall) bool { return len(s.Names) == 0 }), rules...)
}

// pattern fits the numbers that have a value in the bits of a mask.
type pattern struct{ mask, value uint32 }

// patternsOfOthers fit, together, all numbers that fit within and are none of those given, which do. Bits that are seen have
// been compared already.
func patternsOfOthers(numbers []uint32, within pattern, seen uint32) []pattern {
	var all []pattern
	split := uint32(0)
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if seen&bit != 0 {
			continue
		}
		value := numbers[0] & bit
		if slices.ContainsFunc(numbers, func(n uint32) bool { return n&bit != value }) {
			split = bit
			continue
		}
		seen |= bit
		all = append(all, pattern{within.mask | bit, within.value | value ^ bit})
	}
	if split == 0 {
		return all
	}
	for _, value := range []uint32{0, split} {
		some := slices.DeleteFunc(slices.Clone(numbers), func(n uint32) bool { return n&split != value })
		all = append(all, patternsOfOthers(some, pattern{within.mask | split, within.value | value}, seen|split)...)
	}
	return all
}
