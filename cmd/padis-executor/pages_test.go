package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestReadOnly(t *testing.T) {
	const maps = `00400000-01234000 r-xp 00000000 fe:01 1234                               /opt/a b
01234000-02000000 r--p 00e34000 fe:01 1234                               /opt/a b
02000000-02100000 rw-p 01c00000 fe:01 1234                               /opt/a b
02100000-02200000 r--p 00000000 fe:01 1235                               /opt/other
c000000000-c000400000 rw-p 00000000 00:00 0                              [anon: Go: heap]
7f0000000000-7f0000001000 r--p 00000000 00:00 0
nonsense
zz-yy r--p 00000000 fe:01 1234 /opt/a b
`
	want := [][2]uintptr{{0x400000, 0x1234000}, {0x1234000, 0x2000000}}
	if got := readOnly(strings.NewReader(maps), "/opt/a b"); !reflect.DeepEqual(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if err := releasePages(); err != nil {
		t.Error(err)
	}
}
