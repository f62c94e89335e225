// Package wanted turns an App as declared into the revision and the identity that the scheduler is given. Pure.
//
// A revision is named by a hash of what an instance cannot have changed under it: the template, and the pools of its
// interfaces. Three things are left out, so that editing them restarts nobody: placement constraints hold from the next
// placement of each instance on, the restart policy from the next failure on, and fixed addresses concern the slots that
// they name only (package rollout moves those). All three travel in the revision, whose content may thus change under
// the same name. Contents of files and credentials of registries travel beside the revisions, and so does what changes of
// the network while instances run.
package wanted

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"

	"google.golang.org/protobuf/proto"
)

// Defaults of the schema, for objects that were made in Go and never passed an API server.
const (
	defaultLogBytes = 10 << 20
	defaultLogFiles = 3
)

// maxContent bounds a revision together with what travels beside it. Launches and the ledger's records have a bound of
// padisv1.MaxSize; the slots of a WantedApp take up to a fifth of it.
const maxContent = padisv1.MaxSize * 3 / 4

// App gives the identity of an App, with all that travels beside its revision, and the revision. If it cannot be put in
// force as the cluster is declared, the refusal says why, and both others are still as good as they can be; the revision
// may be nil then. objects are what the App refers to and what is there, current is what was wanted until now, nil if
// nothing was.
func App(a *v1alpha1.App, v *declared.View, objects config.Objects, current *padisv1.WantedApp) (*padisv1.WantedApp, *padisv1.Revision, *rollout.Refusal) {
	id := &padisv1.WantedApp{
		Uid: string(a.UID), Namespace: a.Namespace, Name: a.Name, Labels: maps.Clone(a.Labels),
		Tenant: v.TenantOf(a.Namespace), Generation: a.Generation,
	}
	rev, err := beside(a, v, objects, id)
	if err != nil {
		return id, nil, refusal(err)
	}
	if errs := v1alpha1.ValidateApp(a); len(errs) > 0 {
		return id, rev, invalid("%s: %q %s", errs[0].Field, fmt.Sprint(errs[0].BadValue), errs[0].Detail)
	}
	if problems := v1alpha1.ValidatePrivileges(a, v.Owner(a.Namespace)); len(problems) > 0 {
		p := problems[0]
		return id, rev, &rollout.Refusal{Reason: p.Reason, Message: fmt.Sprintf("%s: %q %s", p.Field, p.Value, p.Message), Revoked: true}
	}
	if r := pools(a, v, current); r != nil {
		return id, rev, r
	}
	return id, rev, hostNetwork(a, v)
}

// beside gives the revision, and puts into id what travels beside it.
func beside(a *v1alpha1.App, v *declared.View, objects config.Objects, id *padisv1.WantedApp) (*padisv1.Revision, error) {
	var defaults v1alpha1.Resources
	if t := v.Owner(a.Namespace); t != nil {
		defaults = t.Spec.DefaultResources
	}
	rev, err := Revision(a, defaults, objects)
	if err != nil {
		return nil, err
	}
	data, p := config.Data(a, objects)
	if p != nil {
		return nil, p
	}
	auths, p := config.Auths("spec.template.imagePullSecrets", a.Namespace, a.Spec.Template.ImagePullSecrets, objects)
	if p != nil {
		return nil, p
	}
	if size := proto.Size(rev) + proto.Size(&padisv1.WantedApp{Configs: data, RegistryAuths: auths}); size > maxContent {
		return nil, fmt.Errorf("spec: takes %d bytes with the ConfigMaps and Secrets that its volumes show, more than the %d that can be kept: show fewer keys with items, move large values into artifacts, and shorten lists of fixed addresses", size, maxContent)
	}
	id.Configs, id.RegistryAuths = data, auths
	return rev, live(a, v, id)
}

func refusal(err error) *rollout.Refusal {
	var p *config.Problem
	if errors.As(err, &p) {
		return &rollout.Refusal{Reason: p.Reason, Message: p.Message}
	}
	return invalid("%v", err)
}

func invalid(format string, args ...any) *rollout.Refusal {
	return &rollout.Refusal{Reason: padisv1.ReasonInvalid, Message: fmt.Sprintf(format, args...)}
}

// Revision converts what an App declares of each instance, with the defaults of its Tenant and of the schema where nothing
// is said, and the values that the objects have now. The error names the field and the remedy, and is a *config.Problem if
// the objects are to blame; an object that passed the API server has no other but for its size.
func Revision(a *v1alpha1.App, defaults v1alpha1.Resources, objects config.Objects) (*padisv1.Revision, error) {
	env, p := config.Env(a, objects)
	if p != nil {
		return nil, p
	}
	data, p := config.Data(a, objects)
	if p != nil {
		return nil, p
	}
	t, err := template(&a.Spec.Template, &defaults, data)
	if err != nil {
		return nil, err
	}
	t.Env = env
	r := &padisv1.Revision{Template: t}
	if r.Networks, err = wishes(a.Spec.Networks); err != nil {
		return nil, err
	}
	if r.Constraints, err = constraints(a.Spec.Placement.Constraints); err != nil {
		return nil, err
	}
	initial, longest, stable := a.Spec.Restart.Delays()
	r.Restart = &padisv1.RestartPolicy{}
	for _, d := range []struct {
		field string
		from  time.Duration
		to    *int64
	}{{"initialDelay", initial, &r.Restart.InitialDelayMs}, {"maxDelay", longest, &r.Restart.MaxDelayMs}, {"stableAfter", stable, &r.Restart.StableAfterMs}} {
		if *d.to, err = milliseconds("spec.restart."+d.field, d.from); err != nil {
			return nil, err
		}
	}
	r.Hash = name(r)
	if size := proto.Size(r); size > maxContent {
		return nil, fmt.Errorf("spec: takes %d bytes, more than the %d that can be kept: move large values of env into artifacts, and shorten lists of fixed addresses", size, maxContent)
	}
	return r, nil
}

// template converts all but the variables.
func template(in *v1alpha1.Template, defaults *v1alpha1.Resources, data []*padisv1.ConfigData) (*padisv1.Template, error) {
	const at = "spec.template."
	out := &padisv1.Template{
		Command: slices.Clone(in.Command), Args: slices.Clone(in.Args), WorkingDir: in.WorkingDir, User: in.User,
		Labels: maps.Clone(in.Labels), Logs: &padisv1.LogPolicy{MaxBytes: defaultLogBytes},
	}
	if in.Image == "" {
		// A process knows no difference.
		out.Command, out.Args = append(out.Command, out.Args...), nil
	}
	for _, a := range in.Artifacts {
		out.Artifacts = append(out.Artifacts, &padisv1.Artifact{Uri: a.URI, Sha256: a.SHA256, Path: a.Path, Extract: a.Extract, Executable: a.Executable})
	}
	for _, p := range in.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = "TCP"
		}
		out.Ports = append(out.Ports, &padisv1.Port{Name: p.Name, Port: p.Port, Protocol: protocol})
	}
	var err error
	if out.Resources, err = resources(&in.Resources, defaults, in.Image != ""); err != nil {
		return nil, err
	}
	if err := container(in, data, out); err != nil {
		return nil, err
	}
	if q := in.Logs.MaxSize; !q.IsZero() || q.Format != "" {
		if out.Logs.MaxBytes, err = amount(at+"logs.maxSize", q, 0, 1); err != nil {
			return nil, err
		}
	}
	if out.Logs.MaxFiles = in.Logs.MaxFiles; out.Logs.MaxFiles < 1 {
		out.Logs.MaxFiles = defaultLogFiles
	}
	for i := range in.HealthChecks {
		h, err := healthCheck(fmt.Sprintf("%shealthChecks[%d]", at, i), &in.HealthChecks[i])
		if err != nil {
			return nil, err
		}
		out.HealthChecks = append(out.HealthChecks, h)
	}
	grace, err := milliseconds(at+"stop.gracePeriod", in.Stop.Grace())
	if err != nil {
		return nil, err
	}
	out.Stop = &padisv1.Stop{Signal: in.Stop.SignalName(), GracePeriodMs: grace}
	return out, nil
}

func healthCheck(at string, in *v1alpha1.HealthCheck) (*padisv1.HealthCheck, error) {
	out := &padisv1.HealthCheck{}
	set := 0
	if in.TCP != nil {
		set++
		out.Probe = &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: in.TCP.Port}}
	}
	if h := in.HTTP; h != nil {
		set++
		path := h.Path
		if path == "" {
			path = "/"
		}
		out.Probe = &padisv1.HealthCheck_Http{Http: &padisv1.HttpProbe{
			Port: h.Port, Path: path, Statuses: slices.Clone(h.Statuses), BodyContains: h.BodyContains, Headers: maps.Clone(h.Headers),
		}}
	}
	if in.Command != nil {
		set++
		out.Probe = &padisv1.HealthCheck_Command{Command: &padisv1.CommandProbe{Command: slices.Clone(in.Command.Command)}}
	}
	if set != 1 {
		return nil, fmt.Errorf("%s: has %d of tcp, http and command: set exactly one", at, set)
	}
	out.FailureThreshold, out.SuccessThreshold = in.Thresholds()
	grace, interval, timeout := in.Times()
	var err error
	if out.GracePeriodMs, err = milliseconds(at+".gracePeriod", grace); err != nil {
		return nil, err
	}
	if out.IntervalMs, err = milliseconds(at+".interval", interval); err != nil {
		return nil, err
	}
	out.TimeoutMs, err = milliseconds(at+".timeout", timeout)
	return out, err
}

var operators = map[string]padisv1.Constraint_Operator{
	"Unique": padisv1.Constraint_UNIQUE, "MaxPer": padisv1.Constraint_MAX_PER, "Cluster": padisv1.Constraint_CLUSTER,
	"GroupBy": padisv1.Constraint_GROUP_BY, "Like": padisv1.Constraint_LIKE, "Unlike": padisv1.Constraint_UNLIKE,
}

func constraints(in []v1alpha1.Constraint) ([]*padisv1.Constraint, error) {
	var out []*padisv1.Constraint
	for i, c := range in {
		op, ok := operators[c.Operator]
		if !ok {
			return nil, fmt.Errorf("spec.placement.constraints[%d].operator: %q is none of Unique, MaxPer, Cluster, GroupBy, Like and Unlike", i, c.Operator)
		}
		number, err := strconv.Atoi(c.Value)
		whole := err == nil && number > 0
		if op == padisv1.Constraint_MAX_PER && !whole || op == padisv1.Constraint_GROUP_BY && c.Value != "" && !whole {
			return nil, fmt.Errorf("spec.placement.constraints[%d].value: %q is no whole number above 0, which %s needs", i, c.Value, c.Operator)
		}
		out = append(out, &padisv1.Constraint{Attribute: c.Attribute, Operator: op, Value: c.Value})
	}
	return out, nil
}

// milliseconds rounds up, so that a short time does not become none.
func milliseconds(field string, d time.Duration) (int64, error) {
	if d < 0 {
		return 0, fmt.Errorf("%s: %s is negative", field, d)
	}
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms, nil
}
