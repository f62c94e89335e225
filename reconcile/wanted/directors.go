package wanted

import (
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"
)

// Directors gives of the directors of a LoadBalancer what App gives of an App. A refusal names the fields of the LoadBalancer.
func Directors(b *v1alpha1.LoadBalancer, v *declared.View, current *padisv1.WantedApp) (*padisv1.WantedApp, *padisv1.Revision, *rollout.Refusal) {
	id, revision, refusal := App(v1alpha1.DirectorsApp(b), v, nil, current)
	id.Directors = true
	if revision != nil {
		revision.Template.Director = true
		revision.Hash = name(revision)
	}
	if refusal != nil {
		refusal.Message = v1alpha1.OfDirectors(refusal.Message)
	}
	return id, revision, refusal
}

// Check converts a health check that directors make through the path that clients take.
func Check(at string, in *v1alpha1.PathCheck) (*padisv1.HealthCheck, error) {
	interval, timeout := in.Times()
	h := v1alpha1.HealthCheck{TCP: in.TCP, HTTP: in.HTTP}
	out, err := healthCheck(at, &h)
	if err != nil {
		return nil, err
	}
	out.GracePeriodMs = 0
	out.FailureThreshold, out.SuccessThreshold = in.Thresholds()
	if out.IntervalMs, err = milliseconds(at+".interval", interval); err != nil {
		return nil, err
	}
	out.TimeoutMs, err = milliseconds(at+".timeout", timeout)
	return out, err
}
