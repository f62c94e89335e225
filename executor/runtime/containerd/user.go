package containerd

import (
	"bytes"
	"errors"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// lookUp finds a user "name", "number", "name:group" or "number:number". Without a group, the user has all groups that
// /etc/group says.
func (a accounts) lookUp(who string) (specs.User, error) {
	u, err := user.GetExecUser(who, nil, bytes.NewReader(a.passwd), bytes.NewReader(a.group))
	if errors.Is(err, user.ErrNoPasswdEntries) || errors.Is(err, user.ErrNoGroupEntries) {
		return specs.User{}, refuse(padisv1.ReasonUserNotFound, "the image has no user %q: %v; give a number, or correct template.user", who, err)
	}
	if err != nil {
		return specs.User{}, refuse(padisv1.ReasonUserNotFound, "user %q: %v; correct template.user", who, err)
	}
	// The kernel's ids are unsigned and end before the one that stands for none.
	const maxID = 1<<32 - 2
	if u.Uid < 0 || u.Gid < 0 || u.Uid > maxID || u.Gid > maxID {
		return specs.User{}, refuse(padisv1.ReasonUserNotFound, "user %q: ids are from 0 to %d; correct template.user", who, maxID)
	}
	out := specs.User{UID: uint32(u.Uid), GID: uint32(u.Gid)}
	for _, g := range u.Sgids {
		if g >= 0 && g <= maxID {
			out.AdditionalGids = append(out.AdditionalGids, uint32(g))
		}
	}
	return out, nil
}
