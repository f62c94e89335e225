package gitops

import (
	"errors"
	"fmt"

	"padis.io/padis/api/conceal"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refusals are what the API server does not take.
type refusals struct {
	reason string
	lines  []string
	fields []v1alpha1.FieldReport
}

func (r *refusals) Error() string { return some(r.lines) }

// hushed is what the API server says of an object, without what that holds of secrets. It is the same class of error.
func hushed(err error, body []byte) error {
	if err == nil {
		return nil
	}
	texts := conceal.Texts(decide.Tree(body).Object)
	st, ok := err.(apierrors.APIStatus) //nolint:errorlint // as the client gives it
	if len(texts) == 0 {
		return err
	}
	if !ok {
		return errors.New(conceal.Text(err.Error(), texts))
	}
	status := st.Status()
	status.Message = conceal.Text(status.Message, texts)
	if status.Details != nil {
		status.Details = status.Details.DeepCopy()
		for i := range status.Details.Causes {
			c := &status.Details.Causes[i]
			c.Field, c.Message = conceal.Text(c.Field, texts), conceal.Text(c.Message, texts)
		}
	}
	return &apierrors.StatusError{ErrStatus: status}
}

func (r *refusals) add(at string, id decide.ID, err error) {
	if r.reason == "" || apierrors.IsConflict(err) {
		r.reason = ReasonRefused
		if apierrors.IsConflict(err) {
			r.reason = ReasonConflict
		}
	}
	r.lines = append(r.lines, fmt.Sprintf("%s: %s: %s", at, id, said(err)))
	var s apierrors.APIStatus
	if apierrors.IsConflict(err) {
		if st, ok := err.(apierrors.APIStatus); ok { //nolint:errorlint // as the client gives it
			s = st
		}
	}
	if s == nil || s.Status().Details == nil {
		return
	}
	for _, cause := range s.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			r.fields = append(r.fields, v1alpha1.FieldReport{Object: id.String(), Path: cause.Field, By: cause.Message})
		}
	}
}

// conflicts are what others have a better right to.
func conflicts(p decide.Plan, s *session) error {
	r := &refusals{reason: ReasonConflict}
	for _, c := range p.Conflicts {
		r.lines = append(r.lines, fmt.Sprintf("%s: %s: %s", s.place(c.ID), c.ID, c.Message))
		r.fields = append(r.fields, c.Field.Report(c.ID))
	}
	return r
}
