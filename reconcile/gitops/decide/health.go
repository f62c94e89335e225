package decide

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"padis.io/padis/api/conceal"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Health is how an object fares.
type Health int

// Healths. Failed will not pass by itself.
const (
	Unknown Health = iota
	Healthy
	Progressing
	Failed
)

// String is the name of the health.
func (h Health) String() string {
	switch h {
	case Unknown:
		return "Unknown"
	case Healthy:
		return "Healthy"
	case Progressing:
		return "Progressing"
	case Failed:
		return "Failed"
	}
	return fmt.Sprintf("Health(%d)", int(h))
}

// Verdict is how an object fares, and why.
type Verdict struct {
	Health          Health
	Reason, Message string
}

// Reasons of verdicts that no condition gives.
const (
	ReasonAbsent   = "Absent"
	ReasonDeleting = "Deleting"
	ReasonNotSeen  = "NotSeen"
	ReasonPresent  = "Present"
	ReasonNoStatus = "NoStatus"
)

// rule says which conditions make an object of a kind healthy.
type rule struct {
	// all must be True. accepted may not be False: what is refused does not get better by itself.
	all []string
	// none may be True, optional may not be False, where they are there.
	none, optional []string
	// whole: there is nothing to wait for once it is stored.
	whole bool
}

// rules of the kinds of Padis and of those that it serves beside them. Redundant, ConnectionsKept and ForeignAddresses warn
// of what does not keep anything from working.
var rules = map[string]rule{
	"padis.io/App":                                 {all: []string{v1alpha1.ConditionAvailable}, none: []string{v1alpha1.ConditionProgressing}},
	"padis.io/LoadBalancer":                        {all: []string{v1alpha1.ConditionAnnounced, v1alpha1.ConditionServersReady}},
	"padis.io/Network":                             {all: []string{v1alpha1.ConditionAccepted}, optional: []string{v1alpha1.ConditionHostsReady, v1alpha1.ConditionPeersUp}},
	"padis.io/IPPool":                              {all: []string{v1alpha1.ConditionAccepted}},
	"padis.io/BGPPeer":                             {all: []string{v1alpha1.ConditionAccepted}, optional: []string{v1alpha1.ConditionPeersUp}},
	"padis.io/Tenant":                              {all: []string{v1alpha1.ConditionAccepted}},
	"padis.io/Registry":                            {all: []string{v1alpha1.ConditionAccepted}},
	"padis.io/ExecutorUpgrade":                     {all: []string{v1alpha1.ConditionAccepted}, none: []string{v1alpha1.ConditionProgressing}},
	"padis.io/ImagePrepull":                        {all: []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionPresent}},
	"padis.io/GitSource":                           {all: []string{v1alpha1.ConditionReady}},
	"padis.io/Sync":                                {all: []string{v1alpha1.ConditionReady}, optional: []string{v1alpha1.ConditionHealthy}},
	"/ConfigMap":                                   {whole: true},
	"/Secret":                                      {whole: true},
	"padis.io/AppRevision":                         {whole: true},
	"/ServiceAccount":                              {whole: true},
	"rbac.authorization.k8s.io/Role":               {whole: true},
	"rbac.authorization.k8s.io/RoleBinding":        {whole: true},
	"rbac.authorization.k8s.io/ClusterRole":        {whole: true},
	"rbac.authorization.k8s.io/ClusterRoleBinding": {whole: true},
}

// HealthOf says how an object fares, by its conditions; nil is an object that is not there. Objects of kinds that it does
// not know fare as their condition Ready says.
func HealthOf(u *unstructured.Unstructured) Verdict {
	if u == nil {
		return Verdict{Progressing, ReasonAbsent, "is not there"}
	}
	id := IDOf(u)
	if u.GetDeletionTimestamp() != nil {
		return Verdict{Progressing, ReasonDeleting, deletingMessage(u)}
	}
	if id.Group == "" && id.Kind == "Namespace" {
		return namespace(u)
	}
	r, known := rules[id.Group+"/"+id.Kind]
	if r.whole {
		return Verdict{Healthy, ReasonPresent, ""}
	}
	status, _ := u.Object["status"].(map[string]any)
	cs := conditionsOf(status)
	if !known {
		if _, has := cs[v1alpha1.ConditionReady]; !has {
			return Verdict{Unknown, ReasonNoStatus, "its kind has no condition " + v1alpha1.ConditionReady + " that would tell"}
		}
		r = rule{all: []string{v1alpha1.ConditionReady}}
	}
	if seen, said := status["observedGeneration"]; u.GetGeneration() > 0 && (known || said) && !equal(seen, u.GetGeneration()) {
		return Verdict{Progressing, ReasonNotSeen, "the declaration has not been looked at yet"}
	}
	v := r.judge(cs)
	v.Message = conceal.Text(v.Message, conceal.Texts(u.Object))
	return v
}

func deletingMessage(u *unstructured.Unstructured) string {
	if f := u.GetFinalizers(); len(f) > 0 {
		return "is being deleted and waits for " + strings.Join(f, ", ")
	}
	return "is being deleted"
}

func namespace(u *unstructured.Unstructured) Verdict {
	if phase, _, _ := unstructured.NestedString(u.Object, "status", "phase"); phase != "Active" {
		return Verdict{Progressing, ReasonNotSeen, "the namespace is not active yet"}
	}
	return Verdict{Healthy, ReasonPresent, ""}
}

func (r rule) judge(cs map[string]metav1.Condition) Verdict {
	if c, has := cs[v1alpha1.ConditionAccepted]; has && c.Status == metav1.ConditionFalse {
		return Verdict{Failed, c.Reason, c.Message}
	}
	if c, has := cs[v1alpha1.ConditionStalled]; has && c.Status == metav1.ConditionTrue {
		return Verdict{Failed, c.Reason, c.Message}
	}
	for _, kind := range r.all {
		c, has := cs[kind]
		switch {
		case !has:
			return Verdict{Progressing, ReasonNotSeen, "the condition " + kind + " has not been set yet"}
		case c.Status != metav1.ConditionTrue:
			return Verdict{Progressing, c.Reason, c.Message}
		}
	}
	for _, kind := range r.none {
		c, has := cs[kind]
		switch {
		case !has:
		case c.Status == metav1.ConditionTrue, c.Reason == padisv1.ReasonPaused:
			return Verdict{Progressing, c.Reason, c.Message}
		case c.Reason == padisv1.ReasonInvalid:
			// An upgrade to an executor that nobody offers.
			return Verdict{Failed, c.Reason, c.Message}
		}
	}
	for _, kind := range r.optional {
		if c, has := cs[kind]; has && c.Status == metav1.ConditionFalse {
			return Verdict{Progressing, c.Reason, c.Message}
		}
	}
	if len(r.all) > 0 {
		return Verdict{Healthy, cs[r.all[0]].Reason, cs[r.all[0]].Message}
	}
	return Verdict{Healthy, ReasonPresent, ""}
}

func conditionsOf(status map[string]any) map[string]metav1.Condition {
	list, _ := status["conditions"].([]any)
	out := map[string]metav1.Condition{}
	for _, c := range list {
		m, _ := c.(map[string]any)
		get := func(k string) string { s, _ := m[k].(string); return s }
		if kind := get("type"); kind != "" {
			out[kind] = metav1.Condition{Type: kind, Status: metav1.ConditionStatus(get("status")), Reason: get("reason"), Message: get("message")}
		}
	}
	return out
}
