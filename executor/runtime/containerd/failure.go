package containerd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func refuse(reason, format string, args ...any) error {
	return &runtime.StartError{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// failure says what an error of containerd means to people. OCI runtimes give nothing but sentences: what is looked for
// is what runc and crun have in common.
func failure(doing string, err error) error {
	var start *runtime.StartError
	if errors.As(err, &start) {
		return err
	}
	err = native(err)
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), has("no space left on device", "disk quota exceeded", "No space left on device"):
		return refuse(padisv1.ReasonInsufficientSpace, "%s: %v; free space where containerd keeps images and file systems, or raise resources.disk of the App", doing, err)
	case has("error mounting", "mount `", "failed to mount"):
		return refuse(padisv1.ReasonVolumeFailed, "%s: %v; correct the volume's path", doing, err)
	case has("executable file", "exec: \"", "open executable", "exec format error", "Exec format error"):
		return refuse(padisv1.ReasonCommandNotFound, "%s: %v; correct template.command or template.args, or the image", doing, err)
	case errdefs.IsUnavailable(err), errdefs.IsDeadlineExceeded(err):
		return refuse(padisv1.ReasonContainerFailed, "%s: containerd does not answer: %v; look at its log", doing, err)
	}
	return refuse(padisv1.ReasonContainerFailed, "%s: %v", doing, err)
}

// native turns errors of the wire into those of package errdefs. Others stay as they are.
func native(err error) error {
	if err == nil {
		return nil
	}
	return errgrpc.ToNative(err)
}
