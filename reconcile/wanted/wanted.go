// Package wanted turns an App as declared into the revision and the identity that the scheduler is given. Pure.
//
// A revision is named by a hash of what an instance cannot have changed under it: the template, and the pools of its
// interfaces. Three things are left out, so that editing them restarts nobody: placement constraints hold from the next
// placement of each instance on, the restart policy from the next failure on, and fixed addresses concern the slots that
// they name only (package rollout moves those). All three travel in the revision, whose content may thus change under
// the same name.
package wanted

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Defaults of the schema, for objects that were made in Go and never passed an API server.
const (
	defaultCPUMilli  = 100
	defaultMemoryMiB = 32
	defaultLogBytes  = 10 << 20
	defaultLogFiles  = 3
)

// most is the largest amount that is taken for a thought-out wish, in the smallest unit of each resource.
const most = 1 << 50

// App gives the identity of an App and its revision. If it cannot be put in force as the cluster is declared, the refusal
// says why, and both others are still as good as they can be; the revision may be nil then. current is what was wanted
// until now, nil if nothing was.
func App(a *v1alpha1.App, v *declared.View, current *padisv1.WantedApp) (*padisv1.WantedApp, *padisv1.Revision, *rollout.Refusal) {
	id := &padisv1.WantedApp{
		Uid: string(a.UID), Namespace: a.Namespace, Name: a.Name, Labels: maps.Clone(a.Labels),
		Tenant: v.TenantOf(a.Namespace), Generation: a.Generation,
	}
	rev, err := Revision(a)
	if err != nil {
		return id, nil, invalid("%v", err)
	}
	if errs := v1alpha1.ValidateApp(a); len(errs) > 0 {
		return id, rev, invalid("%s: %q %s", errs[0].Field, fmt.Sprint(errs[0].BadValue), errs[0].Detail)
	}
	if r := pools(a, v, current); r != nil {
		return id, rev, r
	}
	return id, rev, nil
}

func invalid(format string, args ...any) *rollout.Refusal {
	return &rollout.Refusal{Reason: padisv1.ReasonInvalid, Message: fmt.Sprintf(format, args...)}
}

// pools judges the wishes for addresses.
func pools(a *v1alpha1.App, v *declared.View, current *padisv1.WantedApp) *rollout.Refusal {
	var known []v1alpha1.IPPool
	for i, n := range a.Spec.Networks {
		verdict, exists := v.Pools[n.Pool]
		p := v.Pool(n.Pool)
		switch {
		case !exists:
			return &rollout.Refusal{Reason: padisv1.ReasonPoolNotFound, Message: fmt.Sprintf(
				"spec.networks[%d].pool: there is no IPPool %q: create it, or name another", i, n.Pool)}
		case p == nil:
			return &rollout.Refusal{Reason: padisv1.ReasonPoolNotFound, Message: fmt.Sprintf(
				"spec.networks[%d].pool: IPPool %s is not in force: %s", i, n.Pool, verdict.Message)}
		case p.DeletionTimestamp != nil && !uses(current, n.Pool):
			return &rollout.Refusal{Reason: padisv1.ReasonPoolNotFound, Message: fmt.Sprintf(
				"spec.networks[%d].pool: IPPool %s is being deleted: name another", i, n.Pool)}
		}
		known = append(known, *p)
	}
	if problems := v1alpha1.ValidateAddresses(a, known); len(problems) > 0 {
		p := problems[0]
		return &rollout.Refusal{Reason: p.Reason, Message: fmt.Sprintf("%s: %q %s", p.Field, p.Value, p.Message)}
	}
	return nil
}

func uses(w *padisv1.WantedApp, pool string) bool {
	for _, r := range w.GetRevisions() {
		for _, n := range r.Networks {
			if n.Pool == pool {
				return true
			}
		}
	}
	return false
}

// Revision converts what an App declares of each instance, with the defaults of the schema where nothing is said. The
// error names the field and the remedy; an object that passed the API server has none but for its size.
func Revision(a *v1alpha1.App) (*padisv1.Revision, error) {
	t, err := template(&a.Spec.Template)
	if err != nil {
		return nil, err
	}
	r := &padisv1.Revision{Template: t}
	for i, n := range a.Spec.Networks {
		if n.Pool == "" {
			return nil, fmt.Errorf("spec.networks[%d].pool: is empty: name an IPPool", i)
		}
		r.Networks = append(r.Networks, &padisv1.NetworkWish{Pool: n.Pool, Addresses: slices.Clone(n.Addresses)})
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
	// Launches and the ledger's records have the same bound; the slots of a WantedApp take up to a fifth of it.
	if size := proto.Size(r); size > padisv1.MaxSize*3/4 {
		return nil, fmt.Errorf("spec: takes %d bytes, more than the %d that can be kept: move large values of env into artifacts, and shorten lists of fixed addresses", size, padisv1.MaxSize*3/4)
	}
	return r, nil
}

func template(in *v1alpha1.Template) (*padisv1.Template, error) {
	const at = "spec.template."
	out := &padisv1.Template{
		Command: slices.Clone(in.Command), Image: in.Image, WorkingDir: in.WorkingDir, User: in.User,
		Labels: maps.Clone(in.Labels), Resources: &padisv1.Resources{}, Logs: &padisv1.LogPolicy{},
	}
	for _, e := range in.Env {
		out.Env = append(out.Env, &padisv1.EnvVar{Name: e.Name, Value: e.Value})
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
	for _, q := range []struct {
		field     string
		from      resource.Quantity
		scale     resource.Scale
		divide    int64
		otherwise int64
		to        *int64
	}{
		{"resources.cpu", in.Resources.CPU, resource.Milli, 1, defaultCPUMilli, &out.Resources.CpuMilli},
		{"resources.memory", in.Resources.Memory, 0, 1 << 20, defaultMemoryMiB, &out.Resources.MemoryMib},
		{"resources.disk", in.Resources.Disk, 0, 1 << 20, 0, &out.Resources.DiskMib},
		{"logs.maxSize", in.Logs.MaxSize, 0, 1, defaultLogBytes, &out.Logs.MaxBytes},
	} {
		if *q.to, err = amount(at+q.field, q.from, q.scale, q.divide, q.otherwise); err != nil {
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

// amount gives a quantity at a scale, divided, rounded up. A quantity that was never set is otherwise; one that was set
// to 0 is 0.
func amount(field string, q resource.Quantity, scale resource.Scale, divide, otherwise int64) (int64, error) {
	if q.IsZero() && q.Format == "" {
		return otherwise, nil
	}
	if q.Sign() < 0 {
		return 0, fmt.Errorf("%s: %s is negative", field, strings.TrimSpace(q.String()))
	}
	// Out of range, ScaledValue wraps; compare as quantities first.
	if q.Cmp(*resource.NewScaledQuantity(most, scale)) > 0 {
		return 0, fmt.Errorf("%s: %s is more than any host has", field, q.String())
	}
	n := q.ScaledValue(scale)
	if n > math.MaxInt64-divide {
		return 0, fmt.Errorf("%s: %s is more than any host has", field, q.String())
	}
	return (n + divide - 1) / divide, nil
}
