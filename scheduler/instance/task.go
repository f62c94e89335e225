package instance

import (
	"fmt"
	"strconv"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Hostname is the name of an instance and of its host name: APP-SLOT.
func Hostname(r *padisv1.InstanceRecord) string {
	return r.GetApp() + "-" + strconv.FormatInt(int64(r.GetSlot()), 10)
}

// TaskID is the id of the attempt that the record counts: NAMESPACE.APP-SLOT.UID8.ATTEMPT. The App's uid makes it
// differ from the tasks of an earlier App of the same name.
func TaskID(r *padisv1.InstanceRecord) string {
	uid := strings.ReplaceAll(r.GetAppUid(), "-", "")
	return fmt.Sprintf("%s.%s.%s.%d", r.GetNamespace(), Hostname(r), uid[:min(8, len(uid))], r.GetAttempt())
}

// TaskKey is the part of a task id that all attempts of a slot share, and ok tells whether id has the form of a task id.
func TaskKey(id string) (key string, attempt int64, ok bool) {
	i := strings.LastIndexByte(id, '.')
	if i <= 0 {
		return "", 0, false
	}
	attempt, err := strconv.ParseInt(id[i+1:], 10, 64)
	if err != nil || attempt < 0 || strings.Count(id[:i], ".") < 2 {
		return "", 0, false
	}
	return id[:i], attempt, true
}
