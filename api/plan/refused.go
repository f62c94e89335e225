package plan

import (
	"errors"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RefusedBy says why the API refuses an object; nothing if the error is of another class.
func RefusedBy(err error) []Refusal {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	s := status.Status()
	switch s.Reason {
	case metav1.StatusReasonInvalid, metav1.StatusReasonForbidden, metav1.StatusReasonNotFound, metav1.StatusReasonBadRequest, metav1.StatusReasonConflict:
	default:
		return nil
	}
	if s.Reason == metav1.StatusReasonInvalid && s.Details != nil && len(s.Details.Causes) > 0 {
		var out []Refusal
		for _, c := range s.Details.Causes {
			out = append(out, Refusal{Reason: string(s.Reason), Field: c.Field, Message: c.Message})
		}
		return out
	}
	message := s.Message
	if strings.HasPrefix(message, "error when ") { // kubectl's, with the name of the file.
		if _, rest, ok := strings.Cut(message, `": `); ok {
			message = rest
		}
	}
	return []Refusal{{Reason: string(s.Reason), Message: message}}
}
